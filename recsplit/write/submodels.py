"""Writing the sub-models' files: embedding with its tables, dense with its weights, and the whole for the proof."""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir

from recsplit.errors import InputError
from recsplit.graph import border
from recsplit.graph.cut import Cut
from recsplit.graph.find.candidates import table_name
from recsplit.graph.lower.fused_tables import FusedTable
from recsplit.graph.shards.places import Order
from recsplit.graph.source_tables import mapped
from recsplit.graph.stored import read_in_order, read_stored
from recsplit.partition.access import frequencies
from recsplit.plan.dtypes import TRITON
from recsplit.plan.files import BUFFERS_FILE, MODEL_FILE, RECIPE_FILE, TABLES_FILE, WEIGHTS_FILE, WHOLE_FILE
from recsplit.plan.plan import Table, Tensor
from recsplit.plan.recipe import EngineLookup, Recipe, Stored, to_json
from recsplit.rows import stored as narrow
from recsplit.write.row_order import Narrowed, Picked
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


def write(
    cut: Cut, embedding: Path, dense: Path, *, order: Order | None = None, by_engine: bool, progress: Callable[[int, int], None]
) -> None:
    """Write model files into the two version folders, and with `by_engine` the engine's recipe where there is one.

    `order`: the rows of a table, by its name, in the order in which they are to lie. Raises RecsplitError where the disk is full.
    """
    maps = {} if order is None else {table.value.name or "": order_map(table, order) for table in cut.fused}
    for model in (cut.embedding, cut.whole):
        read_in_order(model, maps)
        read_stored(model, by_name(cut.fused))
    tensors = write_tables(cut, embedding, order, tuple(maps.values()), progress=progress)
    save(cut.embedding, embedding / MODEL_FILE, tensors)
    save(cut.whole, embedding / WHOLE_FILE, tensors)
    if by_engine and cut.recipe is not None:
        write_recipe(cut, cut.recipe, tensors, maps, embedding)
    write_dense(cut.dense, dense)


def by_name(fused: Iterable[FusedTable]) -> dict[str, FusedTable]:
    """Fused tables by the names of their initializers."""
    return {item.value.name or "": item for item in fused}


def order_map(table: FusedTable, order: Order) -> ir.TensorProtocol:
    """Where each row of a fused table lies once those of its tables lie in `order`: INT32 [rows + 1], made when it is written.

    Raises InputError where there are too many rows for INT32.
    """
    if table.zero_row >= 1 << 31:
        raise InputError(
            f"{table.zero_row:,} rows of {table.dim} numbers lie together, too many to be ordered", hint="leave --order-by out"
        )

    def places() -> ir.TensorProtocol:
        parts = [frequencies.ranks(order(table_name(source))) + np.int32(base) for source, base in table.bases.items()]
        return ir.tensor(np.concatenate([*parts, np.array([table.zero_row], np.int32)]))

    return ir.LazyTensor(places, ir.DataType.INT32, ir.Shape([table.zero_row + 1]), name=f"{table.value.name}_order")


def write_tables(
    cut: Cut,
    folder: Path,
    order: Order | None = None,
    maps: Sequence[ir.TensorProtocol] = (),
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, ir.ExternalTensor]:
    """Write an embedding model's tables, the maps of their order and large buffers; as tensors that lie in the file, by name."""
    entries = [_entry(item, order) for item in cut.fused] + [Entry(item.name or "", (item,)) for item in maps]
    entries += large_others(cut.embedding, [entry.name for entry in entries])
    return {tensor.name or "": tensor for tensor in write_external(entries, folder / TABLES_FILE, progress=progress)}


def write_recipe(
    cut: Cut, recipe: Recipe, tensors: Mapping[str, ir.ExternalTensor], maps: Mapping[str, ir.TensorProtocol], folder: Path
) -> None:
    """Write the engine's recipe beside a model: its tables are those in `tensors`, its small buffers get a file of their own.

    `maps`: of tables whose rows lie in another order than their own.
    """
    fused, kept = cut.fused, write_buffers(cut, tensors, folder)
    whole = dataclasses.replace(
        recipe,
        tables=tuple(stored_rows(table, tensors[table.value.name or ""], table.zero_row + 1) for table in fused),
        lookups=tuple(_ordered(lookup, fused, tensors, maps, kept) for lookup in recipe.lookups),
        buffers=tuple(kept),
    )
    (folder / RECIPE_FILE).write_text(to_json([whole]), encoding="utf-8")


def write_buffers(cut: Cut, tensors: Mapping[str, ir.ExternalTensor], folder: Path) -> list[Stored]:
    """Where the buffers of a cut's recipe lie: those that aren't in `tensors` are written into a file of their own."""
    small = [Entry(value.name or "", (data_of(value),)) for value in cut.buffers if value.name not in tensors]
    tensors = {**tensors, **({tensor.name or "": tensor for tensor in write_external(small, folder / BUFFERS_FILE)} if small else {})}
    return [stored(tensors[value.name or ""]) for value in cut.buffers]


def stored(tensor: ir.ExternalTensor) -> Stored:
    """Where numbers lie, as a recipe has it."""
    return Stored(str(tensor.location), tensor.offset or 0, TRITON[tensor.dtype.name], size=math.prod(tensor.shape.numpy()))


def _ordered(
    lookup: EngineLookup,
    fused: Sequence[FusedTable],
    tensors: Mapping[str, ir.ExternalTensor],
    maps: Mapping[str, ir.TensorProtocol],
    buffers: list[Stored],
) -> EngineLookup:
    """A lookup that reads its table by the part of the map that is the table's, which is added to `buffers`."""
    assert lookup.table is not None
    name = fused[lookup.table].value.name or ""
    if name not in maps:
        return lookup
    whole = tensors[maps[name].name or ""]
    part = Stored(str(whole.location), (whole.offset or 0) + 4 * lookup.base, "INT32", size=lookup.rows)
    if part not in buffers:
        buffers.append(part)
    return dataclasses.replace(lookup, order=buffers.index(part), fallback=int(mapped(whole)[lookup.fallback]))


def stored_rows(table: FusedTable, tensor: ir.ExternalTensor, rows: int) -> Stored:
    """Where rows of a fused table lie, as a recipe has it."""
    dtype = dtype_of(table)
    return Stored(
        str(tensor.location), tensor.offset or 0, dtype, rows=rows, dim=table.dim, stored=None if table.stored == dtype else table.stored
    )


def dtype_of(table: FusedTable) -> str:
    """Triton's dtype of the numbers that a fused table's rows stand for."""
    return TRITON[data_of(table.sources[0]).dtype.name]


def as_stored(table: FusedTable, source: ir.TensorProtocol | Picked) -> ir.TensorProtocol | Picked | Narrowed:
    """Rows of a fused table as they are to lie in the file."""
    return source if table.stored == dtype_of(table) else Narrowed(source, table.stored)


def _entry(fused: FusedTable, order: Order | None) -> Entry:
    """Tables end to end, and the row that means zeros."""
    sources = tuple(as_stored(fused, _in_order(table, order)) for table in fused.sources)
    if not any(fused.zeros):
        return Entry(fused.value.name or "", sources, zero_rows=1)
    dtype = sources[0].dtype
    return Entry(fused.value.name or "", (*sources, ir.tensor(np.array([fused.zeros], dtype.numpy()), dtype=dtype)))


def _in_order(table: ir.Value, order: Order | None) -> ir.TensorProtocol | Picked:
    data = data_of(table)
    return data if order is None else Picked(data, partial(order, table_name(table)), int(data.shape.numpy()[0]))


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
    return Interface(tuple(map(border.tensor, model.graph.inputs)), tuple(map(border.tensor, model.graph.outputs)))


def tables(cut: Cut) -> tuple[Table, ...]:
    """The tables on the embedding side, in the order in which they lie in the file."""
    embedding_tables = []
    for fused in cut.fused:
        for value in fused.sources:
            data = data_of(value)
            rows, dim = (int(size) for size in data.shape.numpy())
            row_bytes = narrow.row_bytes(fused.stored, dim, int(data.dtype.itemsize))
            embedding_tables.append(Table(table_name(value), rows, dim, TRITON[data.dtype.name], fused.stored, rows * row_bytes))
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
