"""The models of a sharded build: from ids to places of rows, and each shard's rows to its part of the pooled vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from recsplit.graph import measure
from recsplit.graph.emit import Emit
from recsplit.graph.extract import part
from recsplit.graph.lower.fused_tables import FusedTable
from recsplit.graph.shards.beside import Side, free
from recsplit.graph.shards.joins import Maxima
from recsplit.graph.shards.places import TablePlaces, to_places
from recsplit.plan.files import PLACES_FILE, TABLES_FILE
from recsplit.plan.plan import UNKNOWN_IDS, Partial


@dataclass(frozen=True)
class ShardTable:
    """A shard's rows of a fused table: places [first, last), then a row of zeros, then, if `lowest`, one of the lowest number."""

    name: str
    layout: TablePlaces
    first: int
    last: int
    lowest: bool

    @property
    def zero_row(self) -> int:
        """What foreign places read."""
        return self.last - self.first

    @property
    def lowest_row(self) -> int | None:
        """What foreign places read that go into a maximum."""
        return self.zero_row + 1 if self.lowest else None

    @property
    def rows(self) -> int:
        """All that lie in the shard's file."""
        return self.zero_row + (2 if self.lowest else 1)


@dataclass(frozen=True)
class ShardPart:
    """A shard's model and what its initializers of `tables`' names are to hold.

    `partials`: what it gives of each boundary tensor. `places`: the places tensors that read its rows.
    """

    model: ir.Model
    partials: tuple[Partial, ...]
    tables: tuple[ShardTable, ...]
    places: Mapping[str, ShardTable]


@dataclass(frozen=True)
class Read:
    """A Gather on a fused table: its names, and the places tensor that will replace its rows."""

    gather: str
    places: str
    layout: TablePlaces
    dims: tuple[measure.Dim, ...]
    maxima: Maxima


def _values(model: ir.Model) -> dict[str, ir.Value]:
    """All values of a model by name."""
    outputs_by_name = {value.name or "": value for node in model.graph for value in node.outputs}
    return outputs_by_name | {value.name or "": value for value in (*model.graph.inputs, *model.graph.initializers.values())}


def _copy(model: ir.Model, role: str) -> ir.Model:
    return part(model, model.graph.inputs, model.graph.outputs, role)


def embedding_model(model: ir.Model, reads: Sequence[Read], sides: Sequence[Side]) -> tuple[ir.Model, dict[str, TablePlaces]]:
    """From the clients' inputs to places, what else crosses, and marks; and the maps it needs, by name."""
    model = _copy(model, "embedding")
    emit = Emit(model, "recsplit/places")
    values, nodes = _values(model), {node.name: node for node in model.graph}
    maps: dict[int, ir.Value] = {}
    for read in reads:
        layout = read.layout
        if layout.mapped and id(layout) not in maps:
            name = emit.names.fresh(f"{layout.fused.value.name}_places")
            shape = ir.Shape([layout.map_size()])
            tensor = ir.ExternalTensor(PLACES_FILE, 0, layout.map_size() * 4, ir.DataType.INT32, shape=shape, name=name)
            maps[id(layout)] = ir.val(name, dtype=ir.DataType.INT32, shape=[layout.map_size()], const_value=tensor)
            model.graph.register_initializer(maps[id(layout)])
    crossing_values = []
    for read in reads:
        row = nodes[read.gather].inputs[1]
        assert row is not None
        crossing_values.append(
            _named(to_places(emit, read.layout, row, maps.get(id(read.layout))), read.places, ir.DataType.INT32, read.dims)
        )
    for side in sides:
        value = values[side.value]
        if not value.is_graph_input():
            crossing_values.append(_named(value, side.name, side.dtype, side.dims))
    marks = [value for value in model.graph.outputs if value.name == UNKNOWN_IDS]
    by_id = {id(read.layout): read.layout for read in reads}
    return part(model, model.graph.inputs, [*crossing_values, *marks], "embedding"), {
        value.name or "": by_id[key] for key, value in maps.items()
    }


def _named(value: ir.Value, name: str, dtype: ir.DataType, dims: Sequence[measure.Dim]) -> ir.Value:
    value.name, value.shape, value.dtype = name, _shape(dims), dtype
    return value


def _shape(dims: Sequence[measure.Dim]) -> ir.Shape:
    return ir.Shape(["batch", *(None if size == -1 else size for size in dims[1:])])


def shard_model(
    model: ir.Model,
    number: int,
    reads: Sequence[Read],
    sides_and_sizes: tuple[Sequence[Side], Mapping[str, list[int]]],
    boundary: Sequence[ir.Value],
    used_names: set[str],
) -> ShardPart:
    """One shard."""
    sides, known = sides_and_sizes
    model = _copy(model, "shard")
    emit = Emit(model, "recsplit/shard")
    nodes, values = {node.name: node for node in model.graph}, _values(model)
    tables = _tables(number, reads)
    inputs, tables_by_places = [], {}
    touched: set[ir.Value] = set()
    for read in reads:
        places = ir.val(read.places, dtype=ir.DataType.INT32, shape=_shape(read.dims))
        model.graph.inputs.append(places)
        inputs.append(places)
        gather = nodes[read.gather]
        table = tables[read.layout.fused.value.name or ""]
        gather.replace_input_with(1, _local(emit, places, table, read))
        if table.last > table.first:
            tables_by_places[read.places] = table
            touched.add(gather.outputs[0])
    for name, table in tables.items():
        _reserve(values[name], table)
    for name, sizes in known.items():
        batch = emit.op("Slice", emit.op("Shape", inputs[0]), emit.const([0]), emit.const([1]))
        ir.convenience.replace_all_uses_with(values[name], emit.op("Concat", batch, emit.const(sizes), axis=0) if sizes else batch)
    common.TopologicalSortPass()(model)
    for node in model.graph:  # in order: whatever is made of own rows
        if any(value in touched for value in node.inputs):
            touched.update(node.outputs)
    partials, outputs = [], []
    for tensor in boundary:
        value = values[tensor.name or ""]
        if value in touched:
            value.name = free(f"{tensor.name}_{number}", used_names)
            partials.append(Partial(tensor.name or "", value.name))
            outputs.append(value)
    for side in sides:
        value = values[side.value]
        if not value.is_graph_input():
            value = _named(value, side.name, side.dtype, side.dims)
        inputs.append(value)
    shard_model = part(model, [*inputs, *(value for value in model.graph.inputs if value not in inputs)], outputs, "shard")
    left = {value.name for value in shard_model.graph.inputs}
    held = tuple(table for name, table in tables.items() if name in shard_model.graph.initializers)
    return ShardPart(shard_model, tuple(partials), held, {name: table for name, table in tables_by_places.items() if name in left})


def _tables(number: int, reads: Sequence[Read]) -> dict[str, ShardTable]:
    """What shard `number` holds of each fused table."""
    tables_by_name = {}
    for read in reads:
        name = read.layout.fused.value.name or ""
        same = [item for item in reads if item.layout is read.layout]
        first, last = read.layout.bounds(number)
        tables_by_name[name] = ShardTable(name, read.layout, first, last, lowest=any(item.maxima is not False for item in same))
    return tables_by_name


def _reserve(value: ir.Value, table: ShardTable) -> None:
    """Let a fused table's initializer be the shard's own, which is yet to be written."""
    fused: FusedTable = table.layout.fused
    assert value.dtype is not None
    shape = [table.rows, fused.dim]
    size = int(shape[0] * shape[1] * value.dtype.itemsize)
    value.const_value = ir.ExternalTensor(TABLES_FILE, 0, size, value.dtype, shape=ir.Shape(shape), name=table.name)
    value.shape = ir.Shape(shape)


def _local(emit: Emit, places: ir.Value, table: ShardTable, read: Read) -> ir.Value:
    """The shard's own rows of places INT32; foreign ones read zeros, or the lowest number where a maximum is taken."""

    def const(data: object) -> ir.Value:
        return emit.const(data, np.int32)  # type: ignore[arg-type]

    if read.maxima is False or not table.lowest:
        foreign = const(table.zero_row)
    elif read.maxima is True:
        foreign = const(table.lowest_row)
    else:
        foreign = const([table.lowest_row if maximum else table.zero_row for maximum in read.maxima])
    if read.maxima is not False:  # the row of zeros is in no shard's range, and takes part in a maximum
        zeros = emit.op("Equal", places, const(read.layout.fused.zero_row))
        foreign = emit.op("Where", zeros, const(table.zero_row), foreign)
    in_shard = emit.op("And", emit.op("GreaterOrEqual", places, const(table.first)), emit.op("Less", places, const(table.last)))
    moved = emit.op("Sub", places, const(table.first)) if table.first else places
    return emit.op("Where", in_shard, moved, foreign, name="rows")
