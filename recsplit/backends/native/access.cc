#include "access.h"

#include <algorithm>

namespace recsplit {

namespace {

// Of all samples of a model together, and of one.
constexpr size_t kMostBytes = 64 << 20, kMostRows = 1 << 20, kLeastRows = 1 << 12;

}  // namespace

void TableAccess::count(uint64_t some_ids, uint64_t none, uint64_t bad) {
  ids.fetch_add(some_ids, std::memory_order_relaxed);
  read.fetch_add(some_ids - none, std::memory_order_relaxed);
  if (bad != 0) unknown.fetch_add(bad, std::memory_order_relaxed);
}

void TableAccess::sample(const std::vector<uint32_t>& some, Random& random) {
  if (rows > UINT32_MAX) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (sampled_.capacity() == 0) sampled_.reserve(std::min<size_t>(room_, kLeastRows));
  for (const uint32_t row : some) {
    if (level_ > 0 && (random.next() >> 20 & ((uint64_t{1} << level_) - 1)) != 0) continue;
    if (sampled_.size() == room_) {
      ++level_;
      sampled_.erase(std::remove_if(sampled_.begin(), sampled_.end(), [&](uint32_t) { return (random.next() >> 20 & 1) != 0; }), sampled_.end());
      if ((random.next() >> 20 & 1) != 0) continue;
    }
    sampled_.push_back(row);
  }
}

TableAccess::Sample TableAccess::taken(bool clear) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t ids_now = ids, read_now = read, unknown_now = unknown;
  Sample result{ids_now - ids_before_, read_now - read_before_, unknown_now - unknown_before_, level_, sampled_};
  if (clear) {
    ids_before_ = ids_now, read_before_ = read_now, unknown_before_ = unknown_now;
    sampled_.clear();
    level_ = 0;
  }
  return result;
}

uint64_t Access::rows_since(bool clear) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t now = rows, since = now - rows_before_;
  if (clear) rows_before_ = now;
  return since;
}

void Access::begin_anew() {
  for (const auto& table : tables_) table->taken(true);
  rows_since(true);
}

Access::Access(const Recipe& recipe) {
  const auto name_of = [](const Lookup& lookup) { return lookup.name.empty() ? "table " + std::to_string(lookup.table) : lookup.name; };
  std::vector<std::string> names;
  for (const Lookup& lookup : recipe.lookups) {
    const std::string name = name_of(lookup);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  const size_t room = std::clamp(kMostBytes / sizeof(uint32_t) / std::max<size_t>(names.size(), 1), kLeastRows, kMostRows);
  tables_.resize(names.size());
  for (const Lookup& lookup : recipe.lookups) {
    const std::string name = name_of(lookup);
    const auto place = static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
    if (tables_[place] == nullptr) tables_[place] = std::make_unique<TableAccess>(name, lookup.rows, lookup.table < 0 ? 0 : recipe.tables[static_cast<size_t>(lookup.table)].row_bytes(), room);
    of_lookup_.push_back(place);
  }
}

}  // namespace recsplit
