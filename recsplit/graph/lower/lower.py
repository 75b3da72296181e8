"""Lowering: lookups become a few standard operators over fused tables, packed into few boundary tensors.

Race-free and portable: Gather, Reduce, Where, Concat, Split; never ScatterND, Loop, If or a Sequence. The result
is still one graph, numerically the whole model; cut.py takes it apart at the boundary.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.find.columns import Column
from recsplit.graph.find.readings import Reading
from recsplit.graph.flow import table_shape
from recsplit.graph.lower.collected import Lowering, Part, Plain, first_unknown
from recsplit.graph.lower.fused_tables import fallback
from recsplit.graph.lower.pooling import plain_pooling, pool, vector_dtype


def fixed(lowering: Lowering, readings: Sequence[Reading]) -> None:
    """Lower all lookups whose number of ids a row is fixed: ids side by side [batch, K], checked and read at once."""
    if not readings:
        return
    emit = lowering.emit
    groups = list(dict.fromkeys(lowering.fused[reading.table].value for reading in readings))
    plain = {reading.node: not _special(reading) and reading.pooling != "graph" for reading in readings}
    ordered = sorted(readings, key=lambda r: (groups.index(lowering.fused[r.table].value), not plain[r.node], r.pooling, r.width or 0))
    for reading in ordered:
        shape_by_ids(emit, reading)
        sources = ", ".join(sorted({column.source.name or "" for column in reading.columns or ()}) or _sources(reading))
        lowering.describe(reading.table, reading.pooling, reading.columns, sources, reading.width or 1)
    ids = _side_by_side(lowering, ordered)
    columns = [(reading, shift) for reading in ordered for shift in _shifts(reading)]
    rows = [(table_shape(reading.table) or (0, 0))[0] for reading, _ in columns]
    numpy_dtype = np.int32 if ids.dtype == ir.DataType.INT32 else np.int64
    low, high = [-shift for _, shift in columns], [size - shift for size, (_, shift) in zip(rows, columns, strict=True)]
    bad = emit.op(
        "Or",
        emit.op("Less", ids, emit.const(_scalar(low), numpy_dtype, name="low")),
        emit.op("GreaterOrEqual", ids, emit.const(_scalar(high), numpy_dtype, name="high")),
        name="is_unknown",
    )
    lowering.mark(bad, ids)
    moves = [lowering.fused[reading.table].bases[reading.table] + shift for reading, shift in columns]
    row = ids if not any(moves) else emit.op("Add", ids, emit.const(_scalar(moves), numpy_dtype, name="base"))
    fallbacks = [fallback(lowering.fused[reading.table], reading.table, lowering.unknown) for reading, _ in columns]
    if any(reading.padding_idx >= 0 for reading in ordered):
        # Where there is no padding the smallest number stands, which no table has; hence before unknown ids are replaced.
        pads = [reading.padding_idx - shift if reading.padding_idx >= 0 else np.iinfo(numpy_dtype).min for reading, shift in columns]
        padded = emit.op("Equal", ids, emit.const(pads, numpy_dtype, name="padding"))
        zeros = [lowering.fused[reading.table].zero_row for reading, _ in columns]
        row = emit.op("Where", padded, emit.const(_scalar(zeros), numpy_dtype, name="zero_row"), row)
    row = emit.op("Where", bad, emit.const(_scalar(fallbacks), numpy_dtype, name="fallback"), row, name="rows")
    by_group = [[reading for reading in ordered if lowering.fused[reading.table].value is group] for group in groups]
    sections = emit.split(row, [sum(reading.width or 0 for reading in members) for members in by_group], axis=1)
    for members, section in zip(by_group, sections, strict=True):
        _read_group(lowering, members, section, plain)


def varying(lowering: Lowering, reading: Reading) -> None:
    """Lower one lookup whose number of ids a row varies from request to request (a history of any length)."""
    emit, fused = lowering.emit, lowering.fused[reading.table]
    shape_by_ids(emit, reading)
    rows, dim = table_shape(reading.table) or (0, 0)
    ids = reading.ids if reading.ids.dtype == ir.DataType.INT64 else emit.cast(reading.ids, ir.DataType.INT64)
    bad = emit.op("Or", emit.op("Less", ids, emit.const(0)), emit.op("GreaterOrEqual", ids, emit.const(rows)), name="is_unknown")
    # One slot more, of zeros: a history may be empty, and there is no first of nothing.
    padded = [emit.op("Pad", emit.reshape(item, [0, -1]), emit.const([0, 0, 0, 1], name="pads")) for item in (bad, ids)]
    lowering.mark(*first_unknown(emit, *padded, axis=1))
    columns = [Column(reading.ids, None, 0)] if reading.ids.is_graph_input() else None
    lowering.describe(reading.table, reading.pooling, columns, reading.ids.name or "" if columns else ", ".join(_sources(reading)), 1)
    row = emit.op("Add", ids, emit.const(fused.bases[reading.table])) if fused.bases[reading.table] else ids
    row = emit.op("Where", bad, emit.const(fallback(fused, reading.table, lowering.unknown)), row, name="rows")
    mask = _mask(emit, reading)
    if mask is not None:
        row = emit.op("Where", mask, row, emit.const(fused.zero_row))
    vectors = emit.op("Gather", fused.value, row, axis=0, name="vectors")
    if reading.pooling == "graph":
        _take_over(reading.node.outputs[0], vectors)
        _cross(lowering, reading, reading.out)
    elif reading.pooling == "none":
        _cross(lowering, reading, vectors)
    else:
        pooled = pool(emit, vectors, reading.pooling, axis=1, dtype=vector_dtype(reading.table), mask=mask, weights=reading.weights)
        lowering.parts.append(Part(emit.unsqueeze(pooled, 1), dim, ((reading.out, 1, (dim,)),)))


def _read_group(lowering: Lowering, members: Sequence[Reading], row: ir.Value, plain: Mapping[ir.Node, bool]) -> None:
    """One Gather for all lookups of a fused table, then pooling run by run."""
    emit, fused = lowering.emit, lowering.fused[members[0].table]
    vectors = emit.op("Gather", fused.value, row, axis=0, name="vectors")
    runs: list[list[Reading]] = []
    for reading in members:
        last = runs[-1][-1] if runs else None
        if last is not None and plain[reading.node] and plain[last.node] and _alike(reading, last):
            runs[-1].append(reading)
        else:
            runs.append([reading])
    sections = emit.split(vectors, [sum(reading.width or 0 for reading in run) for run in runs], axis=1)
    for run, section in zip(runs, sections, strict=True):
        first, width, bags, dim = run[0], run[0].width or 1, run[0].bags, fused.dim
        if plain[first.node] and first.pooling == "none":
            outs, count = tuple((reading.out, width, _tail(reading)) for reading in run), len(run) * width
            lowering.parts.append(Part(section, dim, outs, Plain(vectors, (1,) * count, (plain_pooling("none"),) * count)))
        elif plain[first.node]:
            stacked = emit.reshape(section, [-1, len(run) * bags, width // bags, dim])
            pooled = pool(emit, stacked, first.pooling, axis=2, dtype=vector_dtype(first.table), mask=None, weights=None)
            told = Plain(vectors, (width // bags,) * (len(run) * bags), (plain_pooling(first.pooling),) * (len(run) * bags))
            lowering.parts.append(Part(pooled, dim, tuple((reading.out, bags, (dim,)) for reading in run), told))
        elif first.pooling == "graph":
            _take_over(first.node.outputs[0], _as_before(lowering, first, section, dim))
            _cross(lowering, first, first.out)
        else:
            mask = _mask(emit, first)
            each = section if bags == 1 else emit.reshape(section, [-1, width // bags, dim])
            pooled = pool(emit, each, first.pooling, axis=1, dtype=vector_dtype(first.table), mask=mask, weights=first.weights)
            lowering.parts.append(Part(emit.reshape(pooled, [-1, bags, dim]), dim, ((first.out, bags, (dim,)),)))


def _alike(one: Reading, other: Reading) -> bool:
    return (one.pooling, one.width, one.bags) == (other.pooling, other.width, other.bags)


def _tail(reading: Reading) -> tuple[int, ...]:
    """Dims of a reading's output behind the first one."""
    return tuple(size if isinstance(size, int) else -1 for size in reading.out_shape[1:])


def _as_before(lowering: Lowering, reading: Reading, section: ir.Value, dim: int) -> ir.Value:
    """Vectors [batch, width, dim] in the shape that the lookup's own output had: the ids' shape, and dim."""
    emit = lowering.emit
    shape = emit.op("Concat", emit.op("Shape", reading.ids), emit.const([dim], name="dim"), axis=0)
    return emit.op("Reshape", section, shape)


def _cross(lowering: Lowering, reading: Reading, value: ir.Value) -> None:
    """Let a value of the model's own shape cross the boundary: packed where its dims are fixed, else alone."""
    emit, dims = lowering.emit, _tail(reading)
    if len(dims) in (1, 2) and min(dims) > 0:
        packed = emit.unsqueeze(value, 1) if len(dims) == 1 else value
        lowering.parts.append(Part(packed, dims[-1], ((reading.out, 1 if len(dims) == 1 else dims[0], dims),)))
    else:
        if value is not reading.out:
            _take_over(reading.out, value)
        lowering.alone.append(value)


def _take_over(old: ir.Value, new: ir.Value) -> None:
    """Let `new` stand for `old` everywhere."""
    new.type, new.shape = new.type or old.type, new.shape or old.shape
    if old.is_graph_output():
        name = old.name
        old.name, new.name = f"{name}/lookup", name
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def shape_by_ids(emit: Emit, reading: Reading) -> None:
    """Who reads only the shape of a lookup whose vectors don't cross gets it from the ids: the lookup is about to leave."""
    if reading.out is reading.node.outputs[0] or reading.node.op_type != "Gather":
        return
    vectors, dim = reading.node.outputs[0], (table_shape(reading.table) or (0, 0))[1]
    for node in [node for node in vectors.consumers() if node.op_type in ("Shape", "Size")]:
        shape = emit.op("Concat", emit.op("Shape", reading.ids), emit.const([dim], name="dim"), axis=0)
        if node.op_type == "Size":
            shape = emit.op("ReduceProd", shape, keepdims=0)
        elif "start" in node.attributes or "end" in node.attributes:
            start = node.attributes["start"].as_int() if "start" in node.attributes else 0
            end = node.attributes["end"].as_int() if "end" in node.attributes else 2**31
            shape = emit.op("Slice", shape, emit.const([start]), emit.const([end]))
        shape.type, shape.shape = node.outputs[0].type, node.outputs[0].shape
        ir.convenience.replace_all_uses_with(node.outputs[0], shape, replace_graph_outputs=True)


def _special(reading: Reading) -> bool:
    """Pooling that needs a mask or weights of its own; a padded sum doesn't: padding reads the zero row."""
    return reading.weights is not None or (reading.padding_idx >= 0 and reading.pooling != "sum")


def _mask(emit: Emit, reading: Reading) -> ir.Value | None:
    if reading.padding_idx < 0:
        return None
    ids = reading.ids if reading.ids.dtype == ir.DataType.INT64 else emit.cast(reading.ids, ir.DataType.INT64)
    return emit.op("Not", emit.op("Equal", ids, emit.const(reading.padding_idx)))


def _side_by_side(lowering: Lowering, readings: Sequence[Reading]) -> ir.Value:
    """All ids of a row side by side, [batch, K]; INT32 if every one comes straight from an INT32 input."""
    emit = lowering.emit
    pieces: list[ir.Value | list[Column]] = []
    for reading in readings:
        if reading.columns is None:
            piece = emit.reshape(reading.ids, [-1, reading.width or 1])
            piece.type = reading.ids.type
            pieces.append(piece)
            continue
        for column in reading.columns:
            last = pieces[-1] if pieces else None
            if isinstance(last, list) and last[-1].source is column.source and column.column is not None:
                last.append(column)
            else:
                pieces.append([column])
    alone: dict[ir.Value, ir.Value] = {}  # one-dimensional inputs, as columns
    values = [piece if isinstance(piece, ir.Value) else _pick(emit, piece, alone) for piece in pieces]
    narrow = all(value.dtype == ir.DataType.INT32 for value in values)
    narrow = narrow and all(fused.zero_row < 2**31 for fused in lowering.fused.values())
    narrow = narrow and all(abs(shift) < 2**30 for reading in readings for shift in _shifts(reading))
    dtype = ir.DataType.INT32 if narrow else ir.DataType.INT64
    joined = emit.concat([value if value.dtype == dtype else emit.cast(value, dtype) for value in values], axis=1, name="ids")
    joined.dtype = dtype
    return joined


def _pick(emit: Emit, columns: Sequence[Column], alone: dict[ir.Value, ir.Value]) -> ir.Value:
    """Columns of one input, in order, as [batch, n]; the input itself where it is just those."""
    source = columns[0].source
    numbers = [column.column for column in columns if column.column is not None]
    if not numbers:
        picked = alone[source] if source in alone else emit.unsqueeze(source, 1)
        alone[source] = picked
    elif source.shape is not None and numbers == list(range(int(source.shape[1]))):  # type: ignore[arg-type]
        return source
    elif numbers == list(range(numbers[0], numbers[-1] + 1)):
        bounds = (emit.const([numbers[0]]), emit.const([numbers[-1] + 1]), emit.const([1]))
        picked = emit.op("Slice", source, *bounds)
    else:
        picked = emit.op("Gather", source, emit.const(numbers, name="columns"), axis=1)
    picked.type = source.type
    return picked


def _shifts(reading: Reading) -> list[int]:
    """What turns each id of the row, as it stands side by side, into a row of the table."""
    return [column.shift for column in reading.columns] if reading.columns is not None else [0] * (reading.width or 1)


def _scalar(numbers: Sequence[int]) -> int | list[int]:
    """One number where all are the same: broadcasting a scalar is cheaper and the graph easier to read."""
    return numbers[0] if len(set(numbers)) == 1 else list(numbers)


def _sources(reading: Reading) -> list[str]:
    """Names of the graph inputs that reach the ids."""
    seen: set[ir.Value] = set()
    stack, names = [reading.ids], set()
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        if value.is_graph_input() and value.name:
            names.add(value.name)
        producer = value.producer()
        if producer is not None and producer.op_type != "Shape":
            stack.extend(item for item in producer.inputs if item is not None)
    return sorted(names)
