#include "kernels.h"

#include <cstring>
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

const Kernels& kernels(const char* name) {
  const std::string wanted = name;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  if (avx512 && (wanted.empty() || wanted == kAvx512.name)) return kAvx512;
  if (avx2 && (wanted.empty() || wanted == kAvx2.name)) return kAvx2;
#endif
  if (wanted.empty() || wanted == kPortable.name) return kPortable;
  throw Error("this processor doesn't run the kernels '" + wanted.substr(0, 40) + "'");
}

}  // namespace recsplit
