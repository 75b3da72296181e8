// The kinds of numbers that tables hold, as vectors: how they are read, and how sums are stored. Included by kernels_body.h only.
//
// Vectors of GCC's and Clang's extension; intrinsics only where there are instructions for what those say in a dozen.
#pragma once

#if defined(__F16C__)
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

}  // namespace
}  // namespace recsplit
