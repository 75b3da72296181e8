#include "dtypes.h"

#include "error.h"

namespace recsplit {

namespace {
struct Names {
  DType dtype;
  const char* name;
  size_t bytes;
  int onnx;
};
constexpr Names kNames[] = {
    {DType::boolean, "BOOL", 1, 9}, {DType::u8, "UINT8", 1, 2},  {DType::u16, "UINT16", 2, 4}, {DType::u32, "UINT32", 4, 12},
    {DType::u64, "UINT64", 8, 13},  {DType::i8, "INT8", 1, 3},   {DType::i16, "INT16", 2, 5},  {DType::i32, "INT32", 4, 6},
    {DType::i64, "INT64", 8, 7},    {DType::f16, "FP16", 2, 10}, {DType::f32, "FP32", 4, 1},   {DType::f64, "FP64", 8, 11},
    {DType::bf16, "BF16", 2, 16},
};

const Names* find(DType dtype) {
  for (const Names& names : kNames) {
    if (names.dtype == dtype) return &names;
  }
  return nullptr;
}
}  // namespace

size_t size_bytes(DType dtype) {
  const Names* names = find(dtype);
  return names == nullptr ? 0 : names->bytes;
}

const char* name_of(DType dtype) {
  const Names* names = find(dtype);
  return names == nullptr ? "BYTES" : names->name;
}

DType dtype_of(const std::string& name) {
  const std::string plain = name.rfind("TYPE_", 0) == 0 ? name.substr(5) : name;
  for (const Names& names : kNames) {
    if (plain == names.name) return names.dtype;
  }
  throw Error("the engine has no elements of type '" + plain.substr(0, 40) + "'");
}

int onnx_of(DType dtype) {
  const Names* names = find(dtype);
  return names == nullptr ? 0 : names->onnx;
}

DType from_onnx(int number) {
  for (const Names& names : kNames) {
    if (names.onnx == number) return names.dtype;
  }
  return DType::invalid;
}

bool is_float(DType dtype) { return dtype == DType::f16 || dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16; }

}  // namespace recsplit
