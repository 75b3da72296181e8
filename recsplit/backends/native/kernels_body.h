// The kernels' body. Who includes it defines KERNELS, the name of its table, and LANES, how many floats its vectors hold.
//
// Vectors of GCC's and Clang's extension, no intrinsics: docs/native.md has both measured. Rows are added in the order of the ids, in
// blocks, and nothing is fused (-ffp-contract=off), so that every instruction set gives the same bits.

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include <cstring>

#include "kernels.h"

#ifndef RECSPLIT_AHEAD
#define RECSPLIT_AHEAD 16
#endif

namespace recsplit {
namespace {

constexpr int kLanes = LANES;  // floats, half as many doubles
constexpr size_t kLine = 64;
// So many addresses ahead a row is asked for from memory.
constexpr ptrdiff_t kAhead = RECSPLIT_AHEAD;

using Floats = float __attribute__((vector_size(kLanes * 4)));
using Words = uint32_t __attribute__((vector_size(kLanes * 4)));
using Halves = uint16_t __attribute__((vector_size(kLanes * 2)));
using Doubles = double __attribute__((vector_size(kLanes * 4)));

struct F32 {
  static constexpr int lanes = kLanes;
  using Element = float;
  using Sum = float;
  using Vector = Floats;
  static Floats load(const float* from) {
    Floats vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
  }
  static float one(float element) { return element; }
  static void store(float* to, float sum) { *to = sum; }
  static void store(float* to, Floats sums) { std::memcpy(to, &sums, sizeof sums); }
};

struct F64 {
  static constexpr int lanes = kLanes / 2;
  using Element = double;
  using Sum = double;
  using Vector = Doubles;
  static Doubles load(const double* from) {
    Doubles vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
  }
  static double one(double element) { return element; }
  static void store(double* to, double sum) { *to = sum; }
  static void store(double* to, Doubles sums) { std::memcpy(to, &sums, sizeof sums); }
};

struct BF16 {
  static constexpr int lanes = kLanes;
  using Element = uint16_t;
  using Sum = float;
  using Vector = Floats;
  static Floats load(const uint16_t* from) {
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    return (Floats)(__builtin_convertvector(halves, Words) << 16);
  }
  static float one(uint16_t element) {
    const uint32_t bits = static_cast<uint32_t>(element) << 16;
    float number;
    std::memcpy(&number, &bits, sizeof number);
    return number;
  }
  static void store(uint16_t* to, float sum) {
    uint32_t bits;
    std::memcpy(&bits, &sum, sizeof bits);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
      *to = static_cast<uint16_t>((bits >> 16) | 0x40);  // NaN stays one
    } else {
      *to = static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }
  }
  static void store(uint16_t* to, Floats sums) {
    const Words bits = (Words)sums;
    const Words rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    const Words is_nan = (Words)((bits & 0x7FFFFFFF) > 0x7F800000);
    const Halves halves = __builtin_convertvector((is_nan & ((bits >> 16) | 0x40)) | (~is_nan & rounded), Halves);
    std::memcpy(to, &halves, sizeof halves);
  }
};

struct F16 {
  static constexpr int lanes = kLanes;
  using Element = uint16_t;
  using Sum = float;
  using Vector = Floats;
  // The exponent is moved by a product, which is exact and right for subnormals too; infinity and NaN get theirs set.
  static Floats load(const uint16_t* from) {
#if defined(__AVX512F__)
    return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__F16C__)
    return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#endif
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    const Words words = __builtin_convertvector(halves, Words);
    const Words magnitude = (words & 0x7FFF) << 13;
    Words bits = (Words)((Floats)magnitude * 0x1p112f);
    bits |= (Words)(magnitude >= 0x0F800000) & 0x7F800000;
    return (Floats)(bits | ((words & 0x8000) << 16));
  }
  static float one(uint16_t element) { return from_half(element); }
  static void store(uint16_t* to, float sum) { *to = to_half(sum); }
  // As to_half, without its branches.
  static void store(uint16_t* to, Floats sums) {
    const Words bits = (Words)sums, magnitude = bits & 0x7FFFFFFF;
    const Words normal = (magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
    const Words subnormal = (Words)((Floats)magnitude + 0.5f) - 0x3F000000;
    const Words is_normal = (Words)(magnitude >= 0x38800000), is_large = (Words)(magnitude >= 0x477FF000), is_nan = (Words)(magnitude > 0x7F800000);
    Words half = (is_normal & normal) | (~is_normal & subnormal);
    half = (is_large & 0x7C00) | (~is_large & half);
    half = (is_nan & 0x7E00) | (~is_nan & half);
    const Halves halves = __builtin_convertvector(half | ((bits >> 16) & 0x8000), Halves);
    std::memcpy(to, &halves, sizeof halves);
  }
};

// Rows that are added one after the other. What so many give is added up again, so that the rounding of a long bag grows with the number
// of blocks and not of rows; ONNX Runtime adds in blocks too.
constexpr uint32_t kBlock = 64;

inline void ask(const char* row, size_t row_bytes) {
  for (size_t line = 0; line < row_bytes; line += kLine) __builtin_prefetch(row + line, 0, 3);
}

// The rows of one bag by their addresses, of which some may be none.
struct Listed {
  const char* const* rows;
  const char* const* last;

  const char* at(uint32_t k) const { return rows[k]; }
  // Asks for the row that is kAhead addresses further, in this bag or a later one.
  void ahead(uint32_t k, size_t row_bytes) const {
    const char* const* row = rows + k;
    if (last - row > kAhead && row[kAhead] != nullptr) ask(row[kAhead], row_bytes);
  }
  Listed from(uint32_t k) const { return {rows + k, last}; }
};

// The rows of one bag by their ids, none of which is outside or padding. `left`: how many more rows the request has; `place`: of the bag's
// first id in its row, which has `width`.
template <typename Id>
struct Direct {
  const Id* ids;
  const char* base;
  size_t bytes, stride, left;
  uint32_t place, width;
  uint32_t rows_ahead, places_ahead;  // kAhead ids further are so many rows and places further, or a row more

  const char* at(uint32_t k) const { return base + static_cast<ptrdiff_t>(ids[k]) * static_cast<ptrdiff_t>(bytes); }
  void ahead(uint32_t k, size_t row_bytes) const {
    uint32_t further = place + k + places_ahead, rows = rows_ahead;
    if (further >= width) {
      further -= width;
      ++rows;
    }
    if (rows > left) return;
    const Id id = ids[static_cast<ptrdiff_t>(rows * stride + further) - static_cast<ptrdiff_t>(place)];
    ask(base + static_cast<ptrdiff_t>(id) * static_cast<ptrdiff_t>(bytes), row_bytes);
  }
  Direct from(uint32_t k) const { return {ids + k, base, bytes, stride, left, place + k, width, rows_ahead, places_ahead}; }
};

// Elements [at, at + COUNT * lanes) of some of one bag's rows, added to `sums` or compared with them.
template <typename T, bool MAX, bool WEIGHTED, int COUNT, typename Rows>
inline void some(const Rows rows, uint32_t length, const float* weights, uint32_t at, size_t row_bytes, bool& first, typename T::Vector* sums) {
  using Vector = typename T::Vector;
  for (uint32_t k = 0; k < length; ++k) {
    if (at == 0) rows.ahead(k, row_bytes);
    const char* address = rows.at(k);
    if (address == nullptr) continue;
    const auto* row = reinterpret_cast<const typename T::Element*>(address) + at;
#pragma GCC unroll 16
    for (int c = 0; c < COUNT; ++c) {
      const Vector vector = T::load(row + c * T::lanes);
      if (MAX) {
        sums[c] = first ? vector : (vector > sums[c] ? vector : sums[c]);
      } else if (WEIGHTED) {
        sums[c] += vector * static_cast<typename T::Sum>(weights[k]);
      } else {
        sums[c] += vector;
      }
    }
    first = false;
  }
}

// Elements [at, at + COUNT * lanes) of one bag's rows: the sum, times their weights where there are any, or the maximum.
template <typename T, bool MAX, bool WEIGHTED, int COUNT, typename Rows>
inline void part(const Rows rows, uint32_t length, const float* weights, uint32_t at, size_t row_bytes, typename T::Sum count, typename T::Element* out) {
  using Vector = typename T::Vector;
  Vector sums[COUNT] = {};
  bool first = true;
  if (MAX || length <= kBlock) {
    some<T, MAX, WEIGHTED, COUNT>(rows, length, weights, at, row_bytes, first, sums);
  } else {
    for (uint32_t start = 0; start < length; start += kBlock) {
      Vector block[COUNT] = {};
      const uint32_t rest = length - start;
      some<T, MAX, WEIGHTED, COUNT>(rows.from(start), rest < kBlock ? rest : kBlock, WEIGHTED ? weights + start : nullptr, at, row_bytes, first, block);
      for (int c = 0; c < COUNT; ++c) sums[c] += block[c];
    }
  }
#pragma GCC unroll 16
  for (int c = 0; c < COUNT; ++c) {
    T::store(out + at + c * T::lanes, count == 0 ? sums[c] : sums[c] / count);
  }
}

// The elements that don't fill a vector.
template <typename T, bool MAX, bool WEIGHTED, typename Rows>
inline void rest(const Rows rows, uint32_t length, const float* weights, uint32_t at, uint32_t dim, typename T::Sum count, typename T::Element* out) {
  for (uint32_t i = at; i < dim; ++i) {
    typename T::Sum sum = 0, block = 0;
    bool first = true;
    for (uint32_t k = 0; k < length; ++k) {
      const char* row = rows.at(k);
      if (row != nullptr) {
        const typename T::Sum number = T::one(reinterpret_cast<const typename T::Element*>(row)[i]);
        if (MAX) {
          block = first || number > block ? number : block;
        } else if (WEIGHTED) {
          block += number * static_cast<typename T::Sum>(weights[k]);
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

template <typename T, bool MAX, bool WEIGHTED, typename Rows>
inline void bag(const Rows rows, uint32_t length, const float* weights, uint32_t dim, bool mean, typename T::Element* out) {
  typename T::Sum count = 0;
  if (mean) {
    for (uint32_t k = 0; k < length; ++k) count += rows.at(k) != nullptr;
  }
  const size_t bytes = dim * sizeof(typename T::Element);
  uint32_t at = 0;
  for (; at + 8 * T::lanes <= dim; at += 8 * T::lanes) part<T, MAX, WEIGHTED, 8>(rows, length, weights, at, bytes, count, out);
  for (; at + 4 * T::lanes <= dim; at += 4 * T::lanes) part<T, MAX, WEIGHTED, 4>(rows, length, weights, at, bytes, count, out);
  for (; at + 2 * T::lanes <= dim; at += 2 * T::lanes) part<T, MAX, WEIGHTED, 2>(rows, length, weights, at, bytes, count, out);
  for (; at + T::lanes <= dim; at += T::lanes) part<T, MAX, WEIGHTED, 1>(rows, length, weights, at, bytes, count, out);
  if (at < dim) rest<T, MAX, WEIGHTED>(rows, length, weights, at, dim, count, out);
}

template <typename T, bool MAX, bool WEIGHTED>
void pooled(const PoolJob& job, bool mean) {
  const char* const* rows = job.rows;
  const float* weights = job.weights;
  const uint32_t* lengths = job.lengths;
  for (size_t row = 0; row < job.batch; ++row) {
    auto* out = reinterpret_cast<typename T::Element*>(job.out + row * job.out_stride);
    for (uint32_t number = 0; number < job.bags; ++number, out += job.dim) {
      const uint32_t length = lengths == nullptr ? job.length : *lengths++;
      bag<T, MAX, WEIGHTED>(Listed{rows, job.last}, length, weights, job.dim, mean, out);
      rows += length;
      if (WEIGHTED) weights += length;
    }
  }
}

template <typename T, bool MAX, bool WEIGHTED, typename Id>
void pooled_directly(const PoolJob& job, bool mean) {
  const float* weights = job.weights;
  const uint32_t width = job.length * job.bags, further = static_cast<uint32_t>(kAhead);
  const uint32_t rows_ahead = width == 0 ? 0 : further / width, places_ahead = width == 0 ? 0 : further % width;
  for (size_t row = 0; row < job.batch; ++row) {
    auto* out = reinterpret_cast<typename T::Element*>(job.out + row * job.out_stride);
    const Id* ids = static_cast<const Id*>(job.ids) + row * job.ids_stride;
    for (uint32_t number = 0; number < job.bags; ++number, out += job.dim) {
      const uint32_t place = number * job.length;
      const Direct<Id> rows{ids + place, job.base, job.dim * sizeof(typename T::Element), job.ids_stride, job.batch - 1 - row, place, width, rows_ahead, places_ahead};
      bag<T, MAX, WEIGHTED>(rows, job.length, weights, job.dim, mean, out);
      if (WEIGHTED) weights += job.length;
    }
  }
}

template <typename T, bool MAX, bool WEIGHTED>
void pooled_either_way(const PoolJob& job, bool mean) {
  if (job.ids == nullptr) {
    pooled<T, MAX, WEIGHTED>(job, mean);
  } else if (job.narrow) {
    pooled_directly<T, MAX, WEIGHTED, int32_t>(job, mean);
  } else {
    pooled_directly<T, MAX, WEIGHTED, int64_t>(job, mean);
  }
}

template <typename T>
void pooled(const PoolJob& job, Pooling pooling) {
  if (pooling == Pooling::max) {
    pooled_either_way<T, true, false>(job, false);
  } else if (job.weights != nullptr) {
    pooled_either_way<T, false, true>(job, false);
  } else {
    pooled_either_way<T, false, false>(job, pooling == Pooling::mean);
  }
}

// Rows as they are, zeros for those that are none.
void copied(const PoolJob& job, size_t row_bytes) {
  const char* const* rows = job.rows;
  const size_t count = job.lengths == nullptr ? job.length : 0;
  for (size_t row = 0; row < job.batch; ++row) {
    char* out = job.out + row * job.out_stride;
    for (size_t k = 0; k < count; ++k, ++rows, out += row_bytes) {
      if (job.last - rows > kAhead && rows[kAhead] != nullptr) ask(rows[kAhead], row_bytes);
      if (*rows == nullptr) {
        std::memset(out, 0, row_bytes);
      } else {
        std::memcpy(out, *rows, row_bytes);
      }
    }
  }
}

void pool(const PoolJob& job, DType dtype, Pooling pooling) {
  if (pooling == Pooling::none) {
    copied(job, job.dim * size_bytes(dtype));
  } else if (dtype == DType::f32) {
    pooled<F32>(job, pooling);
  } else if (dtype == DType::f16) {
    pooled<F16>(job, pooling);
  } else if (dtype == DType::bf16) {
    pooled<BF16>(job, pooling);
  } else if (dtype == DType::f64) {
    pooled<F64>(job, pooling);
  }
}

}  // namespace

const Kernels KERNELS = {KERNELS_NAME, pool};

}  // namespace recsplit
