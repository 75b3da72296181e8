"""Which column of which client input an id comes from, and what was added to it on the way."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from recsplit.graph import measure
from recsplit.graph.flow import Array, constant, int_of, ints_of


@dataclass(frozen=True)
class Column:
    """One id of a row: graph input `source`, its column (None for a one-dimensional input), row = id + shift.

    Columns of an input of more dimensions than two are those of the input flattened behind the batch, row-major.
    """

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
    picked = [array.reshape(len(array), -1)[:, column.column or 0].astype(np.int64) + column.shift for array, column in data]
    return np.stack(picked, axis=1)


def trace(value: ir.Value) -> list[Column] | None:
    """The columns that `value` is made of, in row order; None where an id is computed in any other way.

    `value` must be row after row (measure.rows). Understood, of inputs of any rank: casts, reshapes, transpositions, slices, splits,
    gathers of constant columns, concatenations, and constants added or subtracted.
    """
    grid = _follow(value)
    return list(grid.cells.reshape(-1)) if grid is not None and grid.in_rows else None


@dataclass(frozen=True)
class _Grid:
    """The columns of one row of a value, in the value's own dimensions, of which dimension `batch` is 1 here.

    `batch` is None where the batch shares its dimension with others, as in [batch * 3]: `cells` are then in row order, [n].
    """

    cells: NDArray[np.object_]
    batch: int | None

    @property
    def in_rows(self) -> bool:
        """Whether the value, read in order, is row after row."""
        return self.batch is None or math.prod(self.cells.shape[: self.batch]) == 1

    def axis(self, axis: int) -> int | None:
        """An axis counted from 0; None for the batch, and where the axes behind it aren't known."""
        axis = axis % self.cells.ndim
        return None if self.batch is None or axis == self.batch else axis


def _follow(value: ir.Value) -> _Grid | None:
    if value.is_graph_input():
        return _input(value)
    node = value.producer()
    data = node.inputs[0] if node is not None and node.inputs else None
    if node is None or data is None or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Concat":
        return _concat(node)
    if node.op_type in ("Add", "Sub"):
        return _add(node)
    if node.op_type not in ("Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Gather", "Slice", "Split"):
        return None
    grid = _follow(data)
    if grid is None or node.op_type in ("Cast", "Identity"):
        return grid
    if node.op_type in ("Reshape", "Flatten") or (node.op_type == "Squeeze" and ints_of(node, "axes", 1) is None):
        return _reshape(grid, value)
    if node.op_type in ("Squeeze", "Unsqueeze"):
        return _ones(grid, node)
    if node.op_type == "Transpose":
        return _transpose(grid, node)
    return _pick(grid, node, value)


def _input(value: ir.Value) -> _Grid | None:
    if value.shape is None:
        return None
    sizes = [size for size in value.shape[1:] if isinstance(size, int)]
    if len(sizes) != len(value.shape) - 1:
        return None
    count = math.prod(sizes)
    cells = np.empty(count, dtype=np.object_)
    cells[:] = [Column(value, index if sizes else None, 0) for index in range(count)]
    return _Grid(cells.reshape(1, *sizes), 0)


def _reshape(grid: _Grid, value: ir.Value) -> _Grid | None:
    """Rows in other dims; where these don't hold one row each, only the order is kept."""
    if not grid.in_rows:
        return None
    cells = grid.cells.reshape(-1)
    rank = 0 if value.shape is None else len(value.shape)
    sizes = [] if value.shape is None else [size for size in value.shape[1:] if isinstance(size, int)]
    if rank == 0 or len(sizes) != rank - 1 or math.prod(sizes) != len(cells):
        return _Grid(cells, None)
    return _Grid(cells.reshape(1, *sizes), 0)


def _ones(grid: _Grid, node: ir.Node) -> _Grid | None:
    """Dimensions of 1 taken out or put in."""
    axes = ints_of(node, "axes", 1)
    if axes is None or grid.batch is None:
        return None
    adding = node.op_type == "Unsqueeze"
    rank = grid.cells.ndim + (len(axes) if adding else 0)
    places = sorted(axis % rank for axis in axes)
    if adding:
        kept = [axis for axis in range(rank) if axis not in places]
        return _Grid(np.expand_dims(grid.cells, tuple(places)), kept[grid.batch])
    if grid.batch in places or any(grid.cells.shape[axis] != 1 for axis in places):
        return None
    return _Grid(np.squeeze(grid.cells, tuple(places)), grid.batch - sum(axis < grid.batch for axis in places))


def _transpose(grid: _Grid, node: ir.Node) -> _Grid | None:
    permutation = list(node.attributes.get_ints("perm") or reversed(range(grid.cells.ndim)))
    return None if grid.batch is None else _Grid(grid.cells.transpose(permutation), permutation.index(grid.batch))


def _pick(grid: _Grid, node: ir.Node, value: ir.Value) -> _Grid | None:
    """Columns chosen along axes that aren't the batch."""
    if node.op_type == "Slice":
        return _slice(grid, node)
    axis = grid.axis(int_of(node, "axis", 0))
    if axis is None or grid.batch is None:
        return None
    size = grid.cells.shape[axis]
    if node.op_type == "Gather":
        numbers = constant(node.inputs[1])
        index = None if numbers is None else numbers.astype(np.int64)
        if index is None or np.any(index < -size) or np.any(index >= size):
            return None
        return _Grid(np.take(grid.cells, index, axis), grid.batch + (index.ndim - 1 if axis < grid.batch else 0))
    sizes = ints_of(node, "split", 1)
    if sizes is None:
        each = -(-size // len(node.outputs))
        sizes = [each] * len(node.outputs)
    start = sum(sizes[: list(node.outputs).index(value)])
    stop = start + sizes[list(node.outputs).index(value)]
    return _Grid(np.take(grid.cells, range(start, min(stop, size)), axis), grid.batch)


def _slice(grid: _Grid, node: ir.Node) -> _Grid | None:
    starts, ends = ints_of(node, "starts", 1), ints_of(node, "ends", 2)
    axes, steps = ints_of(node, "axes", 3), ints_of(node, "steps", 4)
    if starts is None or ends is None:
        return None
    cells = grid.cells
    for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps or [1] * len(starts), strict=True):
        place = grid.axis(axis)
        if place is not None:
            cells = cells[(slice(None),) * place + (slice(start, end, step),)]
        elif (start, step) != (0, 1) or end < 2**31 - 1:
            return None
    return replace(grid, cells=cells)


def _concat(node: ir.Node) -> _Grid | None:
    grids = [None if value is None else _follow(value) for value in node.inputs]
    known = [grid for grid in grids if grid is not None]
    axis = known[0].axis(int_of(node, "axis", 0)) if len(known) == len(grids) else None
    if axis is None or len({(grid.batch, grid.cells.shape[:axis], grid.cells.shape[axis + 1 :]) for grid in known}) > 1:
        return None
    return replace(known[0], cells=np.concatenate([grid.cells for grid in known], axis))


def _add(node: ir.Node) -> _Grid | None:
    left, right = node.inputs
    sign = 1 if node.op_type == "Add" else -1
    amount, base = constant(right), left
    if amount is None and node.op_type == "Add":
        amount, base = constant(left), right
    grid = _follow(base) if base is not None and amount is not None else None
    if grid is None or amount is None or amount.dtype.kind not in "iu" or (grid.batch is None and amount.size > 1):
        return None
    try:
        shape = np.broadcast_shapes(grid.cells.shape, amount.shape if amount.size > 1 else ())
    except ValueError:
        return None
    batch = None if grid.batch is None else grid.batch + len(shape) - grid.cells.ndim
    if batch is not None and shape[batch] != 1:
        return None
    amounts = np.broadcast_to(amount if amount.size > 1 else amount.reshape(()), shape)
    pairs = zip(np.broadcast_to(grid.cells, shape).reshape(-1), amounts.reshape(-1), strict=True)
    cells = np.empty(amounts.size, dtype=np.object_)
    cells[:] = [replace(column, shift=column.shift + sign * int(number)) for column, number in pairs]
    return _Grid(cells.reshape(shape), batch)
