"""Writing the sub-models' files: embedding with its tables, dense with its weights, and the whole for the proof."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from recsplit.graph.cut import Cut
from recsplit.graph.find.candidates import table_name
from recsplit.graph.lower.fused_tables import FusedTable
from recsplit.plan.dtypes import TRITON
from recsplit.plan.files import MODEL_FILE, TABLES_FILE, WEIGHTS_FILE, WHOLE_FILE
from recsplit.plan.plan import Table, Tensor
from recsplit.write.tables import Entry, write_external

#: Weights larger than this lie beside the dense model, where instances share them.
_INLINE_BYTES = 1024
#: Integers up to this size lie in the model: onnxruntime reads sizes and shapes before it opens any other file.
_INLINE_INTEGER_BYTES = 1 << 16


@dataclass(frozen=True)
class Interface:
    """A model's inputs and outputs as Triton has them."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def write(cut: Cut, embedding: Path, dense: Path, *, progress: Callable[[int, int], None]) -> None:
    """Write model files into the two version folders. Raises RecsplitError where the disk is full."""
    entries = [_entry(item) for item in cut.fused]
    entries += large_others(cut.embedding, [entry.name for entry in entries])
    tensors = {tensor.name: tensor for tensor in write_external(entries, embedding / TABLES_FILE, progress=progress)}
    save(cut.embedding, embedding / MODEL_FILE, tensors)
    save(cut.whole, embedding / WHOLE_FILE, tensors)
    write_dense(cut.dense, dense)


def _entry(fused: FusedTable) -> Entry:
    """Tables end to end, and the row that means zeros."""
    sources = tuple(data_of(table) for table in fused.sources)
    if not any(fused.zeros):
        return Entry(fused.value.name or "", sources, zero_rows=1)
    dtype = sources[0].dtype
    return Entry(fused.value.name or "", (*sources, ir.tensor(np.array([fused.zeros], dtype.numpy()), dtype=dtype)))


def large_others(model: ir.Model, written: Collection[str]) -> list[Entry]:
    """What an embedding model has besides tables and is too large to lie in it: buffers that map ids to ids."""
    return [
        Entry(name, (data_of(value),))
        for name, value in model.graph.initializers.items()
        if name not in written and _outside(data_of(value))
    ]


def write_dense(model: ir.Model, folder: Path) -> None:
    """Write the dense model, its larger weights beside it. Raises RecsplitError where the disk is full."""
    weights = [Entry(name, (data_of(value),)) for name, value in model.graph.initializers.items() if _outside(data_of(value))]
    tensors = {tensor.name: tensor for tensor in write_external(weights, folder / WEIGHTS_FILE)} if weights else {}
    save(model, folder / MODEL_FILE, tensors)


def save(model: ir.Model, path: Path, tensors: Mapping[str, ir.TensorProtocol]) -> None:
    """Write a model: `tensors` of these names lie in files beside it, the others in it."""
    for name, value in model.graph.initializers.items():
        value.const_value = tensors.get(name) or _loaded(value)
    ir.save(model, path)


def interface(model: ir.Model) -> Interface:
    """Names, dtypes and dims of a model's inputs and outputs, the batch left out; varying dims are -1."""
    return Interface(tuple(_tensor(value) for value in model.graph.inputs), tuple(_tensor(value) for value in model.graph.outputs))


def tables(cut: Cut) -> tuple[Table, ...]:
    """The tables on the embedding side, in the order in which they lie in the file."""
    embedding_tables = []
    for fused in cut.fused:
        for value in fused.sources:
            data = data_of(value)
            rows, dim = (int(size) for size in data.shape.numpy())
            embedding_tables.append(Table(table_name(value), rows, dim, TRITON[data.dtype.name], int(data.nbytes)))
    return tuple(embedding_tables)


def data_of(value: ir.Value) -> ir.TensorProtocol:
    """An initializer's data, which may lie in a file."""
    assert value.const_value is not None
    return value.const_value


def _outside(data: ir.TensorProtocol) -> bool:
    return data.nbytes > (_INLINE_BYTES if data.dtype.is_floating_point() else _INLINE_INTEGER_BYTES)


def _loaded(value: ir.Value) -> ir.TensorProtocol:
    """A small tensor's data in memory: the file it lay in will not be beside the model."""
    data = data_of(value)
    return ir.tensor(data.numpy(), dtype=data.dtype, name=data.name) if isinstance(data, ir.ExternalTensor) else data


def _tensor(value: ir.Value) -> Tensor:
    assert value.name is not None and value.dtype is not None and value.shape is not None
    return Tensor(value.name, TRITON[value.dtype.name], tuple(size if isinstance(size, int) else -1 for size in value.shape[1:]))
