"""The tables of a source as numbers, and the question how their rows are to be stored."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from recsplit.errors import InputError
from recsplit.graph.find.candidates import table_name
from recsplit.graph.flow import SHAPE_ONLY, int_of, table_shape, upstream
from recsplit.plan.dtypes import TRITON

#: Bytes of rows that are looked at together.
_BLOCK_BYTES = 4 << 20
#: Kept on an initializer: what else reads it, and which weights of the source it stands for besides its own.
_OTHER_READER, _ALSO = "recsplit.other_reader", "recsplit.also"


@dataclass(frozen=True)
class SourceTable:
    """A table that lookups read: what the user calls it, the source's own weights that it is (several where equal ones
    became one), its size, and Triton's dtype of its numbers.

    `other_reader`: an operator that reads it besides lookups, in words; "": none.
    """

    name: str
    weights: tuple[str, ...]
    rows: int
    dim: int
    dtype: str
    other_reader: str
    tensor: ir.TensorProtocol

    def numbers(self, first: int, last: int) -> NDArray[np.float32]:
        """Rows [first, last) as FP32 [rows, dim]; of a file only these are read. Raises InputError where it ends before."""
        return np.asarray(mapped(self.tensor)[first:last], np.float32)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """All rows, a few MB at a time: the first one's number, and the numbers."""
        rows = mapped(self.tensor)
        step = max(1, _BLOCK_BYTES // (4 * self.dim))
        for first in range(0, self.rows, step):
            yield first, np.asarray(rows[first : first + step], np.float32)


#: From the tables, each once, to how the rows of each are to be stored, as plan.Table has it.
Store = Callable[[Sequence[SourceTable]], Sequence[str]]


def as_they_are(tables: Sequence[SourceTable]) -> Sequence[str]:
    """Every table as the source has it."""
    return [table.dtype for table in tables]


def source_table(value: ir.Value, lookups: Collection[ir.Node]) -> SourceTable:
    """The table of an initializer that `lookups` read."""
    assert value.const_value is not None
    rows, dim = table_shape(value) or (0, 0)
    others = [use.node for use in value.uses() if use.node not in lookups]
    reader = f"{others[0].op_type} {others[0].name!r}" if others else value.metadata_props.get(_OTHER_READER, "")
    weights = (value.name or "", *value.metadata_props.get(_ALSO, "").splitlines())
    return SourceTable(table_name(value), weights, rows, dim, TRITON[value.const_value.dtype.name], reader, value.const_value)


def remember_readers(model: ir.Model) -> None:
    """Note on each weight that may be a table which operator reads it other than by rows, before such reading is folded away.

    For a model as it was loaded: a weight that is tied to a layer's is rounded in the lookups alone, and the source knows one weight only.
    """
    for value in model.graph.initializers.values():
        if table_shape(value) is None:
            continue
        reader = _other_reader(value)
        if reader is not None:
            value.metadata_props[_OTHER_READER] = f"{reader.op_type} {reader.name!r}"


def equal(one: ir.Value, other: ir.Value) -> bool:
    """Whether two initializers hold the same numbers of one type."""
    first, second = one.const_value, other.const_value
    if first is None or second is None or (first.dtype, tuple(first.shape)) != (second.dtype, tuple(second.shape)):
        return False
    return bool(np.array_equal(first.numpy(), second.numpy(), equal_nan=True))


def stand_for(values: Sequence[ir.Value], gone: ir.Value) -> None:
    """Note on those that take the place of a weight that it is another weight of the source, and what reads that."""
    for value in values:
        value.metadata_props[_ALSO] = "\n".join(filter(None, (value.metadata_props.get(_ALSO), gone.name)))
        if _OTHER_READER in gone.metadata_props:
            value.metadata_props[_OTHER_READER] = gone.metadata_props[_OTHER_READER]


def _other_reader(value: ir.Value) -> ir.Node | None:
    for use in value.uses():
        node = use.node
        if node.op_type == "Identity":
            reader = _other_reader(node.outputs[0])
            if reader is not None:
                return reader
        elif node.op_type not in SHAPE_ONLY and node.domain != "recsplit" and not (use.idx == 0 and _reads_rows(node)):
            return node
    return None


def _reads_rows(node: ir.Node) -> bool:
    """Whether an operator may become a lookup: it reads rows by what a client sends. What it reads by constants would be folded away."""
    if node.op_type == "Gather":
        by_row = int_of(node, "axis", 0) in (0, -2)
    else:
        by_row = node.op_type == "GatherND" and int_of(node, "batch_dims", 0) == 0
    ids = node.inputs[1] if len(node.inputs) > 1 else None
    return by_row and ids is not None and any(item.is_graph_input() for item in upstream(ids, data_only=True))


def mapped(tensor: ir.TensorProtocol) -> NDArray[np.generic]:
    """A tensor's elements; those of a file are mapped. Raises InputError where the file is missing or too short."""
    if not isinstance(tensor, ir.ExternalTensor):
        return np.asarray(tensor.numpy())
    path, offset = Path(tensor.path), tensor.offset or 0
    hint = "the model's data files belong beside the model, whole"
    try:
        size = path.stat().st_size
        if size < offset + tensor.nbytes:
            raise InputError(f"{path} ends before tensor {tensor.name!r} does ({tensor.nbytes} bytes from {offset})", hint=hint)
        elements: NDArray[np.generic] = np.memmap(
            path, dtype=tensor.dtype.numpy(), mode="r", offset=offset, shape=tuple(tensor.shape.numpy())
        )
        return elements
    except OSError as error:
        raise InputError(f"the data of tensor {tensor.name!r} can't be read from {path}: {error.strerror}", hint=hint) from error
