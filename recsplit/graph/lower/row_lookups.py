"""Lowering: lookups become a few standard operators over fused tables, packed into few boundary tensors.

Race-free and portable: Gather, Reduce, Where, Concat, Split; never ScatterND, Loop, If or a Sequence. The result
is still one graph, numerically the whole model; cut.py takes it apart at the boundary.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.engine.reads import Read
from recsplit.graph.find.columns import Column
from recsplit.graph.find.row_lookups import RowLookup
from recsplit.graph.flow import int_of, table_shape, upstream
from recsplit.graph.lower.collected import Crossing, Lowering, Plain, first_unknown
from recsplit.graph.lower.fused_tables import fallback
from recsplit.graph.lower.pooling import plain_pooling, pool, vector_dtype


def lower_fixed(lowering: Lowering, lookups: Sequence[RowLookup]) -> None:
    """Lower all lookups whose number of ids a row is fixed, at once.

    1. The ids of all lie side by side, [batch, K], those of a fused table together, plainly pooled ones first.
    2. Each column is compared with its table's bounds, and what is outside is marked.
    3. An id becomes a row of the fused table: its column's shift and its table's base are added.
    4. Padding reads the row of zeros. Before step 5, since an unknown id is no padding.
    5. An unknown id reads what the policy says.
    6. Each fused table is read by one Gather, and its vectors are pooled (_read_group).
    """
    if not lookups:
        return
    emit = lowering.emit
    groups = list(dict.fromkeys(lowering.fused[lookup.table].value for lookup in lookups))
    plain = {lookup.node: not _special(lookup) and lookup.pooling != "graph" for lookup in lookups}
    ordered = sorted(lookups, key=lambda r: (groups.index(lowering.fused[r.table].value), not plain[r.node], r.pooling, r.width or 0))
    reads: dict[ir.Node, tuple[Read, ...]] = {}
    for lookup in ordered:
        shape_by_ids(emit, lookup)
        reads[lookup.node] = lowering.reads.by_rows(lookup, lowering.position)
        lowering.describe(lookup.table, lookup.pooling, lookup.columns, _sources(lookup), lookup.width or 1)
    ids = _side_by_side(lowering, ordered)  # step 1
    columns = [(lookup, shift) for lookup in ordered for shift in _shifts(lookup)]
    rows = [(table_shape(lookup.table) or (0, 0))[0] for lookup, _ in columns]
    numpy_dtype = np.int32 if ids.dtype == ir.DataType.INT32 else np.int64
    low, high = [-shift for _, shift in columns], [size - shift for size, (_, shift) in zip(rows, columns, strict=True)]
    bad = emit.op(  # step 2
        "Or",
        emit.op("Less", ids, emit.const(_scalar(low), numpy_dtype, name="low")),
        emit.op("GreaterOrEqual", ids, emit.const(_scalar(high), numpy_dtype, name="high")),
        name="is_unknown",
    )
    lowering.mark(bad, ids)
    moves = [lowering.fused[lookup.table].bases[lookup.table] + shift for lookup, shift in columns]
    # Step 3.
    row = ids if not any(moves) else emit.op("Add", ids, emit.const(_scalar(moves), numpy_dtype, name="base"))
    fallbacks = [fallback(lowering.fused[lookup.table], lookup.table, lowering.unknown) for lookup, _ in columns]
    if any(lookup.padding_idx >= 0 for lookup in ordered):
        # Step 4. Where there is no padding the smallest number stands, which no table has.
        pads = [lookup.padding_idx - shift if lookup.padding_idx >= 0 else np.iinfo(numpy_dtype).min for lookup, shift in columns]
        padded = emit.op("Equal", ids, emit.const(pads, numpy_dtype, name="padding"))
        zeros = [lowering.fused[lookup.table].zero_row for lookup, _ in columns]
        row = emit.op("Where", padded, emit.const(_scalar(zeros), numpy_dtype, name="zero_row"), row)
    row = emit.op("Where", bad, emit.const(_scalar(fallbacks), numpy_dtype, name="fallback"), row, name="rows")  # step 5
    by_group = [[lookup for lookup in ordered if lowering.fused[lookup.table].value is group] for group in groups]
    sections = emit.split(row, [sum(lookup.width or 0 for lookup in members) for members in by_group], axis=1)
    for members, section in zip(by_group, sections, strict=True):
        _read_group(lowering, members, section, plain, reads)


def lower_varying(lowering: Lowering, lookup: RowLookup) -> None:
    """Lower one lookup whose number of ids a row varies from request to request (a history of any length)."""
    emit, fused = lowering.emit, lowering.fused[lookup.table]
    shape_by_ids(emit, lookup)
    rows, dim = table_shape(lookup.table) or (0, 0)
    ids = lookup.ids if lookup.ids.dtype == ir.DataType.INT64 else emit.cast(lookup.ids, ir.DataType.INT64)
    bad = emit.op("Or", emit.op("Less", ids, emit.const(0)), emit.op("GreaterOrEqual", ids, emit.const(rows)), name="is_unknown")
    # One slot more, of zeros: a history may be empty, and there is no first of nothing.
    padded = [emit.op("Pad", emit.reshape(item, [0, -1]), emit.const([0, 0, 0, 1], name="pads")) for item in (bad, ids)]
    lowering.mark(*first_unknown(emit, *padded, axis=1))
    reads = lowering.reads.by_rows(lookup, lowering.position)
    columns = [Column(lookup.ids, None, 0)] if lookup.ids.is_graph_input() else None
    lowering.describe(lookup.table, lookup.pooling, columns, _sources(lookup), 1)
    row = emit.op("Add", ids, emit.const(fused.bases[lookup.table])) if fused.bases[lookup.table] else ids
    row = emit.op("Where", bad, emit.const(fallback(fused, lookup.table, lowering.unknown)), row, name="rows")
    mask = _mask(emit, lookup)
    if mask is not None:
        row = emit.op("Where", mask, row, emit.const(fused.zero_row))
    vectors = emit.op("Gather", fused.value, row, axis=0, name="vectors")
    if lookup.pooling == "graph":
        _take_over(emit, lookup.node.outputs[0], vectors)
        _cross(lowering, lookup, lookup.out)
    elif lookup.pooling == "none":
        _cross(lowering, lookup, vectors, reads)
    else:
        pooled = pool(emit, vectors, lookup.pooling, axis=1, dtype=vector_dtype(lookup.table), mask=mask, weights=lookup.weights)
        lowering.crossings.append(Crossing(emit.unsqueeze(pooled, 1), dim, ((lookup.out, 1, (dim,)),), reads=reads))


def _read_group(
    lowering: Lowering,
    members: Sequence[RowLookup],
    row: ir.Value,
    plain: Mapping[ir.Node, bool],
    reads: Mapping[ir.Node, tuple[Read, ...]],
) -> None:
    """One Gather for all lookups of a fused table, then pooling run by run.

    1. Plain, not pooled: the vectors cross as they are.
    2. Plain, pooled: bags of one width are pooled together.
    3. Pooled by the model's own operators: these read the vectors in the shape that they had.
    4. With a mask or weights of its own: pooled by itself.
    """
    emit, fused = lowering.emit, lowering.fused[members[0].table]
    vectors = emit.op("Gather", fused.value, row, axis=0, name="vectors")
    runs: list[list[RowLookup]] = []
    for lookup in members:
        last = runs[-1][-1] if runs else None
        if last is not None and plain[lookup.node] and plain[last.node] and _alike(lookup, last):
            runs[-1].append(lookup)
        else:
            runs.append([lookup])
    sections = emit.split(vectors, [sum(lookup.width or 0 for lookup in run) for run in runs], axis=1)
    for run, section in zip(runs, sections, strict=True):
        first, width, bags, dim = run[0], run[0].width or 1, run[0].bags, fused.dim
        by_engine = tuple(read for lookup in run for read in reads[lookup.node])
        if plain[first.node] and first.pooling == "none":  # case 1
            outs, count = tuple((lookup.out, width, _tail(lookup)) for lookup in run), len(run) * width
            plain_section = Plain(vectors, (1,) * count, (plain_pooling("none"),) * count)
            lowering.crossings.append(Crossing(section, dim, outs, plain_section, by_engine))
        elif plain[first.node]:  # case 2
            stacked = emit.reshape(section, [-1, len(run) * bags, width // bags, dim])
            pooled = pool(emit, stacked, first.pooling, axis=2, dtype=vector_dtype(first.table), mask=None, weights=None)
            plain_section = Plain(vectors, (width // bags,) * (len(run) * bags), (plain_pooling(first.pooling),) * (len(run) * bags))
            outs = tuple((lookup.out, bags, (dim,)) for lookup in run)
            lowering.crossings.append(Crossing(pooled, dim, outs, plain_section, by_engine))
        elif first.pooling == "graph":  # case 3
            _take_over(emit, first.node.outputs[0], _as_before(lowering, first, section, dim))
            _cross(lowering, first, first.out)
        else:  # case 4
            mask = _mask(emit, first)
            each = section if bags == 1 else emit.reshape(section, [-1, width // bags, dim])
            pooled = pool(emit, each, first.pooling, axis=1, dtype=vector_dtype(first.table), mask=mask, weights=first.weights)
            outs = ((first.out, bags, (dim,)),)
            lowering.crossings.append(Crossing(emit.reshape(pooled, [-1, bags, dim]), dim, outs, reads=by_engine))


def _alike(one: RowLookup, other: RowLookup) -> bool:
    return (one.pooling, one.width, one.bags) == (other.pooling, other.width, other.bags)


def _tail(lookup: RowLookup) -> tuple[int, ...]:
    """Dims of a lookup's output behind the first one."""
    return tuple(size if isinstance(size, int) else -1 for size in lookup.out_shape[1:])


def _as_before(lowering: Lowering, lookup: RowLookup, section: ir.Value, dim: int) -> ir.Value:
    """Vectors [batch, width, dim] in the shape that the lookup's own output had: the ids' shape, and dim."""
    emit = lowering.emit
    shape = emit.op("Concat", emit.op("Shape", lookup.ids), emit.const([dim], name="dim"), axis=0)
    return emit.op("Reshape", section, shape)


def _cross(lowering: Lowering, lookup: RowLookup, value: ir.Value, reads: tuple[Read, ...] = ()) -> None:
    """Let a value of the model's own shape cross the boundary: packed where its dims are fixed, else alone."""
    emit, dims = lowering.emit, _tail(lookup)
    if len(dims) in (1, 2) and min(dims) > 0:
        packed = emit.unsqueeze(value, 1) if len(dims) == 1 else value
        lowering.crossings.append(Crossing(packed, dims[-1], ((lookup.out, 1 if len(dims) == 1 else dims[0], dims),)))
    else:
        if value is not lookup.out:
            _take_over(emit, lookup.out, value)
        lowering.alone.append(value)
        lowering.alone_reads[value] = reads


def _take_over(emit: Emit, old: ir.Value, new: ir.Value) -> None:
    """Let `new` stand for `old` everywhere."""
    new.type, new.shape = new.type or old.type, new.shape or old.shape
    if old.is_graph_output():
        emit.names.hand_over(old, new, "lookup")
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def shape_by_ids(emit: Emit, lookup: RowLookup) -> None:
    """Who reads only the shape of a lookup whose vectors don't cross gets it from the ids: the lookup is about to leave."""
    if lookup.out is lookup.node.outputs[0] or lookup.node.op_type != "Gather":
        return
    vectors, dim = lookup.node.outputs[0], (table_shape(lookup.table) or (0, 0))[1]
    for node in [node for node in vectors.consumers() if node.op_type in ("Shape", "Size")]:
        shape = emit.op("Concat", emit.op("Shape", lookup.ids), emit.const([dim], name="dim"), axis=0)
        if node.op_type == "Size":
            shape = emit.op("ReduceProd", shape, keepdims=0)
        elif "start" in node.attributes or "end" in node.attributes:
            shape = emit.op("Slice", shape, emit.const([int_of(node, "start", 0)]), emit.const([int_of(node, "end", 2**31)]))
        shape.type, shape.shape = node.outputs[0].type, node.outputs[0].shape
        ir.convenience.replace_all_uses_with(node.outputs[0], shape, replace_graph_outputs=True)


def _special(lookup: RowLookup) -> bool:
    """Pooling that needs a mask or weights of its own; a padded sum doesn't: padding reads the zero row."""
    return lookup.weights is not None or (lookup.padding_idx >= 0 and lookup.pooling != "sum")


def _mask(emit: Emit, lookup: RowLookup) -> ir.Value | None:
    if lookup.padding_idx < 0:
        return None
    ids = lookup.ids if lookup.ids.dtype == ir.DataType.INT64 else emit.cast(lookup.ids, ir.DataType.INT64)
    return emit.op("Not", emit.op("Equal", ids, emit.const(lookup.padding_idx)))


def _side_by_side(lowering: Lowering, lookups: Sequence[RowLookup]) -> ir.Value:
    """All ids of a row side by side, [batch, K]; INT32 if every one comes straight from an INT32 input."""
    emit = lowering.emit
    pieces: list[ir.Value | list[Column]] = []
    for lookup in lookups:
        if lookup.columns is None:
            piece = emit.reshape(lookup.ids, [-1, lookup.width or 1])
            piece.type = lookup.ids.type
            pieces.append(piece)
            continue
        for column in lookup.columns:
            last = pieces[-1] if pieces else None
            if isinstance(last, list) and last[-1].source is column.source and column.column is not None:
                last.append(column)
            else:
                pieces.append([column])
    flat: dict[ir.Value, ir.Value] = {}  # inputs of another rank than two, as columns
    values = [piece if isinstance(piece, ir.Value) else _pick(emit, piece, flat) for piece in pieces]
    narrow = all(value.dtype == ir.DataType.INT32 for value in values)
    narrow = narrow and all(fused.zero_row < 2**31 for fused in lowering.fused.values())
    narrow = narrow and all(abs(shift) < 2**30 for lookup in lookups for shift in _shifts(lookup))
    dtype = ir.DataType.INT32 if narrow else ir.DataType.INT64
    joined = emit.concat([value if value.dtype == dtype else emit.cast(value, dtype) for value in values], axis=1, name="ids")
    joined.dtype = dtype
    return joined


def _pick(emit: Emit, columns: Sequence[Column], flat: dict[ir.Value, ir.Value]) -> ir.Value:
    """Columns of one input, in order, as [batch, n]; the input itself where it is just those."""
    source = columns[0].source
    numbers = [column.column or 0 for column in columns]
    assert source.shape is not None
    if len(source.shape) != 2 and source not in flat:
        flat[source] = emit.unsqueeze(source, 1) if len(source.shape) == 1 else emit.op("Flatten", source, axis=1)
    data = flat.get(source, source)
    if numbers == list(range(math.prod(size for size in source.shape[1:] if isinstance(size, int)))):
        picked = data
    elif numbers == list(range(numbers[0], numbers[-1] + 1)):
        bounds = (emit.const([numbers[0]]), emit.const([numbers[-1] + 1]), emit.const([1]))
        picked = emit.op("Slice", data, *bounds)
    else:
        picked = emit.op("Gather", data, emit.const(numbers, name="columns"), axis=1)
    picked.type = source.type
    return picked


def _shifts(lookup: RowLookup) -> list[int]:
    """What turns each id of the row, as it stands side by side, into a row of the table."""
    return [column.shift for column in lookup.columns] if lookup.columns is not None else [0] * (lookup.width or 1)


def _scalar(numbers: Sequence[int]) -> int | list[int]:
    """One number where all are the same: broadcasting a scalar is cheaper and the graph easier to read."""
    return numbers[0] if len(set(numbers)) == 1 else list(numbers)


def _sources(lookup: RowLookup) -> tuple[str, ...]:
    """Names of the graph inputs whose data reach the ids."""
    return tuple(sorted(value.name for value in upstream(lookup.ids, data_only=True) if value.is_graph_input() and value.name))
