#include "ids.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels.h"

namespace recsplit {

namespace {

template <typename T>
T load(const char* data, size_t place) {
  T element;
  std::memcpy(&element, data + place * sizeof(T), sizeof(T));
  return element;
}

// As the processor casts: what no INT64 holds, NaN too, becomes the smallest one.
int64_t whole(double number) { return number >= -0x1p63 && number < 0x1p63 ? static_cast<int64_t>(number) : INT64_MIN; }

// A number as its type holds it: the low bits, as arithmetic in that type would have left them.
int64_t wrapped(int64_t number, DType dtype) {
  switch (dtype) {
    case DType::boolean: return number != 0;
    case DType::i8: return static_cast<int8_t>(number);
    case DType::i16: return static_cast<int16_t>(number);
    case DType::i32: return static_cast<int32_t>(number);
    case DType::u8: return static_cast<uint8_t>(number);
    case DType::u16: return static_cast<uint16_t>(number);
    case DType::u32: return static_cast<uint32_t>(number);
    default: return number;
  }
}

// Arithmetic that wraps, as ONNX Runtime's does: through unsigned, where that is defined.
int64_t plus(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)); }
int64_t minus(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b)); }
int64_t times(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)); }
int64_t divided(int64_t a, int64_t b) { return b == 0 ? 0 : b == -1 ? minus(0, a) : a / b; }
int64_t remainder(int64_t a, int64_t b) { return b == 0 || b == -1 ? 0 : a % b; }
// The remainder with the divisor's sign, as ONNX's Mod without fmod.
int64_t modulo(int64_t a, int64_t b) {
  const int64_t rest = remainder(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

// Runs `f` over registers of one width, or of a single number a row.
template <typename F>
void each(std::vector<int64_t>& out, size_t rows, size_t width, const std::vector<int64_t>& a, size_t a_width, const std::vector<int64_t>& b, size_t b_width, F f) {
  if (a_width == width && b_width == width) {
    for (size_t i = 0; i < rows * width; ++i) out[i] = f(a[i], b[i]);
    return;
  }
  for (size_t row = 0; row < rows; ++row) {
    for (size_t j = 0; j < width; ++j) out[row * width + j] = f(a[row * a_width + (a_width == 1 ? 0 : j)], b[row * b_width + (b_width == 1 ? 0 : j)]);
  }
}

void read_input(const Step& step, const Tensor& tensor, const InputRows& input, size_t first, size_t rows, std::vector<int64_t>& out) {
  const size_t width = step.list.empty() ? input.width : step.list.size();
  for (size_t row = 0; row < rows; ++row) {
    const size_t start = (first + row) * input.width;
    for (size_t j = 0; j < width; ++j) {
      const size_t column = step.list.empty() ? j : static_cast<size_t>(step.list[j]);
      out[row * width + j] = wrapped(element(input.data, tensor.dtype, start + column), step.dtype);
    }
  }
}

int64_t looked_up(const Vocabulary& vocabulary, int64_t key) {
  const auto place = std::lower_bound(vocabulary.keys.begin(), vocabulary.keys.end(), key);
  return place != vocabulary.keys.end() && *place == key ? vocabulary.values[static_cast<size_t>(place - vocabulary.keys.begin())] : vocabulary.missing;
}

// The function of a step of two operands.
template <typename F>
void with_function(Op op, F f) {
  switch (op) {
    case Op::add: return f(plus);
    case Op::sub: return f(minus);
    case Op::mul: return f(times);
    case Op::div: return f(divided);
    case Op::mod: return f(modulo);
    case Op::fmod: return f(remainder);
    case Op::min: return f([](int64_t a, int64_t b) { return std::min(a, b); });
    case Op::max: return f([](int64_t a, int64_t b) { return std::max(a, b); });
    case Op::bit_and: return f([](int64_t a, int64_t b) { return a & b; });
    case Op::bit_or: return f([](int64_t a, int64_t b) { return a | b; });
    case Op::bit_xor: return f([](int64_t a, int64_t b) { return a ^ b; });
    case Op::shift_left: return f([](int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) << (b & 63)); });
    case Op::shift_right: return f([](int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) >> (b & 63)); });
    case Op::equal: return f([](int64_t a, int64_t b) { return static_cast<int64_t>(a == b); });
    case Op::less: return f([](int64_t a, int64_t b) { return static_cast<int64_t>(a < b); });
    case Op::less_equal: return f([](int64_t a, int64_t b) { return static_cast<int64_t>(a <= b); });
    case Op::greater: return f([](int64_t a, int64_t b) { return static_cast<int64_t>(a > b); });
    default: return f([](int64_t a, int64_t b) { return static_cast<int64_t>(a >= b); });
  }
}

int64_t single(Op op, int64_t number) {
  switch (op) {
    case Op::negate: return minus(0, number);
    case Op::absolute: return number < 0 ? minus(0, number) : number;
    case Op::sign: return (number > 0) - (number < 0);
    case Op::bit_not: return ~number;
    case Op::logical_not: return number == 0;
    default: return number;
  }
}

void run_step(const Step& step, const Numbers& numbers, const std::vector<InputRows>& inputs, size_t first, size_t rows, size_t place, Registers& registers) {
  const Recipe& recipe = *numbers.recipe;
  size_t width = step.width;
  if (step.op == Op::input && step.list.empty()) width = inputs[static_cast<size_t>(step.operands[0])].width;
  const int count = step.op == Op::input || step.op == Op::constant || step.op == Op::concat ? 0 : step.op == Op::where ? 3 : step.op >= Op::add && step.op <= Op::greater_equal ? 2 : 1;
  const std::vector<int64_t>* of[3] = {};
  size_t of_width[3] = {};
  for (int operand = 0; operand < count; ++operand) {
    const auto which = static_cast<size_t>(step.operands[operand]);
    of[operand] = &registers.values[which];
    of_width[operand] = registers.widths[which];
    if (step.op != Op::pick) width = operand == 0 ? of_width[0] : std::max(width, of_width[operand]);
  }
  if (count > 1 && (of_width[0] == 0 || of_width[1] == 0 || (count == 3 && of_width[2] == 0))) width = 0;  // a request without any ids
  registers.widths[place] = static_cast<uint32_t>(width);
  std::vector<int64_t>& out = registers.values[place];
  out.resize(rows * width);
  switch (step.op) {
    case Op::input: return read_input(step, recipe.inputs[static_cast<size_t>(step.operands[0])], inputs[static_cast<size_t>(step.operands[0])], first, rows, out);
    case Op::constant:
      for (size_t row = 0; row < rows; ++row) std::copy(step.list.begin(), step.list.end(), out.begin() + static_cast<ptrdiff_t>(row * width));
      return;
    case Op::concat: {
      size_t at = 0;
      for (const int64_t which : step.list) {
        const size_t part = registers.widths[static_cast<size_t>(which)];
        const std::vector<int64_t>& from = registers.values[static_cast<size_t>(which)];
        for (size_t row = 0; row < rows; ++row) std::copy_n(from.begin() + static_cast<ptrdiff_t>(row * part), part, out.begin() + static_cast<ptrdiff_t>(row * width + at));
        at += part;
      }
      return;
    }
    case Op::pick:
      for (size_t row = 0; row < rows; ++row) {
        for (size_t j = 0; j < width; ++j) out[row * width + j] = (*of[0])[row * of_width[0] + (of_width[0] == 1 ? 0 : static_cast<size_t>(step.list[j]))];
      }
      return;
    case Op::where:
      for (size_t row = 0; row < rows; ++row) {
        for (size_t j = 0; j < width; ++j) {
          const auto at = [&](int operand) { return (*of[operand])[row * of_width[operand] + (of_width[operand] == 1 ? 0 : j)]; };
          out[row * width + j] = at(0) != 0 ? at(1) : at(2);
        }
      }
      return;
    case Op::buffer: {
      const Buffer& buffer = recipe.buffers[static_cast<size_t>(step.operands[1])];
      const char* data = numbers.buffers[static_cast<size_t>(step.operands[1])];
      for (size_t i = 0; i < out.size(); ++i) {
        // The model itself puts what is outside at 0 and marks it. Below 0 counts from the end, as in ONNX.
        const int64_t number = (*of[0])[i] < 0 ? (*of[0])[i] + static_cast<int64_t>(buffer.size) : (*of[0])[i];
        const bool inside = number >= 0 && number < static_cast<int64_t>(buffer.size);
        out[i] = element(data, buffer.dtype, inside ? static_cast<size_t>(number) : 0);
      }
      return;
    }
    case Op::vocabulary:
      for (size_t i = 0; i < out.size(); ++i) out[i] = looked_up(recipe.vocabularies[static_cast<size_t>(step.operands[1])], (*of[0])[i]);
      return;
    default: break;
  }
  if (count == 1) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = wrapped(single(step.op, (*of[0])[i]), step.dtype);
    return;
  }
  with_function(step.op, [&](auto f) {
    if (step.dtype == DType::i64) {
      each(out, rows, width, *of[0], of_width[0], *of[1], of_width[1], f);
    } else {
      each(out, rows, width, *of[0], of_width[0], *of[1], of_width[1], [&](int64_t a, int64_t b) { return wrapped(f(a, b), step.dtype); });
    }
  });
}

}  // namespace

int64_t element(const char* data, DType dtype, size_t place) {
  switch (dtype) {
    case DType::boolean: return load<uint8_t>(data, place) != 0;
    case DType::u8: return load<uint8_t>(data, place);
    case DType::u16: return load<uint16_t>(data, place);
    case DType::u32: return load<uint32_t>(data, place);
    case DType::u64: return static_cast<int64_t>(load<uint64_t>(data, place));
    case DType::i8: return load<int8_t>(data, place);
    case DType::i16: return load<int16_t>(data, place);
    case DType::i32: return load<int32_t>(data, place);
    case DType::i64: return load<int64_t>(data, place);
    case DType::f32: return whole(load<float>(data, place));
    case DType::f64: return whole(load<double>(data, place));
    case DType::f16: return whole(from_half(load<uint16_t>(data, place)));
    default: return 0;
  }
}

void run(const Program& program, const Numbers& numbers, const std::vector<InputRows>& inputs, size_t first, size_t rows, Registers& registers) {
  registers.values.resize(std::max(registers.values.size(), program.steps.size()));
  registers.widths.resize(registers.values.size());
  for (size_t place = 0; place < program.steps.size(); ++place) run_step(program.steps[place], numbers, inputs, first, rows, place, registers);
}

}  // namespace recsplit
