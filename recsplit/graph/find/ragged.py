"""Ragged inputs become rows: which client inputs a bag's ids and offsets are, found by trying.

A bag given by (values, offsets | lengths) has no batch dimension on `values`. This module recognises such
groups; graph.lower.ragged_inputs replaces their inputs by `values` [batch, slots] and `lengths` [batch, features] (plan.Bags).
How a computed offsets tensor follows from the input is not matched by structure, of which exporters make
many, but by evaluating it on known bags.
"""

import dataclasses
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from recsplit.graph.extract import evaluate
from recsplit.graph.find.candidates import table_name, tables_of
from recsplit.graph.find.columns import proved
from recsplit.graph.flow import Array, Flow, constant, int_of, is_portable
from recsplit.plan.plan import Bags

_ELEMENTWISE = frozenset(
    "Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Clip Div Equal Floor Greater GreaterOrEqual Identity "
    "LabelEncoder Less LessOrEqual Max Min Mod Mul MurmurHash3 Neg Not Or Round Sign Sub Where Xor".split()
)
FLATTEN = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
#: Features that stacked offsets of an unknown number of rows are tried with.
_MOST_STACKED = 64


@dataclass(frozen=True)
class RaggedGroup:
    """Lookup nodes that read the same ragged input, and the inputs in both forms.

    `shifts`: for each node, what is added to the client's ids to get its rows; None where they are computed otherwise.
    """

    nodes: tuple[ir.Node, ...]
    shifts: tuple[int | None, ...]
    bags: Bags
    values: ir.Value
    offsets: ir.Value
    weights: ir.Value | None


def group(model: ir.Model, nodes: Sequence[ir.Node]) -> tuple[list[RaggedGroup], dict[ir.Node, str]]:
    """The ragged groups among the bag nodes, and for each node that can't be one, the reason."""
    flow = Flow(model.graph)
    groups: dict[ir.Value, RaggedGroup] = {}
    refused: dict[ir.Node, str] = {}
    for node in nodes:
        group_or_reason = _recognise(model, flow, node)
        if isinstance(group_or_reason, str):
            refused[node] = group_or_reason
            continue
        known = groups.get(group_or_reason.values)
        if known is None:
            groups[group_or_reason.values] = group_or_reason
        elif (known.offsets, known.bags.source_row, len(known.bags.features)) == (
            group_or_reason.offsets,
            group_or_reason.bags.source_row,
            len(group_or_reason.bags.features),
        ):
            weights = known.weights or group_or_reason.weights
            if known.weights is not None and group_or_reason.weights not in (None, known.weights):
                refused[node] = f"two lookups read {group_or_reason.values.name!r} with different per-sample weights"
                continue
            bags = known.bags if known.weights is not None else group_or_reason.bags
            bags = dataclasses.replace(bags, features=known.bags.features)
            nodes_so_far, shifts = (*known.nodes, node), (*known.shifts, *group_or_reason.shifts)
            groups[group_or_reason.values] = RaggedGroup(
                nodes_so_far, shifts, bags, group_or_reason.values, group_or_reason.offsets, weights
            )
        else:
            refused[node] = f"input {group_or_reason.values.name!r} is read with two different sets of bags"
    return list(groups.values()), refused


def _recognise(model: ir.Model, flow: Flow, node: ir.Node) -> RaggedGroup | str:
    jagged = node.op_type == "JaggedBags"
    ids, bounds = node.inputs[0 if jagged else 1], node.inputs[1 if jagged else 2]
    weights = node.inputs[2 if jagged else 3] if len(node.inputs) > (2 if jagged else 3) else None
    assert ids is not None and bounds is not None
    values = _one_input(flow, ids)
    offsets = _one_input(flow, bounds)
    if values is None or not _is_elementwise(ids, values):
        return "its ids aren't one input's values taken one by one: several inputs together, or the split of an exported KeyedJaggedTensor"
    if offsets is None:
        return "its offsets don't come from one input alone"
    source_weights = None
    if weights is not None:
        source_weights = _one_input(flow, weights)
        if source_weights is None or not _is_elementwise(weights, source_weights):
            return "its per-sample weights aren't one input's values taken one by one"
        if source_weights is values:  # a mask of the ids, say: no input of its own
            source_weights = None
    form = _try_lengths(model, node, bounds, values, offsets) if jagged else _try_offsets(model, node, bounds, values, offsets)
    if form is None:
        return f"how its offsets follow from input {offsets.name!r} isn't understood"
    row, last, by_length = form
    features = tuple(node.attributes["features"].as_strings()) if jagged else (table_name(tables_of(node)[0]),)
    others = {value.name or "" for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values())}
    bags = Bags(
        values=values.name or "values",
        lengths=_lengths_name(offsets.name or "offsets", row, by_length, others),
        weights=source_weights.name if source_weights is not None else None,
        features=features,
        source_values=values.name or "values",
        source_offsets=None if by_length else offsets.name,
        source_lengths=offsets.name if by_length else None,
        source_weights=source_weights.name if source_weights is not None else None,
        source_row=row,
        include_last_offset=last,
    )
    (columns,) = proved(model, [ids], [1])
    return RaggedGroup((node,), (columns[0].shift if columns is not None else None,), bags, values, offsets, source_weights)


def _lengths_name(name: str, row: int | None, by_length: bool, others: Container[str]) -> str:
    """`lengths` for an input called `offsets`; one name per row of stacked offsets; none that the model has for something else."""
    if by_length:
        return name
    lengths_name = name.replace("offsets", "lengths").replace("offset", "length")
    lengths_name = f"{name}_lengths" if lengths_name == name else lengths_name
    lengths_name = lengths_name if row is None else f"{lengths_name}_{row}"
    return f"{name}_{lengths_name}" if lengths_name in others else lengths_name


def _one_input(flow: Flow, value: ir.Value) -> ir.Value | None:
    sources = flow.sources(value)
    return next(iter(sources)) if len(sources) == 1 else None


def _is_elementwise(value: ir.Value, source: ir.Value) -> bool:
    """Whether `value` is made of `source` element by element, with single constants and buffers of integers only."""
    known: dict[ir.Value, bool] = {}  # what is used twice is asked once: exporters write sums in which each step reads the last one twice

    def holds(item: ir.Value) -> bool:
        if item not in known:
            known[item] = _holds(item, source, holds)
        return known[item]

    return holds(value)


def _holds(value: ir.Value, source: ir.Value, holds: Callable[[ir.Value], bool]) -> bool:
    """The same of one value, where `holds` answers for those that it is made of."""
    if value is source:
        return source.shape is not None and len(source.shape) == 1
    small = constant(value)
    if small is not None:
        return small.size == 1
    node = value.producer()
    if node is None or not is_portable(node):
        return False
    inputs = [item for item in node.inputs if item is not None]
    if node.op_type == "ConstantOfShape":
        return True
    if node.op_type == "Expand":
        single, shape = constant(inputs[0]), inputs[1].producer()
        like = shape.inputs[0] if shape is not None and shape.op_type == "Shape" else None
        to_itself = like is not None and holds(inputs[0]) and holds(like)
        return to_itself or (single is not None and single.size == 1)
    if node.op_type in FLATTEN:
        return holds(inputs[0])
    if node.op_type == "Gather":
        return _is_buffer(inputs[0]) and int_of(node, "axis", 0) in (0, -1) and holds(inputs[1])
    return node.op_type in _ELEMENTWISE and all(holds(item) for item in inputs)


def _is_buffer(value: ir.Value) -> bool:
    """Whether the value is a constant [n] of integers."""
    tensor = value.const_value if value.is_initializer() else None
    return tensor is not None and not tensor.dtype.is_floating_point() and len(tensor.shape) == 1


def _try_offsets(
    model: ir.Model, node: ir.Node, bounds: ir.Value, values: ir.Value, offsets: ir.Value
) -> tuple[int | None, bool, bool] | None:
    """(row, include_last_offset, by_length) under which the bag's offsets come out right on known bags; None if none does."""
    closed = int_of(node, "include_last_offset", 0) == 1
    stacked = offsets.shape is not None and len(offsets.shape) == 2
    features = offsets.shape[0] if stacked and offsets.shape is not None else 1
    lengths = _known_lengths(features if isinstance(features, int) else _MOST_STACKED)
    starts = np.cumsum(lengths, axis=1) - lengths
    ends = np.concatenate([np.zeros((len(lengths), 1), dtype=np.int64), np.cumsum(lengths, axis=1)], axis=1)
    for trial_input, last, by_length in ((starts, False, False), (ends, True, False), (lengths, False, True)):
        feed = trial_input if stacked else trial_input[0]
        got = _value(model, bounds, {offsets: feed, values: np.zeros(int(lengths[0].sum()))})
        for row, expected in enumerate(ends if closed else starts):
            if got is not None and np.array_equal(got.reshape(-1), expected):
                return (row if stacked else None), last, by_length
    return None


def _try_lengths(
    model: ir.Model, node: ir.Node, bounds: ir.Value, values: ir.Value, offsets: ir.Value
) -> tuple[int | None, bool, bool] | None:
    lengths = _known_lengths(len(node.attributes["features"].as_strings())).reshape(-1)
    got = _value(model, bounds, {offsets: lengths, values: np.zeros(int(lengths.sum()))})
    return (None, False, True) if got is not None and np.array_equal(got.reshape(-1), lengths) else None


def _known_lengths(features: int) -> NDArray[np.int64]:
    """Lengths of four bags for each feature, [features, 4]: no two features have the same starts, and all have as many ids."""
    first = np.stack(np.unravel_index(np.arange(features), (features, 2, 2)), axis=1)[:, ::-1] + np.array([1, 0, 2])
    return np.concatenate([first, features + 5 - first.sum(axis=1, keepdims=True)], axis=1)


def _value(model: ir.Model, value: ir.Value, feeds: dict[ir.Value, Array]) -> Array | None:
    try:
        data = {item.name or "": array.astype(item.dtype.numpy()) for item, array in feeds.items() if item.dtype is not None}
        return evaluate(model, [value], data)[0]
    except Exception:  # onnxruntime refuses a wrong hypothesis with errors of its own kinds: the next one is tried
        return None
