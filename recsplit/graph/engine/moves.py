"""Operators that only move numbers: which number of a row comes to stand where, found by moving the places themselves.

Each takes the node, its output, and the places [1, ...] of the numbers of a row; it gives them moved, None where the batch isn't left alone
or the operator isn't understood.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from recsplit.graph.flow import constant, int_of, ints_of


def _gathered(node: ir.Node, _value: ir.Value, places: NDArray[np.int64]) -> NDArray[np.int64] | None:
    small, axis = constant(node.inputs[1]), int_of(node, "axis", 0) % places.ndim
    if small is None or axis == 0:
        return None
    numbers, size = small.astype(np.int64), places.shape[axis]
    return np.take(places, numbers, axis) if np.all((numbers >= -size) & (numbers < size)) else None


def _sliced(node: ir.Node, _value: ir.Value, places: NDArray[np.int64]) -> NDArray[np.int64] | None:
    starts, ends, axes, steps = (ints_of(node, name, place) for place, name in enumerate(("starts", "ends", "axes", "steps"), 1))
    if starts is None or ends is None:
        return None
    for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps or [1] * len(starts), strict=True):
        axis %= places.ndim
        if axis == 0 and ((start, step) != (0, 1) or end < 2**31 - 1):
            return None
        if axis:
            places = places[(slice(None),) * axis + (slice(start, end if end > -(2**31) else None, step),)]
    return places


def _split(node: ir.Node, value: ir.Value, places: NDArray[np.int64]) -> NDArray[np.int64] | None:
    axis = int_of(node, "axis", 0) % places.ndim
    sizes = ints_of(node, "split", 1) or [-(-places.shape[axis] // len(node.outputs))] * len(node.outputs)
    index = [output is value for output in node.outputs].index(True)
    start = sum(sizes[:index])
    return None if axis == 0 else np.take(places, range(start, min(start + sizes[index], places.shape[axis])), axis)


def _transposed(node: ir.Node, _value: ir.Value, places: NDArray[np.int64]) -> NDArray[np.int64] | None:
    order = list(node.attributes.get_ints("perm") or reversed(range(places.ndim)))
    return places.transpose(order) if order[0] == 0 else None


def _expanded(_node: ir.Node, value: ir.Value, places: NDArray[np.int64]) -> NDArray[np.int64] | None:
    sizes = [] if value.shape is None else [size for size in value.shape[1:] if isinstance(size, int)]
    if value.shape is None or len(value.shape) != places.ndim or len(sizes) != places.ndim - 1:
        return None
    return np.broadcast_to(places, (1, *sizes))


def _tiled(node: ir.Node, _value: ir.Value, places: NDArray[np.int64]) -> NDArray[np.int64] | None:
    repeats = ints_of(node, "repeats", 1)
    return None if repeats is None or len(repeats) != places.ndim or repeats[0] != 1 else np.tile(places, repeats)


MOVES: dict[str, Callable[[ir.Node, ir.Value, NDArray[np.int64]], NDArray[np.int64] | None]] = {
    "Gather": _gathered, "Slice": _sliced, "Split": _split, "Transpose": _transposed, "Expand": _expanded, "Tile": _tiled,
}  # fmt: skip
