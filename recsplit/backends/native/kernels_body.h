// The kernels' body. Who includes it defines KERNELS, the name of its table, and LANES, how many floats its vectors hold.
//
// Rows are added in the order of the ids, in blocks, and nothing is fused (-ffp-contract=off), so that every instruction set gives the same
// bits.

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "kernels.h"
#include "kernels_numbers.h"

namespace recsplit {
namespace {

// Inlined always: what a bag's rows are must stay in registers.
#define INLINED inline __attribute__((always_inline))

constexpr size_t kLine = 64;
// A row is asked for from memory so many bytes of rows, and so many rows, before it is read: enough to wait for none, few enough to be
// in the first cache still.
constexpr size_t kBytesAhead = 16384, kMostAhead = 64, kLeastAhead = 4;

// Rows that are added one after the other. What so many give is added up again, so that the rounding of a long bag grows with the number
// of blocks and not of rows; ONNX Runtime adds in blocks too.
constexpr uint32_t kBlock = 64;

INLINED size_t rows_ahead(size_t row_bytes) { return std::clamp(kBytesAhead / std::max<size_t>(row_bytes, 1), kLeastAhead, kMostAhead); }

INLINED void ask(const char* row, size_t row_bytes) {
#pragma GCC unroll 16
  for (size_t line = 0; line < row_bytes; line += kLine) __builtin_prefetch(row + line, 0, 3);
  if (row_bytes % kLine != 0) __builtin_prefetch(row + row_bytes - 1, 0, 3);
}

// Which rows are asked for while one is read: none, those of as many bytes as are read at once, those of any number of bytes.
enum class Asks { none, whole, any };

// The rows of one bag by their addresses, of which some may be none.
struct Listed {
  static constexpr bool kSomeNone = true;
  const char* const* rows;
  const char* const* last;
  ptrdiff_t further;  // so many addresses

  const char* at(uint32_t k) const { return rows[k]; }
  // Asks for the row that is so much further, in this bag or a later one.
  INLINED void ahead(uint32_t k, size_t row_bytes) const {
    const char* const* row = rows + k;
    if (last - row > further && row[further] != nullptr) ask(row[further], row_bytes);
  }
  Listed from(uint32_t k) const { return {rows + k, last, further}; }
  uint32_t counted(uint32_t length) const {
    uint32_t count = 0;
    for (uint32_t k = 0; k < length; ++k) count += rows[k] != nullptr;
    return count;
  }
};

// The ids of a job one after the other, row after row of its request; the last one again and again at the end.
template <typename Id>
struct Sequence {
  const Id* at;
  const Id* row_end;  // nullptr where there is no gap between rows
  const Id* last;
  size_t width, stride;

  INLINED Id next() {
    const Id id = *at;
    at += at != last;
    if (at == row_end) {
      at += stride - width;
      row_end += stride;
    }
    return id;
  }
};

// The rows of one bag by their ids, none of which is outside or padding.
template <typename Id>
struct Direct {
  static constexpr bool kSomeNone = false;
  const Id* ids;
  const char* base;
  size_t bytes;
  Sequence<Id>* later;  // the ids whose rows are asked for next

  INLINED const char* row(Id id) const { return base + static_cast<ptrdiff_t>(id) * static_cast<ptrdiff_t>(bytes); }
  INLINED const char* at(uint32_t k) const { return row(ids[k]); }
  INLINED void ahead(uint32_t, size_t row_bytes) const { ask(row(later->next()), row_bytes); }
  INLINED Direct from(uint32_t k) const { return {ids + k, base, bytes, later}; }
  uint32_t counted(uint32_t length) const { return length; }
};

// Elements [at, at + COUNT * lanes) of some of one bag's rows, added to `sums` or compared with them.
template <typename Row, bool MAX, bool WEIGHTED, int COUNT, Asks ASKS, typename Rows>
INLINED void some(const Rows rows, uint32_t length, const float* weights, uint32_t at, size_t row_bytes, bool& first, typename Row::Vector* sums) {
  using Vector = typename Row::Vector;
  constexpr size_t kWhole = Row::bytes(COUNT * Row::lanes);
  for (uint32_t k = 0; k < length; ++k) {
    if (ASKS != Asks::none) rows.ahead(k, ASKS == Asks::whole ? kWhole : row_bytes);
    const char* address = rows.at(k);
    if (Rows::kSomeNone && address == nullptr) continue;
    const Row row(address);
#pragma GCC unroll 16
    for (int c = 0; c < COUNT; ++c) {
      const Vector vector = row.load(at + c * Row::lanes);
      if (MAX) {
        sums[c] = first ? vector : (vector > sums[c] ? vector : sums[c]);
      } else if (WEIGHTED) {
        sums[c] += vector * static_cast<typename Row::Sum>(weights[k]);
      } else {
        sums[c] += vector;
      }
    }
    first = false;
  }
}

// Elements [at, at + COUNT * lanes) of one bag's rows: the sum, times their weights where there are any, or the maximum.
template <typename Row, typename T, bool MAX, bool WEIGHTED, int COUNT, Asks ASKS, typename Rows>
INLINED void part(const Rows rows, uint32_t length, const float* weights, uint32_t at, size_t row_bytes, typename Row::Sum count, typename T::Element* out) {
  using Vector = typename Row::Vector;
  Vector sums[COUNT] = {};
  bool first = true;
  if (MAX || length <= kBlock) {
    some<Row, MAX, WEIGHTED, COUNT, ASKS>(rows, length, weights, at, row_bytes, first, sums);
  } else {
    for (uint32_t start = 0; start < length; start += kBlock) {
      Vector block[COUNT] = {};
      const uint32_t rest = length - start;
      some<Row, MAX, WEIGHTED, COUNT, ASKS>(rows.from(start), rest < kBlock ? rest : kBlock, WEIGHTED ? weights + start : nullptr, at, row_bytes, first, block);
      for (int c = 0; c < COUNT; ++c) sums[c] += block[c];
    }
  }
#pragma GCC unroll 16
  for (int c = 0; c < COUNT; ++c) {
    T::store(out + at + c * T::lanes, count == 0 ? sums[c] : sums[c] / count);
  }
}

// The elements that don't fill a vector.
template <typename Row, typename T, bool MAX, bool WEIGHTED, typename Rows>
INLINED void rest(const Rows rows, uint32_t length, const float* weights, uint32_t at, uint32_t dim, typename Row::Sum count, typename T::Element* out) {
  for (uint32_t i = at; i < dim; ++i) {
    typename Row::Sum sum = 0, block = 0;
    bool first = true;
    for (uint32_t k = 0; k < length; ++k) {
      const char* row = rows.at(k);
      if (row != nullptr) {
        const typename Row::Sum number = Row(row).one(i);
        if (MAX) {
          block = first || number > block ? number : block;
        } else if (WEIGHTED) {
          block += number * static_cast<typename Row::Sum>(weights[k]);
        } else {
          block += number;
        }
        first = false;
      }
      if (!MAX && k % kBlock == kBlock - 1) {
        sum += block;
        block = 0;
      }
    }
    sum = MAX || length <= kBlock - 1 ? block : sum + block;
    T::store(out + i, count == 0 ? sum : sum / count);
  }
}

// The elements from `at` on, COUNT vectors of them at a time; the first ones ask for later rows.
template <typename Row, typename T, bool MAX, bool WEIGHTED, int COUNT, typename Rows>
INLINED void parts(const Rows rows, uint32_t length, const float* weights, uint32_t& at, uint32_t dim, typename Row::Sum count, typename T::Element* out) {
  constexpr uint32_t kStep = COUNT * Row::lanes;
  const size_t bytes = Row::bytes(dim);
  if (at == 0 && dim >= kStep) {
    part<Row, T, MAX, WEIGHTED, COUNT, Asks::any>(rows, length, weights, 0, bytes, count, out);
    at = kStep;
  }
  for (; at + kStep <= dim; at += kStep) part<Row, T, MAX, WEIGHTED, COUNT, Asks::none>(rows, length, weights, at, bytes, count, out);
}

// One bag. VECTORS: so many hold a row exactly, which is usual and quickest; 0: a row of any width.
template <typename Row, typename T, bool MAX, bool WEIGHTED, int VECTORS, typename Rows>
INLINED void bag(const Rows rows, uint32_t length, const float* weights, uint32_t dim, bool mean, typename T::Element* out) {
  const typename Row::Sum count = mean ? static_cast<typename Row::Sum>(rows.counted(length)) : 0;
  if constexpr (VECTORS > 8) {  // more sums than there are registers
    uint32_t at = 0;
    parts<Row, T, MAX, WEIGHTED, 8>(rows, length, weights, at, VECTORS * Row::lanes, count, out);
  } else if constexpr (VECTORS != 0) {
    part<Row, T, MAX, WEIGHTED, VECTORS, Asks::whole>(rows, length, weights, 0, 0, count, out);
  } else {
    uint32_t at = 0;
    parts<Row, T, MAX, WEIGHTED, 8>(rows, length, weights, at, dim, count, out);
    parts<Row, T, MAX, WEIGHTED, 4>(rows, length, weights, at, dim, count, out);
    parts<Row, T, MAX, WEIGHTED, 2>(rows, length, weights, at, dim, count, out);
    parts<Row, T, MAX, WEIGHTED, 1>(rows, length, weights, at, dim, count, out);
    if (at < dim) rest<Row, T, MAX, WEIGHTED>(rows, length, weights, at, dim, count, out);
  }
}

template <typename Row, typename T, bool MAX, bool WEIGHTED, int VECTORS>
void listed(const PoolJob& job, bool mean) {
  const char* const* rows = job.rows;
  const float* weights = job.weights;
  const uint32_t* lengths = job.lengths;
  const auto further = static_cast<ptrdiff_t>(rows_ahead(Row::bytes(job.dim)));
  for (size_t row = 0; row < job.batch; ++row) {
    auto* out = reinterpret_cast<typename T::Element*>(job.out + row * job.out_stride);
    for (uint32_t number = 0; number < job.bags; ++number, out += job.dim) {
      const uint32_t length = lengths == nullptr ? job.length : *lengths++;
      bag<Row, T, MAX, WEIGHTED, VECTORS>(Listed{rows, job.last, further}, length, weights, job.dim, mean, out);
      rows += length;
      if (WEIGHTED) weights += length;
    }
  }
}

// The ids of a job, of whose first ones the rows are asked for.
template <typename Id>
Sequence<Id> begun(const PoolJob& job, size_t row_bytes) {
  const Id* ids = static_cast<const Id*>(job.ids);
  const size_t width = static_cast<size_t>(job.length) * job.bags;
  Sequence<Id> sequence{ids, job.ids_stride == width ? nullptr : ids + width, ids + (job.batch - 1) * job.ids_stride + width - 1, width, job.ids_stride};
  const Direct<Id> rows{ids, job.base, row_bytes, &sequence};
  for (size_t number = std::min(rows_ahead(row_bytes), job.batch * width); number > 0; --number) rows.ahead(0, row_bytes);
  return sequence;
}

template <typename Row, typename T, bool MAX, bool WEIGHTED, int VECTORS, typename Id>
void direct(const PoolJob& job, bool mean) {
  const size_t bytes = Row::bytes(job.dim);
  const float* weights = job.weights;
  Sequence<Id> later = begun<Id>(job, bytes);
  for (size_t row = 0; row < job.batch; ++row) {
    auto* out = reinterpret_cast<typename T::Element*>(job.out + row * job.out_stride);
    const Id* ids = static_cast<const Id*>(job.ids) + row * job.ids_stride;
    for (uint32_t number = 0; number < job.bags; ++number, out += job.dim, ids += job.length) {
      bag<Row, T, MAX, WEIGHTED, VECTORS>(Direct<Id>{ids, job.base, bytes, &later}, job.length, weights, job.dim, mean, out);
      if (WEIGHTED) weights += job.length;
    }
  }
}

template <typename Row, typename T, bool MAX, bool WEIGHTED, int VECTORS>
void either_way(const PoolJob& job, bool mean) {
  if (job.ids == nullptr) {
    listed<Row, T, MAX, WEIGHTED, VECTORS>(job, mean);
  } else if (job.narrow) {
    direct<Row, T, MAX, WEIGHTED, VECTORS, int32_t>(job, mean);
  } else {
    direct<Row, T, MAX, WEIGHTED, VECTORS, int64_t>(job, mean);
  }
}

template <typename Row, typename T, bool MAX, bool WEIGHTED>
void of_any_width(const PoolJob& job, bool mean) {
  // Maxima, FP64 and weights of other rows than FP32's are rare: no code of their own for each width.
  constexpr bool kRare = MAX || sizeof(typename Row::Sum) == 8 || (WEIGHTED && !std::is_same_v<Row, Whole<F32>>);
  if constexpr (kRare) return either_way<Row, T, MAX, WEIGHTED, 0>(job, mean);
  switch (job.dim % Row::lanes == 0 ? job.dim / Row::lanes : 0) {
    case 1: return either_way<Row, T, MAX, WEIGHTED, 1>(job, mean);
    case 2: return either_way<Row, T, MAX, WEIGHTED, 2>(job, mean);
    case 4: return either_way<Row, T, MAX, WEIGHTED, 4>(job, mean);
    case 8: return either_way<Row, T, MAX, WEIGHTED, 8>(job, mean);
#if LANES == 8
    case 16: return either_way<Row, T, MAX, WEIGHTED, 16>(job, mean);
#endif
    default: return either_way<Row, T, MAX, WEIGHTED, 0>(job, mean);
  }
}

// Rows of one kind, and vectors of numbers T.
template <typename Row, typename T>
void pooled(const PoolJob& job, Pooling pooling) {
  if (pooling == Pooling::none) {
    PoolJob single = job;  // each row is a bag of its own: it isn't stored as its vector is
    single.bags = job.length, single.length = 1, single.weights = nullptr;
    of_any_width<Row, T, false, false>(single, false);
  } else if (pooling == Pooling::max) {
    of_any_width<Row, T, true, false>(job, false);
  } else if (job.weights != nullptr) {
    of_any_width<Row, T, false, true>(job, false);
  } else {
    of_any_width<Row, T, false, false>(job, pooling == Pooling::mean);
  }
}

// A row as it is: whole lines one after the other, which are most of most rows.
INLINED void copy(char* out, const char* row, size_t row_bytes) {
  size_t at = 0;
  for (; at + kLine <= row_bytes; at += kLine) std::memcpy(out + at, row + at, kLine);
  if (at < row_bytes) std::memcpy(out + at, row + at, row_bytes - at);
}

// Rows as they are, zeros for those that are none.
void copied(const PoolJob& job, size_t row_bytes) {
  const char* const* rows = job.rows;
  const auto further = static_cast<ptrdiff_t>(rows_ahead(row_bytes));
  for (size_t row = 0; row < job.batch; ++row) {
    char* out = job.out + row * job.out_stride;
    for (uint32_t k = 0; k < job.length; ++k, ++rows, out += row_bytes) {
      Listed{rows, job.last, further}.ahead(0, row_bytes);
      if (*rows == nullptr) {
        std::memset(out, 0, row_bytes);
      } else {
        copy(out, *rows, row_bytes);
      }
    }
  }
}

template <typename Id>
void copied_directly(const PoolJob& job, size_t row_bytes) {
  Sequence<Id> later = begun<Id>(job, row_bytes);
  for (size_t row = 0; row < job.batch; ++row) {
    char* out = job.out + row * job.out_stride;
    const Direct<Id> rows{static_cast<const Id*>(job.ids) + row * job.ids_stride, job.base, row_bytes, &later};
    for (uint32_t k = 0; k < job.length; ++k, out += row_bytes) {
      rows.ahead(k, row_bytes);
      copy(out, rows.at(k), row_bytes);
    }
  }
}

void copied_either_way(const PoolJob& job, size_t row_bytes) {
  if (job.ids == nullptr) {
    copied(job, row_bytes);
  } else if (job.narrow) {
    copied_directly<int32_t>(job, row_bytes);
  } else {
    copied_directly<int64_t>(job, row_bytes);
  }
}

// FP32 vectors rounded to another type.
template <typename T>
void rounded(const PoolJob& job, const float* vectors, size_t width) {
  for (size_t row = 0; row < job.batch; ++row) {
    auto* out = reinterpret_cast<typename T::Element*>(job.out + row * job.out_stride);
    for (size_t i = 0; i < width; ++i) T::store(out + i, *vectors++);
  }
}

// Rows whose numbers are read as FP32, and vectors of FP32 or, which is rare, of half precision.
template <typename Row>
void pooled_as(const PoolJob& job, DType vectors, Pooling pooling) {
  if (vectors == DType::f32) return pooled<Row, F32>(job, pooling);
  const size_t width = static_cast<size_t>(pooling == Pooling::none ? job.length : job.bags) * job.dim;
  std::vector<float> sums(job.batch * width);
  PoolJob in_single = job;
  in_single.out = reinterpret_cast<char*>(sums.data());
  in_single.out_stride = width * sizeof(float);
  pooled<Row, F32>(in_single, pooling);
  vectors == DType::f16 ? rounded<F16>(job, sums.data(), width) : rounded<BF16>(job, sums.data(), width);
}

void pool(const PoolJob& job, const RowFormat& rows, DType vectors, Pooling pooling) {
  if (rows.bits == 8) {
    pooled_as<Scaled8>(job, vectors, pooling);
  } else if (rows.bits == 4) {
    pooled_as<Scaled4>(job, vectors, pooling);
  } else if (pooling == Pooling::none && rows.dtype == vectors) {
    copied_either_way(job, rows.bytes(job.dim));
  } else if (rows.dtype == DType::f32) {
    pooled<Whole<F32>, F32>(job, pooling);
  } else if (rows.dtype == DType::f16) {
    vectors == DType::f16 ? pooled<Whole<F16>, F16>(job, pooling) : pooled<Whole<F16>, F32>(job, pooling);
  } else if (rows.dtype == DType::bf16) {
    vectors == DType::bf16 ? pooled<Whole<BF16>, BF16>(job, pooling) : pooled<Whole<BF16>, F32>(job, pooling);
  } else if (rows.dtype == DType::f64) {
    pooled<Whole<F64>, F64>(job, pooling);
  }
}

template <typename Id>
bool all_inside(const IdRows& of, int64_t low, uint64_t count) {
  // Rows without a gap are one long row.
  const bool whole = of.stride == of.width;
  const size_t rows = whole ? 1 : of.rows, width = whole ? of.width * of.rows : of.width;
  uint64_t outside = 0;
  for (size_t row = 0; row < rows; ++row) {
    const Id* ids = static_cast<const Id*>(of.ids) + row * of.stride;
    for (size_t k = 0; k < width; ++k) outside |= static_cast<uint64_t>(static_cast<uint64_t>(static_cast<int64_t>(ids[k])) - static_cast<uint64_t>(low) >= count);
  }
  return outside == 0;
}

bool inside(const IdRows& ids, int64_t low, uint64_t count) { return ids.narrow ? all_inside<int32_t>(ids, low, count) : all_inside<int64_t>(ids, low, count); }

// A block is asked for from memory so many rows before it is read.
constexpr size_t kRanksAhead = 16;

void places(const RankMap& map, const uint32_t* rows, size_t count, int32_t* out) {
  uint32_t position[kRowsTogether], piece[kRowsTogether];
  std::copy_n(rows, count, position);
  std::fill_n(piece, count, 0U);
  for (int level = 0; level < map.count; ++level) {
    const auto [blocks, zeros] = map.levels[level];
    const auto block_of = [&](size_t k) { return blocks + position[k] / kRankBlock * kRankBlockBytes; };
    for (size_t k = 0; k < std::min(kRanksAhead, count); ++k) __builtin_prefetch(block_of(k));
    for (size_t k = 0; k < count; ++k) {
      if (k + kRanksAhead < count) __builtin_prefetch(block_of(k + kRanksAhead));
      uint64_t bits;
      uint32_t before;
      std::memcpy(&bits, block_of(k), sizeof bits);
      std::memcpy(&before, block_of(k) + sizeof bits, sizeof before);
      const uint32_t at = position[k] % kRankBlock;
      const auto is_set = static_cast<uint32_t>(bits >> at & 1);
      const uint32_t rank = before + static_cast<uint32_t>(__builtin_popcountll(bits & ((uint64_t{1} << at) - 1)));
      position[k] = is_set != 0 ? zeros + rank : position[k] - rank;
      piece[k] = 2 * piece[k] + is_set;
    }
  }
  for (size_t k = 0; k < count; ++k) out[k] = static_cast<int32_t>(position[k]) + map.shifts[piece[k]];
}

}  // namespace

const Kernels KERNELS = {KERNELS_NAME, inside, places, pool};

}  // namespace recsplit
