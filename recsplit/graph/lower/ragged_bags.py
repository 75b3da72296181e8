"""Lowering of ragged bags: padded or in chunks, over rows. No sum takes in vectors of two bags.

Padded: each bag takes as many slots as the longest of the batch; one Reduce pools them. Best where bags are about
equally long, and the form TensorRT likes. In chunks: only the chunks of CHUNK slots that hold an id are read and pooled; what they give
is pooled bag by bag. Best where a few bags are much longer than the rest: one bag of 4000 ids among 1024 makes the padded form read
4000 slots for each, and this one 63 chunks' sums.

A running sum over all ids, differenced at the bags' ends, would be faster still, and is no form: NaN or 1e30 in one bag would stay in the
sum of every bag after it, in other rows, which are other clients'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.engine.reads import Read
from recsplit.graph.find.candidates import tables_of
from recsplit.graph.find.columns import Column
from recsplit.graph.find.ragged import RaggedGroup
from recsplit.graph.flow import Array, Flow, int_of, table_shape
from recsplit.graph.lower.collected import WRONG_LENGTHS, Crossing, Lowering, first_unknown
from recsplit.graph.lower.fused_tables import FusedTable, fallback
from recsplit.graph.lower.pooling import mean, pool, vector_dtype
from recsplit.graph.lower.ragged_inputs import as_rows, elementwise
from recsplit.plan.plan import Pooling

BagForm = Literal["padded", "chunked"]

#: Longest bag over mean bag length from which the form in chunks is the faster one.
SKEW = 8.0

#: Slots of a chunk: about the root of the longest bags, so that neither a bag's chunks nor a chunk's slots are many.
CHUNK = 64


@dataclass(frozen=True)
class _Slots:
    """Ids INT64 and which of them there are, BOOL, both [batch, features, longest]; rows with wrong lengths, BOOL [batch, 1]."""

    ids: ir.Value
    present: ir.Value
    wrong: ir.Value


@dataclass(frozen=True)
class _Feature:
    """One bag of a row: which table, how pooled, which id is padding."""

    index: int
    table: ir.Value
    mode: Pooling
    padding_idx: int


def choose_form(lengths: Array | None) -> BagForm:
    """The form for bags of these measured lengths; padded where nothing was measured."""
    if lengths is None or lengths.size == 0 or float(lengths.mean()) == 0:
        return "padded"
    return "chunked" if float(lengths.max()) / float(lengths.mean()) > SKEW else "padded"


def lower_bags(lowering: Lowering, ragged_group: RaggedGroup, form: BagForm, *, int32_ids: bool) -> None:
    """Lower all lookups of one ragged group and replace its graph inputs by rows."""
    emit, flow = lowering.emit, Flow(lowering.emit.graph)
    values, input_lengths, weights = as_rows(emit, ragged_group, int32_ids=int32_ids)
    input_values = next(value for value in emit.graph.inputs if value.name == ragged_group.bags.values and value is not ragged_group.values)
    inputs = (input_values, input_lengths, weights)
    lengths, wrong = _checked(lowering, values, input_lengths)
    starts = emit.op("CumSum", lengths, emit.const(1), exclusive=1, name="starts")
    longest = emit.op("Max", emit.reduce("ReduceMax", emit.reshape(lengths, [-1]), 0), emit.const(1), name="longest")
    if form == "chunked":
        chunks = emit.op("Div", emit.op("Add", longest, emit.const(CHUNK - 1)), emit.const(CHUNK))
        longest = emit.op("Mul", chunks, emit.const(CHUNK), name="longest")
    slot = emit.op("Range", emit.const(0), longest, emit.const(1))
    present = emit.op("Less", emit.reshape(slot, [1, 1, -1]), emit.unsqueeze(lengths, 2), name="present")  # [batch, features, longest]
    place = emit.op("Add", emit.unsqueeze(starts, 2), emit.reshape(slot, [1, 1, -1]))
    place = emit.op("Where", present, place, emit.const(0))
    for node, shift in zip(ragged_group.nodes, ragged_group.shifts, strict=True):
        jagged = node.op_type == "JaggedBags"
        ids = elementwise(emit, _present(node.inputs[0 if jagged else 1]), ragged_group.values, values)
        ids = ids if ids.dtype == ir.DataType.INT64 else emit.cast(ids, ir.DataType.INT64)
        slots = _Slots(_spread(emit, ids, place), present, wrong)
        scale = None
        factor = node.inputs[2 if jagged else 3] if len(node.inputs) > (2 if jagged else 3) else None
        if factor is not None:
            by_ids = flow.sources(factor) == {ragged_group.values}
            old, new = (ragged_group.values, values) if by_ids else (ragged_group.weights, weights)
            assert old is not None and new is not None
            scale = _spread(emit, elementwise(emit, factor, old, new), place)
        features = [(feature.table, feature.mode, feature.padding_idx) for feature in _features(node)]
        reads = lowering.reads.ragged(ragged_group, inputs, node, features, shift, lowering.position)
        _read(lowering, node, ragged_group, slots, scale, form, shift, reads)


def _checked(lowering: Lowering, values: ir.Value, lengths: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Lengths that fit the slots, and which rows' didn't, BOOL [batch, 1]: negative ones, or more ids than slots.

    Such a row's bags count as empty, and it is marked whatever the policy for unknown ids: else one client's lengths would be read out
    of another's ids, take all memory there is, or fail the whole batch.
    """
    emit = lowering.emit
    huge = emit.const(2**40)  # that many features' lengths add up without overflow
    slots = emit.op("Slice", emit.op("Shape", values), emit.const([1]), emit.const([2]), name="slots")
    fits = emit.op("And", emit.op("GreaterOrEqual", lengths, emit.const(0)), emit.op("Less", lengths, huge))
    claimed = emit.op("Where", fits, lengths, huge)
    wrong = emit.op("Greater", emit.reduce("ReduceSum", claimed, 1, keepdims=True), slots, name="is_wrong")
    return emit.op("Where", wrong, emit.const(0), lengths, name="lengths"), wrong


def _read(
    lowering: Lowering,
    node: ir.Node,
    ragged_group: RaggedGroup,
    slots: _Slots,
    scale: ir.Value | None,
    form: BagForm,
    shift: int | None,
    reads: tuple[Read, ...],
) -> None:
    """One lookup node: check the ids, then pool, dim by dim and pooling by pooling."""
    emit, bags, present = lowering.emit, slots.ids, slots.present
    features = _features(node)
    rows = [(table_shape(feature.table) or (0, 0))[0] for feature in features]
    outside = emit.op("Or", emit.op("Less", bags, emit.const(0)), emit.op("GreaterOrEqual", bags, emit.const(np.reshape(rows, (1, -1, 1)))))
    bad = emit.op("And", outside, present, name="is_unknown")
    first_bad, first_id = (emit.reshape(item, [0, -1]) for item in first_unknown(emit, bad, bags, axis=2))
    client_id = emit.op("Sub", first_id, emit.const(shift)) if shift else first_id
    lowering.mark_wrong_lengths(slots.wrong)
    lowering.mark(emit.op("Or", first_bad, slots.wrong), emit.op("Where", slots.wrong, emit.const(WRONG_LENGTHS), client_id))
    for feature in features:
        columns = None if shift is None else [Column(ragged_group.values, feature.index, shift)]  # a bag's column is its feature
        lowering.describe(feature.table, feature.mode, columns, (ragged_group.bags.values,), 1)
    fallbacks = [fallback(lowering.fused[feature.table], feature.table, lowering.unknown) for feature in features]
    bases = [lowering.fused[feature.table].bases[feature.table] for feature in features]
    zeros = [lowering.fused[feature.table].zero_row for feature in features]
    row = emit.op("Add", bags, emit.const(np.reshape(bases, (1, -1, 1)))) if any(bases) else bags
    row = emit.op("Where", bad, emit.const(np.reshape(fallbacks, (1, -1, 1))), row)
    counted = present
    if any(feature.padding_idx >= 0 for feature in features):
        pads = [feature.padding_idx if feature.padding_idx >= 0 else -1 for feature in features]
        counted = emit.op("And", present, emit.op("Not", emit.op("Equal", bags, emit.const(np.reshape(pads, (1, -1, 1))))))
    row = emit.op("Where", counted, row, emit.const(np.reshape(zeros, (1, -1, 1))), name="rows")
    pieces_by_feature: dict[int, ir.Value] = {}
    groups: dict[tuple[ir.Value, Pooling], list[_Feature]] = {}
    for feature in features:
        groups.setdefault((lowering.fused[feature.table].value, feature.mode), []).append(feature)
    for members in groups.values():
        whole = len(members) == len(features)
        chosen = None if whole else emit.const([feature.index for feature in members])
        picked = [item if whole or item is None else emit.op("Gather", item, chosen, axis=1) for item in (row, counted, scale)]
        pooled = _pool(lowering, members, picked[0], picked[1], picked[2], form)  # type: ignore[arg-type]
        dim = lowering.fused[members[0].table].dim
        by_engine = tuple(reads[feature.index] for feature in members) if reads else ()
        if whole:
            outs = ((node.outputs[0], len(members), (len(members) * dim,)),)
            lowering.crossings.append(Crossing(pooled, dim, outs, reads=by_engine))
            return
        pieces = [emit.op("Gather", pooled, emit.const(index), axis=1) for index in range(len(members))]
        for piece in pieces:
            piece.dtype = vector_dtype(members[0].table)
        lowering.crossings.append(Crossing(pooled, dim, tuple((piece, 1, (dim,)) for piece in pieces), reads=by_engine))
        pieces_by_feature.update({feature.index: piece for feature, piece in zip(members, pieces, strict=True)})
    joined = emit.concat([pieces_by_feature[feature.index] for feature in features], axis=1)
    joined.type = node.outputs[0].type
    producer = joined.producer()
    assert producer is not None
    lowering.dense_nodes.add(producer)
    if node.outputs[0].is_graph_output():
        emit.names.hand_over(node.outputs[0], joined, "lookup")
    ir.convenience.replace_all_uses_with(node.outputs[0], joined, replace_graph_outputs=True)


def _pool(
    lowering: Lowering, members: Sequence[_Feature], row: ir.Value, counted: ir.Value, scale: ir.Value | None, form: BagForm
) -> ir.Value:
    """Pooled vectors [batch, features, dim] for features of one fused table and one pooling."""
    emit, first = lowering.emit, members[0]
    fused, dtype = lowering.fused[first.table], vector_dtype(first.table)
    if form == "padded":
        vectors = emit.op("Gather", fused.value, row, axis=0, name="vectors")
        return pool(emit, vectors, first.mode, axis=2, dtype=dtype, mask=counted, weights=scale)
    return _pool_chunks(emit, fused, first.mode, dtype, row, counted, scale)


def _pool_chunks(
    emit: Emit, fused: FusedTable, mode: Pooling, dtype: ir.DataType, row: ir.Value, counted: ir.Value, scale: ir.Value | None
) -> ir.Value:
    """Pooled vectors [batch, features, dim] of [batch, features, longest] slots, `longest` being a multiple of CHUNK.

    1. The chunks that hold an id, [n, CHUNK], are read and pooled to [n, dim].
    2. Each bag's chunks stand side by side, [batch, features, chunks, dim], zeros for those without an id, and are pooled again.
    """
    by_chunk = [None if item is None else emit.reshape(item, [0, 0, -1, CHUNK]) for item in (row, counted, scale)]
    some = emit.cast(emit.reduce("ReduceMax", emit.cast(_present(by_chunk[1]), ir.DataType.INT32), 3), ir.DataType.BOOL)
    where = emit.op("Transpose", emit.op("NonZero", some), perm=[1, 0])  # [n, 3]
    rows, mask, weights = (None if item is None else emit.op("GatherND", item, where) for item in by_chunk)
    vectors = emit.op("Gather", fused.value, rows, axis=0, name="vectors")
    part_mode: Pooling = "max" if mode == "max" else "sum"
    pooled = pool(emit, vectors, part_mode, axis=1, dtype=dtype, mask=mask, weights=weights)
    zero = emit.const(np.zeros((1, fused.dim)), dtype.numpy(), name="zero")
    before = emit.op("CumSum", emit.cast(emit.reshape(some, [-1]), ir.DataType.INT64), emit.const(0), exclusive=1)
    count = emit.op("Slice", emit.op("Shape", where), emit.const([0]), emit.const([1]))
    place = emit.op("Where", some, emit.op("Reshape", before, emit.op("Shape", some)), count)
    by_bag = emit.op("Gather", emit.concat([pooled, zero], axis=0), place, axis=0)
    total = pool(emit, by_bag, part_mode, axis=2, dtype=dtype, mask=some, weights=None)
    return mean(emit, total, counted, axis=2, dtype=dtype) if mode == "mean" else total


def _spread(emit: Emit, data: ir.Value, place: ir.Value) -> ir.Value:
    """Row-wise values [batch, slots] at `place` [batch, features, longest], as [batch, features, longest]."""
    flat = emit.reshape(place, [0, -1])
    return emit.op("Reshape", emit.op("GatherElements", data, flat, axis=1), emit.op("Shape", place))


def _features(node: ir.Node) -> list[_Feature]:
    tables = tables_of(node)
    if node.op_type == "JaggedBags":
        which, modes = node.attributes["feature_table"].as_ints(), node.attributes["pooling"].as_strings()
        return [_Feature(index, tables[table], _mode(mode), -1) for index, (table, mode) in enumerate(zip(which, modes, strict=True))]
    pad = int_of(node, "padding_idx", -1)
    return [_Feature(0, tables[0], _mode(node.attributes["mode"].as_string()), pad)]


def _mode(text: str) -> Pooling:
    modes: dict[str, Pooling] = {"sum": "sum", "mean": "mean", "max": "max"}
    return modes[text]


def _present(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value
