"""Tensors of a model file that are too large for onnxruntime to map by itself.

It maps them writable and private, which the system counts as memory that might be needed: a tensor larger than the machine's memory is
refused, and then read into memory. Mapped here, read-only, they are handed over, and stay the file's own pages.
"""

from pathlib import Path

import onnx_ir as ir

from recsplit.graph.flow import Array
from recsplit.graph.source_tables import mapped

#: Smaller ones are onnxruntime's own business.
_LARGE_BYTES = 1 << 30
#: NumPy has no type for the others, or onnxruntime takes none from it.
_DTYPES = (
    ir.DataType.FLOAT,
    ir.DataType.FLOAT16,
    ir.DataType.DOUBLE,
    ir.DataType.INT8,
    ir.DataType.UINT8,
    ir.DataType.INT32,
    ir.DataType.INT64,
)


def large_tensors(path: Path) -> dict[str, Array]:
    """Large initializers that lie in files beside the model at `path`, mapped, by name. Raises InputError where a file is too short."""
    if not any(file.stat().st_size >= _LARGE_BYTES for file in path.parent.iterdir() if file.is_file()):
        return {}
    tensors = {name: value.const_value for name, value in ir.load(path).graph.initializers.items()}
    return {
        name: mapped(tensor)
        for name, tensor in tensors.items()
        if isinstance(tensor, ir.ExternalTensor) and tensor.nbytes >= _LARGE_BYTES and tensor.dtype in _DTYPES
    }
