"""Rows of a tensor in an order of one's own, or as they are to be stored, as bytes to be copied: what a build takes of a table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from recsplit.errors import InputError
from recsplit.graph.source_tables import mapped
from recsplit.graph.stored import file_dtype, file_width
from recsplit.rows import stored as narrow

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


@dataclass(frozen=True)
class Narrowed:
    """The rows of `source`, stored in fewer bits, as plan.Table.stored names it."""

    source: onnx_ir.TensorProtocol | Picked
    stored: str

    @property
    def name(self) -> str | None:
        """The source's."""
        return self.source.name

    @property
    def dtype(self) -> onnx_ir.DataType:
        """Of the elements that lie in the file."""
        return file_dtype(self.stored)

    @property
    def shape(self) -> onnx_ir.Shape:
        """[rows, elements of a row in the file]."""
        rows, dim = self.source.shape.numpy()
        return onnx_ir.Shape([rows, file_width(self.stored, int(dim))])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(self.shape.numpy()[1]) * int(self.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return int(self.shape.numpy()[0]) * self.row_bytes


class Gathered:
    """Rows in any order, copied a few MB at a time out of the tensor as it lies in memory, or in its file, which is mapped.

    The mapped pages are the file's own: the kernel takes them back when it needs the memory.
    """

    def __init__(self, picked: Picked) -> None:
        self._row_bytes = picked.row_bytes
        # Opaque values, which are copied whole.
        self._table: NDArray[Any] = _bytes(mapped(picked.tensor)).reshape(-1).view(np.dtype((np.void, picked.row_bytes)))
        self._rows: Any = slice(picked.rows.start, picked.rows.stop) if isinstance(picked.rows, range) else picked.rows()

    def fill(self, view: memoryview, start: int) -> None:
        """Fill `view` with the bytes from `start` on."""
        _fill(view, start, self._row_bytes, lambda first, last: self._table[self._picked(first, last)])

    def _picked(self, first: int, last: int) -> Any:
        if isinstance(self._rows, slice):
            return slice(self._rows.start + first, self._rows.start + last)
        return self._rows[first:last]


class Encoded:
    """Rows in fewer bits, made a few MB at a time."""

    def __init__(self, narrowed: Narrowed) -> None:
        source = narrowed.source
        picked = source if isinstance(source, Picked) else Picked(source, range(int(source.shape.numpy()[0])), int(source.shape.numpy()[0]))
        self._narrowed = narrowed
        self._numbers = mapped(picked.tensor)
        self._rows: Any = picked.rows if isinstance(picked.rows, range) else picked.rows()

    def fill(self, view: memoryview, start: int) -> None:
        """Fill `view` with the bytes from `start` on. Raises InputError where a number can't be stored so."""
        _fill(view, start, self._narrowed.row_bytes, self._encoded)

    def _encoded(self, first: int, last: int) -> NDArray[Any]:
        rows = self._rows[first:last]
        numbers = self._numbers[rows.start : rows.stop] if isinstance(rows, range) else self._numbers[rows]
        try:
            return narrow.encode(np.asarray(numbers, np.float32), self._narrowed.stored)
        except ValueError as error:
            table, stored = self._narrowed.name, self._narrowed.stored
            raise InputError(f"table {table!r} can't be stored as {stored}: {error}", hint="store it as it is") from error


def _fill(view: memoryview, start: int, row_bytes: int, rows: Callable[[int, int], NDArray[Any]]) -> None:
    """Fill `view` with bytes from `start` on of rows, which `rows` gives from one number to another."""
    first, last = start // row_bytes, -(-(start + len(view)) // row_bytes)
    skipped = start - first * row_bytes
    view[:] = _bytes(rows(first, last)).reshape(-1)[skipped : skipped + len(view)].data


def _bytes(data: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(data).view(np.uint8)
