// Lookups: from a request's ids to pooled vectors, or to places in shards elsewhere, and to the marks of rows whose ids aren't in their tables.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "access.h"
#include "ids.h"
#include "kernels.h"
#include "places.h"
#include "recipe.h"
#include "table_files.h"

namespace recsplit {

struct TableSettings {
  Loading loading = Loading::automatic;
  bool interleave = false;
  std::string kernels;  // "": the best
  uint64_t sampled = kSampledStride;  // one row of a request in so many; 0: none
};

// Where the rows of a block go: a tensor's row `first` of the request, and the bytes from row to row.
struct OutputRows {
  char* data = nullptr;
  size_t stride = 0;
};

// Memory of one thread for its blocks, used again for the next.
struct LookupScratch {
  std::vector<const char*> rows;
  std::vector<uint32_t> lengths;
  std::vector<float> weights;
  std::vector<Registers> registers;
  std::vector<char> ran;  // which programs ran for the rows at hand
  std::vector<uint32_t> sampled;
  Random random;
  uint64_t until_sample = UINT64_MAX;  // rows of requests before the next one whose reads are sampled; the largest: not drawn yet
};

// Ids whose addresses are written down only where one of them is outside count this much less.
constexpr size_t kSeldom = 32;
// Rows of a request whose ids are looked at, and whose tables' rows are then read: few enough that their addresses stay in the first cache.
size_t rows_at_once(size_t ids_in_row);

// The tables and lookups of one model: read-only, shared by all threads.
class Lookups {
 public:
  // Throws Error where a file of `folder` is missing, shorter than the recipe says, or can't be had.
  Lookups(Recipe recipe, const std::string& folder, const TableSettings& settings);

  const Recipe& recipe() const { return recipe_; }

  // Rows [first, first + rows) of a request with these inputs (by the recipe's order): vectors into `outputs`, and, where the recipe has
  // marks, (position or -1, id) for each row into `marks`. Throws Error where a file was damaged under the mapping.
  void run(const std::vector<InputRows>& inputs, size_t first, size_t rows, const std::vector<OutputRows>& outputs, int64_t* marks, LookupScratch& scratch) const;

  // Throws Error (the client's) where inputs of any length that are read together aren't equally long.
  void check_lengths(const std::vector<InputRows>& inputs) const;

  // Vectors a row of an output that varies.
  size_t varying_width(size_t output, const std::vector<InputRows>& inputs) const;

  // What was loaded, in words.
  std::string loaded() const;

  // What requests have read; a sample's rows are the table's own, whatever the order in which they lie.
  Access& access() const { return *access_; }
  uint64_t sampled_stride() const { return sampled_; }
  TableAccess::Sample sample_of(size_t table, bool clear) const;

 private:
  struct Job {
    size_t rows, lengths, weights;
    const float* direct_weights;
    bool ragged;
    const void* ids;  // where all are inside, or they became places: see PoolJob
    size_t ids_stride;
    bool narrow;
    size_t none = 0, unknown = 0;  // of the ids: padding, and those outside
  };

  void some(const std::vector<InputRows>& inputs, size_t first, size_t rows, const std::vector<OutputRows>& outputs, size_t at, int64_t* marks, LookupScratch& scratch) const;
  Job places(const Lookup& lookup, const std::vector<InputRows>& inputs, size_t first, size_t rows, const OutputRows& output, size_t at, int64_t* marks, LookupScratch& scratch) const;
  template <typename Id>
  void places_of(const Lookup& lookup, const IdRows& ids, char* out, size_t out_stride, int64_t* marks, Job& job) const;
  void places_at(const Lookup& lookup, const uint32_t* rows, size_t count, int32_t* places) const;
  // Whether a buffer says only which place each row of a lookup has.
  bool is_map(size_t buffer) const;
  IdRows ids_of(const Lookup& lookup, const std::vector<InputRows>& inputs, size_t first, size_t rows, LookupScratch& scratch) const;
  Job resolve(const Lookup& lookup, const std::vector<InputRows>& inputs, size_t first, size_t rows, int64_t* marks, LookupScratch& scratch) const;
  bool all_inside(const Lookup& lookup, const IdRows& ids) const;
  template <typename Id>
  void fixed(const Lookup& lookup, const Id* ids, size_t stride, size_t width, size_t rows, int64_t* marks, LookupScratch& scratch, Job& job) const;
  template <typename Id>
  void ragged(const Lookup& lookup, const Id* ids, size_t stride, const std::vector<InputRows>& inputs, size_t first, size_t rows, int64_t* marks, LookupScratch& scratch, Job& job) const;
  void sample(const std::vector<Job>& jobs, size_t row, LookupScratch& scratch) const;
  // Where the rows of a lookup begin, or, of one whose table has an order, where that does: then addresses of its entries stand for rows.
  struct Start {
    const char* data;
    size_t bytes;
    const char* fallback;
  };
  Start start_of(const Lookup& lookup) const;
  void through_order(const Lookup& lookup, size_t first, LookupScratch& scratch) const;
  const Registers& registers(int program, const std::vector<InputRows>& inputs, size_t first, size_t rows, LookupScratch& scratch) const;
  void check(const Check& check, const std::vector<InputRows>& inputs, size_t first, size_t rows, int64_t* marks, LookupScratch& scratch) const;
  void check_program(int program, const std::vector<InputRows>& inputs) const;
  void check_weights(const Lookup& lookup, size_t width, const std::vector<InputRows>& inputs) const;
  size_t width_of(const Lookup& lookup, const std::vector<InputRows>& inputs) const;
  size_t ids_in_row(const std::vector<InputRows>& inputs) const;
  static bool by_ids(const Lookup& lookup);

  Recipe recipe_;
  TableFiles files_;
  std::vector<const char*> tables_;  // where each begins
  std::vector<uint64_t> cold_from_;  // of each lookup: rows of the (fused) table that lie further back aren't in memory, most likely
  Numbers numbers_;
  PlaceMaps place_maps_;  // by the number of the buffer
  const Kernels* kernels_;
  std::unique_ptr<Access> access_;
  Warming warming_;
  uint64_t sampled_;
};

}  // namespace recsplit
