"""Lowering of ragged bags: padded or cumulative, over rows.

Padded: each bag takes as many slots as the longest of the batch; one Reduce pools them. Best where bags are about
equally long, and the form TensorRT likes. Cumulative: only the ids that are there are read; their running sum in
float64 is differenced at the bags' ends. Best where a few bags are much longer than the rest (facts: one bag of 4000
ids among 1024 costs the padded form 90 ms and the cumulative one 0.4-0.8 ms).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.find.candidates import tables_of
from recsplit.graph.find.columns import Column
from recsplit.graph.find.ragged import RaggedGroup, as_rows, elementwise
from recsplit.graph.flow import Array, int_of, table_shape
from recsplit.graph.lower.collected import Crossing, Lowering, first_unknown
from recsplit.graph.lower.fused_tables import fallback
from recsplit.graph.lower.pooling import pool, vector_dtype
from recsplit.plan.plan import Pooling

#: Stands in `unknown_ids` for the id where a row's lengths are negative or claim more ids than it has slots.
WRONG_LENGTHS = -(2**63)

BagForm = Literal["padded", "cumulative"]

#: Longest bag over mean bag length from which the cumulative form is the faster one.
SKEW = 8.0


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
    return "cumulative" if float(lengths.max()) / float(lengths.mean()) > SKEW else "padded"


def lower_bags(lowering: Lowering, ragged_group: RaggedGroup, form: BagForm, *, int32_ids: bool) -> None:
    """Lower all lookups of one ragged group and replace its graph inputs by rows."""
    emit = lowering.emit
    values, input_lengths, weights = as_rows(emit, ragged_group, int32_ids=int32_ids)
    lengths, wrong = _checked(lowering, values, input_lengths)
    starts = emit.op("CumSum", lengths, emit.const(1), exclusive=1, name="starts")
    longest = emit.op("Max", emit.reduce("ReduceMax", emit.reshape(lengths, [-1]), 0), emit.const(1), name="longest")
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
        if factor is not None and ragged_group.weights is not None and weights is not None:
            scale = _spread(emit, elementwise(emit, factor, ragged_group.weights, weights), place)
        _read(lowering, node, ragged_group, slots, scale, form, shift)


def _checked(lowering: Lowering, values: ir.Value, lengths: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Lengths that fit the slots, and which rows' didn't, BOOL [batch, 1]: negative ones, or more ids than slots.

    Such a row's bags count as empty, and it is marked as one with an unknown id; a policy without marks points behind
    the slots, where onnxruntime refuses to read. Else one client's lengths would be read out of another's ids, or
    take all memory there is.
    """
    emit = lowering.emit
    huge = emit.const(2**40)  # that many features' lengths add up without overflow
    slots = emit.op("Slice", emit.op("Shape", values), emit.const([1]), emit.const([2]), name="slots")
    claimed = emit.op("Min", emit.op("Where", emit.op("Less", lengths, emit.const(0)), huge, lengths), huge)
    wrong = emit.op("Greater", emit.reduce("ReduceSum", claimed, 1, keepdims=True), slots, name="is_wrong")
    instead = emit.const(0) if lowering.unknown.marks else emit.op("Add", slots, emit.const(1))
    return emit.op("Where", wrong, instead, lengths, name="lengths"), wrong


def _read(
    lowering: Lowering, node: ir.Node, ragged_group: RaggedGroup, slots: _Slots, scale: ir.Value | None, form: BagForm, shift: int | None
) -> None:
    """One lookup node: check the ids, then pool, dim by dim and pooling by pooling."""
    emit, bags, present = lowering.emit, slots.ids, slots.present
    features = _features(node)
    rows = [(table_shape(feature.table) or (0, 0))[0] for feature in features]
    outside = emit.op("Or", emit.op("Less", bags, emit.const(0)), emit.op("GreaterOrEqual", bags, emit.const(np.reshape(rows, (1, -1, 1)))))
    bad = emit.op("And", outside, present, name="is_unknown")
    first_bad, first_id = (emit.reshape(item, [0, -1]) for item in first_unknown(emit, bad, bags, axis=2))
    client_id = emit.op("Sub", first_id, emit.const(shift)) if shift else first_id
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
        if whole:
            lowering.crossings.append(Crossing(pooled, dim, ((node.outputs[0], len(members), (len(members) * dim,)),)))
            return
        pieces = [emit.op("Gather", pooled, emit.const(index), axis=1) for index in range(len(members))]
        for piece in pieces:
            piece.dtype = vector_dtype(members[0].table)
        lowering.crossings.append(Crossing(pooled, dim, tuple((piece, 1, (dim,)) for piece in pieces)))
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
    if form == "padded" or first.mode == "max":
        vectors = emit.op("Gather", fused.value, row, axis=0, name="vectors")
        return pool(emit, vectors, first.mode, axis=2, dtype=dtype, mask=counted, weights=scale)
    where = emit.op("Transpose", emit.op("NonZero", counted), perm=[1, 0])  # [ids, 3], bag after bag
    vectors = emit.op("Gather", fused.value, emit.op("GatherND", row, where), axis=0, name="vectors")
    vectors = emit.cast(vectors, ir.DataType.DOUBLE)
    if scale is not None:
        vectors = emit.op("Mul", vectors, emit.unsqueeze(emit.cast(emit.op("GatherND", scale, where), ir.DataType.DOUBLE), 1))
    running = emit.op("CumSum", vectors, emit.const(0))
    running = emit.op("Concat", emit.const(np.zeros((1, fused.dim)), np.float64, name="zero"), running, axis=0)
    count = emit.reduce("ReduceSum", emit.cast(counted, ir.DataType.INT64), 2)  # [batch, features]
    ends = emit.op("CumSum", emit.reshape(count, [-1]), emit.const(0))
    begins = emit.op("Sub", ends, emit.reshape(count, [-1]))
    total = emit.op("Sub", emit.op("Gather", running, ends, axis=0), emit.op("Gather", running, begins, axis=0))
    if first.mode == "mean":
        size = emit.cast(emit.op("Max", emit.reshape(count, [-1]), emit.const(1)), ir.DataType.DOUBLE)
        total = emit.op("Div", total, emit.unsqueeze(size, 1))
    return emit.reshape(emit.cast(total, dtype), [-1, len(members), fused.dim])


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
