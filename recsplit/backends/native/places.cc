#include "places.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "tables.h"

namespace recsplit {

namespace {

constexpr size_t kMostPieces = size_t{1} << kMostRankLevels;

// Rows whose places count up, one by one.
struct Piece {
  int32_t first;
  int64_t next;
};

struct Pieces {
  std::vector<Piece> all;
  std::vector<uint8_t> of_row;
};

// False: the place begins a piece, and there are as many as there may be.
bool put(Pieces& pieces, int32_t place, size_t& last) {
  const auto goes_on = [&](size_t number) { return pieces.all[number].next == place; };
  if (pieces.all.empty() || !goes_on(last)) {
    for (last = 0; last < pieces.all.size() && !goes_on(last);) ++last;
    if (last == kMostPieces || place < 0) return false;
    if (last == pieces.all.size()) pieces.all.push_back({place, place});
  }
  ++pieces.all[last].next;
  pieces.of_row.push_back(static_cast<uint8_t>(last));
  return true;
}

// One bit of each row's piece, with how many are set before each 64 of them; the rows of which it isn't set go before the others.
std::vector<char> level_of(std::vector<uint8_t>& piece_of, int bit, uint32_t& zeros) {
  std::vector<char> blocks((piece_of.size() / kRankBlock + 1) * kRankBlockBytes);
  std::vector<uint8_t> set;
  size_t kept = 0;
  for (size_t first = 0; first <= piece_of.size(); first += kRankBlock) {
    uint64_t bits = 0;
    const auto before = static_cast<uint32_t>(set.size());
    for (size_t row = first; row < std::min(first + kRankBlock, piece_of.size()); ++row) {
      const uint8_t piece = piece_of[row];
      if ((piece >> bit & 1) == 0) {
        piece_of[kept++] = piece;
        continue;
      }
      bits |= uint64_t{1} << (row - first);
      set.push_back(piece);
    }
    char* block = blocks.data() + first / kRankBlock * kRankBlockBytes;
    std::memcpy(block, &bits, sizeof bits);
    std::memcpy(block + sizeof bits, &before, sizeof before);
  }
  std::copy(set.begin(), set.end(), piece_of.begin() + static_cast<ptrdiff_t>(kept));
  zeros = static_cast<uint32_t>(kept);
  return blocks;
}

}  // namespace

bool PlaceMaps::add(size_t number, const char* places, uint64_t rows) {
  Pieces pieces;
  size_t last = 0;
  for (uint64_t row = 0; row < rows; ++row) {
    int32_t place;
    std::memcpy(&place, places + row * sizeof place, sizeof place);
    if (!put(pieces, place, last)) return false;
  }
  Entry& entry = entries_[number];
  while (pieces.all.size() > size_t{1} << entry.levels.size()) entry.levels.emplace_back();
  entry.map.count = static_cast<int>(entry.levels.size());
  for (int level = 0; level < entry.map.count; ++level) {
    entry.levels[static_cast<size_t>(level)] = level_of(pieces.of_row, entry.map.count - 1 - level, entry.map.levels[level].zeros);
  }
  // The rows of a piece lie side by side now.
  for (size_t row = pieces.of_row.size(); row-- > 0;) {
    const uint8_t piece = pieces.of_row[row];
    entry.map.shifts[piece] = pieces.all[piece].first - static_cast<int32_t>(row);
  }
  rows_ += rows;
  return true;
}

void PlaceMaps::pack() {
  for (const auto& [number, entry] : entries_) {
    for (const std::vector<char>& level : entry.levels) bytes_ += level.size();
  }
  if (bytes_ == 0) return;
  const uint64_t size = (bytes_ + kHugePage - 1) / kHugePage * kHugePage;
  memory_.reset(static_cast<char*>(std::aligned_alloc(kHugePage, size)));
  if (memory_ == nullptr) throw std::bad_alloc();
  madvise(memory_.get(), size, MADV_HUGEPAGE);
  char* to = memory_.get();
  for (auto& [number, entry] : entries_) {
    for (size_t level = 0; level < entry.levels.size(); ++level) {
      std::vector<char>& from = entry.levels[level];
      std::memcpy(to, from.data(), from.size());
      entry.map.levels[level].blocks = to;
      to += from.size();
    }
    entry.levels.clear();
  }
}

const RankMap* PlaceMaps::at(size_t number) const {
  const auto entry = entries_.find(number);
  return entry == entries_.end() ? nullptr : &entry->second.map;
}

std::string PlaceMaps::loaded() const { return rows_ == 0 ? "" : ", places of " + std::to_string(rows_) + " rows in " + std::to_string(bytes_) + " bytes"; }

}  // namespace recsplit
