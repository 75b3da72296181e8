// Pooling of rows that lie anywhere in memory. One body, compiled for several instruction sets; `kernels` picks one when it runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "dtypes.h"
#include "pooling.h"

namespace recsplit {

// Bags whose rows' addresses lie one after the other in `rows`; nullptr: the id counts as none.
struct PoolJob {
  // Where all ids are inside their table, none is padding and each row of the request has as many, at least one: the ids of the first row,
  // those of the next `ids_stride` further. The row of an id is at base + id * row bytes, and `rows` isn't looked at. INT32 if `narrow`.
  const void* ids;
  size_t ids_stride;
  bool narrow;
  const char* base;
  const char* const* rows;
  const char* const* last;     // addresses up to here may be prefetched: those of this job, and of the jobs after it
  const float* weights;        // of each row, or nullptr
  const uint32_t* lengths;     // of each bag, or nullptr: each has `length` rows
  uint32_t length;
  size_t batch;                // rows of the request
  uint32_t bags;               // pooled vectors each; 1 where rows are not pooled
  uint32_t dim;
  char* out;                   // of the first bag; the bags of one row lie side by side
  size_t out_stride;           // bytes from row to row
};

// Ids of some rows, INT32 if `narrow`: `width` a row, those of the next row `stride` further.
struct IdRows {
  const void* ids;
  bool narrow;
  size_t width, stride, rows;
};

// How the numbers of a row are stored. bits 0: as they are, of type `dtype`. Else `dtype` is what they stand for, and a row is a scale and a
// bias, both FP16, and for each number an unsigned code of so many bits (8 or 4): the number is scale * code + bias.
struct RowFormat {
  DType dtype;
  int bits;

  // By Triton's type of the numbers, and how they are stored: that type, one of half precision, or the scaled INT8 or INT4. Throws Error of
  // any other.
  static RowFormat of(DType dtype, const std::string& stored);
  size_t bytes(size_t dim) const { return bits == 0 ? dim * size_bytes(dtype) : 4 + (dim * static_cast<size_t>(bits) + 7) / 8; }
};

// A map from rows to places that count up in a few pieces: a wavelet matrix over the pieces' numbers (F. Claude, G. Navarro, A. Ordonez, "The
// wavelet matrix", Information Systems 47, 2015). Each level has a bit of every row's piece, the highest first. Positions whose bit isn't set come
// first at the next level, then the others, each in their order; behind the last one the rows of a piece lie side by side.
constexpr int kMostRankLevels = 4;
constexpr size_t kRankBlock = 64, kRankBlockBytes = 12;  // positions: their bits, and how many are set before them, UINT32
// So many rows go through a level together, so that none waits for another's memory.
constexpr size_t kRowsTogether = 256;
struct RankMap {
  struct Level {
    const char* blocks;
    uint32_t zeros;  // positions whose bit isn't set
  };
  Level levels[kMostRankLevels] = {};
  int count = 0;
  int32_t shifts[1 << kMostRankLevels] = {};  // of each piece: from the position behind the last level to the place
};

struct Kernels {
  const char* name;
  // Whether all are in [low, low + count).
  bool (*inside)(const IdRows& ids, int64_t low, uint64_t count);
  // The places of `count` rows, kRowsTogether at most.
  void (*places)(const RankMap& map, const uint32_t* rows, size_t count, int32_t* places);
  // Vectors of type `vectors`: the rows' own, or another that is added in FP32 too.
  void (*pool)(const PoolJob& job, const RowFormat& rows, DType vectors, Pooling pooling);
};

// The best that this processor runs; of `name` ("avx512", "avx2", "portable") where it isn't empty. Throws Error where it can't run it.
const Kernels& kernels(const char* name);

extern const Kernels kPortable;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

// Bits of an IEEE half as a float, and back, to the nearest, ties to even.
float from_half(uint16_t bits);
uint16_t to_half(float number);

}  // namespace recsplit
