"""Element types: what Triton, numpy and ONNX call each. The plan and the configs use Triton's names.

Names only, so that reading a plan needs neither numpy nor onnx.
"""

# Triton's name, numpy's, ONNX's (TensorProto and onnx_ir.DataType), bytes. numpy knows bfloat16 once ml_dtypes is imported.
_NAMES = (
    ("BOOL", "bool", "BOOL", 1),
    ("INT8", "int8", "INT8", 1),
    ("INT16", "int16", "INT16", 2),
    ("INT32", "int32", "INT32", 4),
    ("INT64", "int64", "INT64", 8),
    ("UINT8", "uint8", "UINT8", 1),
    ("UINT16", "uint16", "UINT16", 2),
    ("UINT32", "uint32", "UINT32", 4),
    ("UINT64", "uint64", "UINT64", 8),
    ("FP16", "float16", "FLOAT16", 2),
    ("BF16", "bfloat16", "BFLOAT16", 2),
    ("FP32", "float32", "FLOAT", 4),
    ("FP64", "float64", "DOUBLE", 8),
)

#: From Triton's name to numpy's, to ONNX's, to the bytes of one element; from ONNX's name, and from numpy's, to Triton's.
NUMPY = {triton: numpy for triton, numpy, _, _ in _NAMES}
ONNX = {triton: onnx for triton, _, onnx, _ in _NAMES}
SIZE_BYTES = {triton: size_bytes for triton, _, _, size_bytes in _NAMES}
TRITON = {onnx: triton for triton, _, onnx, _ in _NAMES}
TRITON_OF_NUMPY = {numpy: triton for triton, numpy, _, _ in _NAMES}
