// What the engine does for a batch, as engine.json says it: written by recsplit/write/engine.py, checked here before anything runs.
//
// Dims never hold the batch dimension. A register holds so many whole numbers a row; one of a single number a row stands for any width.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dtypes.h"
#include "json.h"
#include "kernels.h"
#include "pooling.h"

namespace recsplit {

constexpr int kSchema = 1;
// Stands in `unknown_ids` for the id where a row's lengths are negative or claim more ids than it has slots.
constexpr int64_t kWrongLengths = INT64_MIN;

struct Tensor {
  std::string name;
  DType dtype;
  std::vector<int64_t> dims;
};

// Rows of `dim` numbers of type `dtype`, stored as `format` says, that lie one after the other in a file from `offset` on.
struct Table {
  std::string file;
  uint64_t offset;
  uint64_t rows;
  uint32_t dim;
  DType dtype;
  RowFormat format;

  size_t row_bytes() const { return format.bytes(dim); }
  size_t vector_bytes() const { return dim * size_bytes(dtype); }
};

// Whole numbers in a file: a buffer that ids are read out of, as `category_of[item]`.
struct Buffer {
  std::string file;
  uint64_t offset;
  uint64_t size;
  DType dtype;
};

// Keys, ascending, and what stands for each; `missing` for any other.
struct Vocabulary {
  std::vector<int64_t> keys;
  std::vector<int64_t> values;
  int64_t missing;
};

enum class Op : int {
  input, constant, pick, add, sub, mul, div, mod, fmod, min, max, bit_and, bit_or, bit_xor, shift_left, shift_right,
  equal, less, less_equal, greater, greater_equal, negate, absolute, sign, bit_not, logical_not, where, buffer, vocabulary, cast, concat,
};

// One step of a program: a new register of `width` numbers a row, of an integer type, out of others or of an input.
struct Step {
  Op op;
  DType dtype;
  uint32_t width;             // 0: as many as the elementwise input has
  int operands[3];            // registers; an input's, a buffer's or a vocabulary's number in the first for those
  std::vector<int64_t> list;  // columns of the input or the operand; the constants; the registers that are put side by side
};

struct Program {
  std::vector<Step> steps;
};

// Bags of varying length: each row's ids for all features one after the other, and how many belong to each.
struct Bags {
  int values;
  int lengths;
  int features;
};


// One reading of a table. Its ids: the columns from `first` on of `input`, or the last register of `program`; each names a row of the
// table by id + shift. Of a ragged one they are those of one feature's bag.
//
// Of a table that lies in shards elsewhere it gives places, INT32, one for each id: those from `base` on, in order, or what `order` says; an
// unknown id and padding give `fallback` and `none`.
struct Lookup {
  std::string name;      // what users call the table; "": unknown
  int table;             // -1: in shards elsewhere
  uint64_t base;         // of its rows in the (fused) table
  int order;             // a buffer that says which row of the (fused) table each of its rows is; -1: those from `base` on, in order
  int64_t rows;          // ids + shift are in [0, rows)
  uint64_t fallback;     // what an unknown id reads, a row of the (fused) table
  Pooling pooling;
  bool padded;           // whether `padding` is one
  int64_t padding;       // an id + shift that counts as none
  int32_t none;          // its place
  uint32_t width;        // ids a row; 0: as many as the request has
  uint32_t bags;         // pooled vectors a row, which share its ids out evenly
  int input;             // -1: of a program
  uint32_t first;
  int program;           // -1: of an input
  std::vector<int64_t> shifts;  // one, or one a column
  int group;             // of ragged bags; -1: none
  int feature;
  int weights;           // an input; -1: none
  uint32_t first_weight;
  int output;
  uint32_t place;        // of its first vector in the output's row
  int64_t mark;          // its first position in `unknown_ids`; -1: its unknown ids aren't marked
  int64_t wrong;         // the position of a row whose lengths can't be read; -1: not marked here
};

// Another thing that marks rows: numbers, and which of them are outside, both registers of a program, `width` a row. Where that is 0 it
// varies, and the first one that is outside stands at the one position.
struct Check {
  int program;
  int numbers;
  int outside;
  uint32_t width;
  int64_t mark;
};

struct Recipe {
  std::vector<Tensor> inputs;
  std::vector<Table> tables;
  std::vector<Buffer> buffers;
  std::vector<Vocabulary> vocabularies;
  std::vector<Program> programs;
  std::vector<Bags> bags;
  std::vector<Tensor> outputs;  // [vectors, dim]; [-1, dim] of one that varies; [ids] of places
  std::vector<Lookup> lookups;
  std::vector<Check> checks;
  std::string marks;  // the name of the output `unknown_ids`; "": none
};

// Throws Error where anything refers to what isn't there, is out of bounds, or isn't understood.
Recipe read_recipe(const Json& json);

// Parts of one. Throw Error as it does.
std::vector<Table> read_tables(const Json& json);
Pooling pooling_of(const std::string& name);

}  // namespace recsplit
