#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstring>
#include <initializer_list>
#include <string>

#include "error.h"

namespace recsplit {

float from_half(uint16_t bits) {
  const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7FFF) << 13;
  float number;
  std::memcpy(&number, &magnitude, sizeof number);
  number *= 0x1p112f;
  uint32_t word;
  std::memcpy(&word, &number, sizeof word);
  if (magnitude >= 0x0F800000) word |= 0x7F800000;
  word |= static_cast<uint32_t>(bits & 0x8000) << 16;
  std::memcpy(&number, &word, sizeof number);
  return number;
}

uint16_t to_half(float number) {
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return static_cast<uint16_t>(sign | 0x7E00);      // NaN
  if (magnitude >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);     // 65520 and beyond round to infinity
  if (magnitude >= 0x38800000) {                                                // normal
    const uint32_t moved = magnitude - 0x38000000;
    return static_cast<uint16_t>(sign | ((moved + 0xFFF + ((moved >> 13) & 1)) >> 13));
  }
  // Subnormal: adding 0.5 puts the last bit of a half at the last bit of a float, rounded as the processor rounds.
  float positive;
  std::memcpy(&positive, &magnitude, sizeof positive);
  positive += 0.5f;
  uint32_t rounded;
  std::memcpy(&rounded, &positive, sizeof rounded);
  return static_cast<uint16_t>(sign | (rounded - 0x3F000000));
}

RowFormat RowFormat::of(DType dtype, const std::string& stored) {
  const bool wide = dtype == DType::f32, half = dtype == DType::f16 || dtype == DType::bf16;
  if (stored == name_of(dtype)) return {dtype, 0};
  if ((wide || half) && stored == "INT8") return {dtype, 8};
  if ((wide || half) && stored == "INT4") return {dtype, 4};
  if (wide && (stored == "FP16" || stored == "BF16")) return {dtype_of(stored), 0};
  throw Error(std::string("rows of ") + name_of(dtype) + " aren't stored as '" + stored.substr(0, 40) + "'");
}

#if defined(__x86_64__)
namespace {

// Which of x86-64's levels the processor and the system run. Asked for by hand: Clang's __builtin_cpu_supports needs a library that zig
// doesn't have.
struct Levels {
  bool v3 = false, v4 = false;
};

bool has(unsigned word, std::initializer_list<int> bits) {
  for (const int bit : bits) {
    if ((word >> bit & 1) == 0) return false;
  }
  return true;
}

Levels levels() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0, more_ebx = 0, more_ecx = 0, ignored = 0;
  Levels runs;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || !has(ecx, {12, 22, 27, 28, 29})) return runs;  // FMA, MOVBE, OSXSAVE, AVX, F16C
  unsigned saved = 0, high = 0;
  __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if (!has(saved, {1, 2})) return runs;  // the system keeps the vectors of a thread that waits
  if (__get_cpuid_count(7, 0, &ignored, &more_ebx, &ignored, &ignored) == 0) return runs;
  if (__get_cpuid(0x80000001, &ignored, &ignored, &more_ecx, &ignored) == 0) return runs;
  runs.v3 = has(more_ebx, {3, 5, 8}) && has(more_ecx, {5});                                  // BMI1, AVX2, BMI2; LZCNT
  runs.v4 = runs.v3 && has(more_ebx, {16, 17, 28, 30, 31}) && has(saved, {5, 6, 7});  // AVX-512 F, DQ, CD, BW, VL
  return runs;
}

}  // namespace
#endif

const Kernels& kernels(const char* name) {
  const std::string asked_name = name;
#if defined(__x86_64__)
  static const Levels runs = levels();
  if (runs.v4 && (asked_name.empty() || asked_name == kAvx512.name)) return kAvx512;
  if (runs.v3 && (asked_name.empty() || asked_name == kAvx2.name)) return kAvx2;
#endif
  if (asked_name.empty() || asked_name == kPortable.name) return kPortable;
  throw Error("this processor doesn't run the kernels '" + asked_name.substr(0, 40) + "'");
}

}  // namespace recsplit
