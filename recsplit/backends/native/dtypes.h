// Element types: Triton's names and numbers, and the bytes of one element.
#pragma once

#include <cstdint>
#include <string>

namespace recsplit {

// The numbers are those of TRITONSERVER_DataType.
enum class DType : int { invalid = 0, boolean = 1, u8 = 2, u16 = 3, u32 = 4, u64 = 5, i8 = 6, i16 = 7, i32 = 8, i64 = 9, f16 = 10, f32 = 11, f64 = 12, bytes = 13, bf16 = 14 };

size_t size_bytes(DType dtype);
const char* name_of(DType dtype);
// The type of Triton's name, with or without "TYPE_" before it. Throws Error of any other.
DType dtype_of(const std::string& name);
// The number of ONNX's TensorProto.DataType (and of ONNX Runtime's ONNXTensorElementDataType), and back; invalid for what neither has.
int onnx_of(DType dtype);
DType from_onnx(int number);
bool is_float(DType dtype);

}  // namespace recsplit
