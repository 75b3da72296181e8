// Programs of whole numbers: what a model does to a client's ids before it reads rows by them, a block of rows at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "recipe.h"

namespace recsplit {

// An input of one request: `data` of its first row, `width` elements a row.
struct InputRows {
  const char* data = nullptr;
  size_t width = 0;
};

// What programs read beside registers.
struct Numbers {
  const Recipe* recipe;
  std::vector<const char*> buffers;  // where each begins
};

// The registers of one program over `rows` rows; kept and used again for the next block.
struct Registers {
  std::vector<std::vector<int64_t>> values;  // [rows, width] each
  std::vector<uint32_t> widths;
};

// Element `place` of data of an integer, boolean or floating type, as ONNX's Cast to INT64 takes it.
int64_t element(const char* data, DType dtype, size_t place);

// Runs a program on rows [first, first + rows) of a request, whose inputs are these.
void run(const Program& program, const Numbers& numbers, const std::vector<InputRows>& inputs, size_t first, size_t rows, Registers& registers);

}  // namespace recsplit
