"""Rows of a tensor in an order of one's own, as bytes to be copied: what a shard takes of a table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from recsplit.errors import InputError

Rows = range | Callable[[], NDArray[np.int32]]


@dataclass(frozen=True)
class Picked:
    """`count` rows of `tensor` [rows, dim]: a range of step 1, or rows in any order, made when they are copied."""

    tensor: onnx_ir.TensorProtocol
    rows: Rows
    count: int

    @property
    def name(self) -> str | None:
        """The tensor's."""
        return self.tensor.name

    @property
    def dtype(self) -> onnx_ir.DataType:
        """The tensor's."""
        return self.tensor.dtype

    @property
    def shape(self) -> onnx_ir.Shape:
        """[count, dim]."""
        return onnx_ir.Shape([self.count, *self.tensor.shape.numpy()[1:]])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(self.tensor.shape.numpy()[1]) * int(self.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.count * self.row_bytes


class Gathered:
    """Rows in any order, copied a few MB at a time out of the tensor as it lies in memory, or in its file, which is mapped.

    The mapped pages are the file's own: the kernel takes them back when it needs the memory.
    """

    def __init__(self, picked: Picked) -> None:
        assert not isinstance(picked.rows, range)
        self._row_bytes = picked.row_bytes
        self._table: NDArray[Any] = _rows(picked.tensor, picked.row_bytes)
        self._rows = picked.rows()

    def fill(self, view: memoryview, start: int) -> None:
        """Fill `view` with the bytes from `start` on."""
        first, last = start // self._row_bytes, -(-(start + len(view)) // self._row_bytes)
        data = self._table[self._rows[first:last]].view(np.uint8)
        skipped = start - first * self._row_bytes
        view[:] = data[skipped : skipped + len(view)].data


def _rows(tensor: onnx_ir.TensorProtocol, row_bytes: int) -> NDArray[Any]:
    """The rows as opaque values of `row_bytes` bytes, which are copied whole. Raises InputError where the file is missing or too short."""
    kind = np.dtype((np.void, row_bytes))
    if not isinstance(tensor, onnx_ir.ExternalTensor):
        return np.ascontiguousarray(tensor.numpy()).view(np.uint8).reshape(-1).view(kind)
    path, offset = Path(tensor.path), tensor.offset or 0
    hint = "the model's data files belong beside the model, whole"
    try:
        size = path.stat().st_size
        if size < offset + tensor.nbytes:
            raise InputError(f"{path} ends before tensor {tensor.name!r} does ({tensor.nbytes} bytes from {offset})", hint=hint)
        return np.memmap(path, dtype=kind, mode="r", offset=offset, shape=(tensor.nbytes // row_bytes,))
    except OSError as error:
        raise InputError(f"the data of tensor {tensor.name!r} can't be read from {path}: {error.strerror}", hint=hint) from error
