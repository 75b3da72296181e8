"""Which column of which client input an id comes from, and what was added to it on the way."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from recsplit.graph import measure
from recsplit.graph.flow import Array, constant, int_of, ints_of


@dataclass(frozen=True)
class Column:
    """One id of a row: graph input `source`, its column (None for a one-dimensional input), row = id + shift."""

    source: ir.Value
    column: int | None
    shift: int


def proved(model: ir.Model, values: Sequence[ir.Value], widths: Sequence[int | None]) -> list[tuple[Column, ...] | None]:
    """`trace` of each value, where it holds: the value is computed for large ids, and compared with what was traced.

    Casts that lose something (to BOOL, to UINT8), reshapes that regroup columns, and any other form
    that an exporter writes are then no columns; such ids are computed by the model's own operators.
    """
    traces = [trace(value) if width is not None else None for value, width in zip(values, widths, strict=True)]
    asked = [index for index, columns in enumerate(traces) if columns is not None and len(columns) == widths[index]]
    if not asked:
        return [None] * len(traces)
    run = measure.runner(model, [values[index] for index in asked])
    inputs = measure.feeds(model, 3, 5, np.random.default_rng(0), low=-(2**30), high=2**30)
    got = dict(zip(asked, run(inputs), strict=True))
    holds = {index for index, ids in got.items() if np.array_equal(ids.reshape(3, -1), _read(traces[index] or (), inputs))}
    return [tuple(columns or ()) if index in holds else None for index, columns in enumerate(traces)]


def _read(columns: Sequence[Column], inputs: dict[str, Array]) -> Array:
    """What the columns hold, [batch, columns]."""
    data = [(inputs[column.source.name or ""], column) for column in columns]
    picked = [(array if column.column is None else array[:, column.column]).astype(np.int64) + column.shift for array, column in data]
    return np.stack(picked, axis=1)


def trace(value: ir.Value) -> list[Column] | None:
    """The columns that `value` is made of, in row order; None where an id is computed in any other way.

    `value` must be row after row (measure.rows). Understood: casts, reshapes, slices, splits, gathers of
    constant columns, concatenations, and constants added or subtracted.
    """
    if value.is_graph_input():
        return _input(value)
    node = value.producer()
    if node is None or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten") and node.inputs[0] is not None:
        return trace(node.inputs[0])
    if node.op_type in ("Gather", "Slice", "Split") and node.inputs[0] is not None:
        return _pick(node, value)
    if node.op_type == "Concat":
        return _concat(node)
    if node.op_type in ("Add", "Sub"):
        return _add(node)
    return None


def _input(value: ir.Value) -> list[Column] | None:
    rank = 0 if value.shape is None else len(value.shape)
    if rank == 1:
        return [Column(value, None, 0)]
    if rank == 2 and value.shape is not None and isinstance(value.shape[1], int):
        return [Column(value, index, 0) for index in range(value.shape[1])]
    return None


def _pick(node: ir.Node, value: ir.Value) -> list[Column] | None:
    """Columns chosen out of a rank-2 graph input (deeper ones are rows of rows: not understood)."""
    data = node.inputs[0]
    assert data is not None
    columns = trace(data) if _rank(data) == 2 else None
    if columns is None:
        return None
    if node.op_type == "Gather":
        index = constant(node.inputs[1])
        if index is None or int_of(node, "axis", 0) not in (1, -1):
            return None
        return [columns[int(item)] for item in index.reshape(-1)]
    if node.op_type == "Split":
        sizes = ints_of(node, "split", 1)
        if int_of(node, "axis", 0) not in (1, -1):
            return None
        if sizes is None:
            each = -(-len(columns) // len(node.outputs))
            sizes = [each] * len(node.outputs)
        position = list(node.outputs).index(value)
        return columns[sum(sizes[:position]) : sum(sizes[: position + 1])]
    starts, ends = ints_of(node, "starts", 1), ints_of(node, "ends", 2)
    axes, steps = ints_of(node, "axes", 3), ints_of(node, "steps", 4)
    if starts is None or ends is None:
        return None
    chosen = columns
    for start, end, axis, step in zip(starts, ends, axes or list(range(len(starts))), steps or [1] * len(starts), strict=True):
        if axis in (1, -1):
            chosen = chosen[start:end:step]
        elif (start, step) != (0, 1) or end < 2**31 - 1:
            return None
    return chosen


def _concat(node: ir.Node) -> list[Column] | None:
    if int_of(node, "axis", 0) not in (1, -1) or any(value is None or _rank(value) != 2 for value in node.inputs):
        return None
    parts = [trace(value) for value in node.inputs if value is not None]
    if any(part is None for part in parts):
        return None
    return [column for part in parts if part is not None for column in part]


def _add(node: ir.Node) -> list[Column] | None:
    left, right = node.inputs
    sign = 1 if node.op_type == "Add" else -1
    amount = constant(right)
    base = left
    if amount is None and node.op_type == "Add":
        amount, base = constant(left), right
    columns = trace(base) if base is not None else None
    if columns is None or amount is None or amount.dtype.kind not in "iu" or amount.size not in (1, len(columns)):
        return None
    if amount.size > 1 and (amount.ndim == 0 or amount.shape[-1] != len(columns)):
        return None
    shifts = [int(item) for item in amount.reshape(-1)] * (len(columns) if amount.size == 1 else 1)
    return [Column(column.source, column.column, column.shift + sign * shift) for column, shift in zip(columns, shifts, strict=True)]


def _rank(value: ir.Value) -> int | None:
    """The value's rank, as stored or as its own columns imply."""
    if value.shape is not None:
        return len(value.shape)
    node = value.producer()
    if node is not None and node.op_type in ("Cast", "Identity", "Slice", "Split", "Add", "Sub", "Concat") and node.inputs[0] is not None:
        return _rank(node.inputs[0])
    return None
