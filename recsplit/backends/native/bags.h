// A shard on a server of its own: bags of rows in CSR, as a front asks for them, and pooled vectors back. No batch dimension: a request is a
// batch of the front's already.
//
// bags.json: {"schema": 1, "tables": [as a recipe's], "readings": [{"number", "table", "lowest_row", "poolings"}, ...]}. Of reading n the
// inputs rows_n INT32 [rows] and offsets_n INT32 [bags + 1], rising from 0: bag b pools rows offsets[b] .. offsets[b + 1] by poolings[b modulo
// their number]; the output pooled_n [bags, dim]: sums for sum, mean and none, the maximum for max; of an empty bag zeros, or for max the
// table's row `lowest_row`. As recsplit/graph/shards/csr.py does it in standard operators.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "table_files.h"

namespace recsplit {

class BagsModel {
 public:
  // Throws Error where the file doesn't fit the config's tensors, or a table can't be had.
  BagsModel(const Json& json, const std::string& folder, const TableSettings& settings, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs);

  // Throws Error (the client's) where offsets or rows can't be.
  void run(Request& request, Workers& workers) const;

  std::string loaded() const;

 private:
  struct Reading {
    size_t table;
    uint64_t lowest_row;
    std::vector<Pooling> poolings;
    size_t rows, offsets, output;  // of the config's tensors
  };
  struct Share;  // some bags of a reading

  void pool(const Share& share) const;

  std::vector<Table> tables_;
  TableFiles files_;
  std::vector<const char*> starts_;
  std::vector<Reading> readings_;
  const Kernels* kernels_;
};

}  // namespace recsplit
