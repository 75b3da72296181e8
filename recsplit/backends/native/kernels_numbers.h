// The kinds of numbers and rows that tables hold, as vectors: how they are read, and how sums are stored. Included by kernels_body.h only.
//
// Vectors of GCC's and Clang's extension; intrinsics only where there are instructions for what those say in a dozen.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include <cstring>

#include "kernels.h"

namespace recsplit {
namespace {

constexpr int kLanes = LANES;  // floats, half as many doubles

using Floats = float __attribute__((vector_size(kLanes * 4)));
using Words = uint32_t __attribute__((vector_size(kLanes * 4)));
using Halves = uint16_t __attribute__((vector_size(kLanes * 2)));
using Doubles = double __attribute__((vector_size(kLanes * 4)));
using Bytes = uint8_t __attribute__((vector_size(kLanes)));
using Integers = int32_t __attribute__((vector_size(kLanes * 4)));

// Numbers that are added as they are stored.
template <typename Number, typename Numbers>
struct Plain {
  static constexpr int lanes = sizeof(Numbers) / sizeof(Number);
  using Element = Number;
  using Sum = Number;
  using Vector = Numbers;
  static Vector load(const Number* from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
  }
  static Number one(Number element) { return element; }
  static void store(Number* to, Number sum) { *to = sum; }
  static void store(Number* to, Vector sums) { std::memcpy(to, &sums, sizeof sums); }
};

using F32 = Plain<float, Floats>;
using F64 = Plain<double, Doubles>;

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
#if defined(__AVX512F__) && LANES == 16
    return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__F16C__) && LANES == 8
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
#if defined(__AVX512BW__) && defined(__AVX512VL__) && LANES == 16
    const __m512 numbers = (__m512)sums;
    const __m256i rounded = _mm512_cvtps_ph(numbers, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i not_a_number = _mm256_or_si256(_mm256_and_si256(rounded, _mm256_set1_epi16(-0x8000)), _mm256_set1_epi16(0x7E00));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(numbers, numbers, _CMP_UNORD_Q);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_mask_blend_epi16(is_nan, rounded, not_a_number));
#elif defined(__F16C__) && LANES == 8
    const __m256 numbers = (__m256)sums;
    const __m256i nans = _mm256_castps_si256(_mm256_cmp_ps(numbers, numbers, _CMP_UNORD_Q));
    const __m128i rounded = _mm256_cvtps_ph(numbers, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m128i not_a_number = _mm_or_si128(_mm_and_si128(rounded, _mm_set1_epi16(-0x8000)), _mm_set1_epi16(0x7E00));
    const __m128i is_nan = _mm_packs_epi32(_mm256_castsi256_si128(nans), _mm256_extracti128_si256(nans, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_blendv_epi8(rounded, not_a_number, is_nan));
#else
    const Words bits = (Words)sums, magnitude = bits & 0x7FFFFFFF;
    const Words normal = (magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
    const Words subnormal = (Words)((Floats)magnitude + 0.5f) - 0x3F000000;
    const Words is_normal = (Words)(magnitude >= 0x38800000), is_large = (Words)(magnitude >= 0x477FF000), is_nan = (Words)(magnitude > 0x7F800000);
    Words half = (is_normal & normal) | (~is_normal & subnormal);
    half = (is_large & 0x7C00) | (~is_large & half);
    half = (is_nan & 0x7E00) | (~is_nan & half);
    const Halves halves = __builtin_convertvector(half | ((bits >> 16) & 0x8000), Halves);
    std::memcpy(to, &halves, sizeof halves);
#endif
  }
};

// Rows whose numbers lie one after the other as they are.
template <typename Number>
struct Whole {
  static constexpr int lanes = Number::lanes;
  using Sum = typename Number::Sum;
  using Vector = typename Number::Vector;
  static constexpr size_t bytes(size_t dim) { return dim * sizeof(typename Number::Element); }

  explicit Whole(const char* row) : data(reinterpret_cast<const typename Number::Element*>(row)) {}
  Vector load(uint32_t at) const { return Number::load(data + at); }
  Sum one(uint32_t at) const { return Number::one(data[at]); }

  const typename Number::Element* data;
};

// What stands before the numbers of a scaled row: a number is scale * its code + bias.
struct Scales {
  static constexpr size_t kBytes = 4;

  explicit Scales(const char* row) {
#if defined(__AVX512F__) && LANES == 16
    const __m128 both = halves(row);
    scale = (Floats)_mm512_broadcastss_ps(both);
    bias = (Floats)_mm512_broadcastss_ps(_mm_movehdup_ps(both));
#elif defined(__F16C__) && LANES == 8
    const __m128 both = halves(row);
    scale = (Floats)_mm256_broadcastss_ps(both);
    bias = (Floats)_mm256_broadcastss_ps(_mm_movehdup_ps(both));
#else
    uint16_t both[2];
    std::memcpy(both, row, sizeof both);
    scale = Floats{} + from_half(both[0]);
    bias = Floats{} + from_half(both[1]);
#endif
  }

#if defined(__F16C__)
  static __m128 halves(const char* row) {
    int32_t both;
    std::memcpy(&both, row, sizeof both);
    return _mm_cvtph_ps(_mm_cvtsi32_si128(both));
  }
#endif

  Floats scale, bias;
};

// Codes of a byte as numbers.
inline Floats whole_numbers(const Bytes codes) {
#if defined(__AVX512F__) && LANES == 16
  return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32((__m128i)codes));
#elif defined(__AVX2__) && LANES == 8
  int64_t bits;
  std::memcpy(&bits, &codes, sizeof bits);
  return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bits)));
#else
  return __builtin_convertvector(__builtin_convertvector(codes, Integers), Floats);
#endif
}

// Rows of a scale, a bias, and a code of a byte for each number.
struct Scaled8 {
  static constexpr int lanes = kLanes;
  using Sum = float;
  using Vector = Floats;
  static constexpr size_t bytes(size_t dim) { return Scales::kBytes + dim; }

  explicit Scaled8(const char* row) : scales(row), codes(reinterpret_cast<const uint8_t*>(row) + Scales::kBytes) {}
  Floats load(uint32_t at) const {
    Bytes some;
    std::memcpy(&some, codes + at, sizeof some);
    return whole_numbers(some) * scales.scale + scales.bias;
  }
  float one(uint32_t at) const { return static_cast<float>(codes[at]) * scales.scale[0] + scales.bias[0]; }

  Scales scales;
  const uint8_t* codes;
};

// The same with codes of half a byte, the first of two in the low half.
struct Scaled4 {
  static constexpr int lanes = kLanes;
  using Sum = float;
  using Vector = Floats;
  static constexpr size_t bytes(size_t dim) { return Scales::kBytes + (dim + 1) / 2; }

#if defined(__AVX512F__) && LANES == 16
  // Sixteen lanes hold what each of the sixteen codes stands for.
  explicit Scaled4(const char* row) : codes(reinterpret_cast<const uint8_t*>(row) + Scales::kBytes) {
    const Scales scales(row);
    meanings = Floats{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} * scales.scale + scales.bias;
  }
  Floats load(uint32_t at) const {
    int64_t pairs;
    std::memcpy(&pairs, codes + at / 2, sizeof pairs);
    // Of a byte in 64 bits: the low half in the low 4 bits, the high one in bits 32 to 35. Nothing else of a lane is looked at.
    const __m512i bytes = _mm512_cvtepu8_epi64(_mm_cvtsi64_si128(pairs));
    return (Floats)_mm512_permutexvar_ps(_mm512_or_si512(bytes, _mm512_slli_epi64(bytes, 28)), (__m512)meanings);
  }
  float one(uint32_t at) const { return meanings[codes[at / 2] >> (at % 2 * 4) & 15]; }

  Floats meanings;
#elif defined(__AVX2__) && LANES == 8
  // The same in two halves.
  explicit Scaled4(const char* row) : codes(reinterpret_cast<const uint8_t*>(row) + Scales::kBytes) {
    const Scales scales(row);
    lower = Floats{0, 1, 2, 3, 4, 5, 6, 7} * scales.scale + scales.bias;
    upper = Floats{8, 9, 10, 11, 12, 13, 14, 15} * scales.scale + scales.bias;
  }
  Floats load(uint32_t at) const {
    int32_t eight;
    std::memcpy(&eight, codes + at / 2, sizeof eight);
    // A code's low 3 bits say which of a half, the 4th which half. Nothing else of a lane is looked at.
    const __m256i each = _mm256_srlv_epi32(_mm256_set1_epi32(eight), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    const __m256 is_upper = _mm256_castsi256_ps(_mm256_slli_epi32(each, 28));
    return (Floats)_mm256_blendv_ps(_mm256_permutevar8x32_ps((__m256)lower, each), _mm256_permutevar8x32_ps((__m256)upper, each), is_upper);
  }
  float one(uint32_t at) const {
    const int code = codes[at / 2] >> (at % 2 * 4) & 15;
    return code < 8 ? lower[code] : upper[code - 8];
  }

  Floats lower, upper;
#else
  explicit Scaled4(const char* row) : scales(row), codes(reinterpret_cast<const uint8_t*>(row) + Scales::kBytes) {}
  Floats load(uint32_t at) const {
    Bytes some;
    uint64_t pairs = 0;
    std::memcpy(&pairs, codes + at / 2, kLanes / 2);
#if defined(__SSE2__)
    const __m128i packed = _mm_cvtsi64_si128(static_cast<int64_t>(pairs)), mask = _mm_set1_epi8(15);
    const __m128i apart = _mm_unpacklo_epi8(_mm_and_si128(packed, mask), _mm_and_si128(_mm_srli_epi16(packed, 4), mask));
    std::memcpy(&some, &apart, sizeof some);
#else
    for (int lane = 0; lane < kLanes; ++lane) some[lane] = pairs >> (4 * lane) & 15;
#endif
    return whole_numbers(some) * scales.scale + scales.bias;
  }
  float one(uint32_t at) const { return static_cast<float>(codes[at / 2] >> (at % 2 * 4) & 15) * scales.scale[0] + scales.bias[0]; }

  Scales scales;
#endif
  const uint8_t* codes;
};

}  // namespace
}  // namespace recsplit
