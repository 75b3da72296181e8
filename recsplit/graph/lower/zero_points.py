"""What stands for zeros in a quantized table: the zero point that its rows are dequantized with."""

import numpy as np
import onnx_ir as ir

from recsplit.errors import InputError
from recsplit.graph.flow import QUANTIZED, Array, constant, table_shape

#: Only moves elements.
_MOVES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Transpose"})


def zero_vector(table: ir.Value, *, needed: bool) -> tuple[int, ...]:
    """The numbers of a row that means zeros, one for each column: 0 but where a constant zero point is another number.

    Raises InputError where they are needed, and two readers of the table dequantize it with different zero points.
    """
    rows, dim = table_shape(table) or (0, 0)
    if table.dtype not in QUANTIZED or rows == 0:
        return (0,) * dim
    points = {point for node in table.consumers() if node.op_type == "Gather" for point in _points(node.outputs[0], dim)}
    if len(points) > 1 and needed:
        raise InputError(
            f"table {table.name!r} is dequantized with several zero points, so no row of it means zeros to all of its readers",
            hint="--unknown-ids error, or row=N",
        )
    return next(iter(points)) if len(points) == 1 else (0,) * dim


def _points(value: ir.Value, dim: int) -> set[tuple[int, ...]]:
    """The constant zero points that looked-up rows meet first."""
    points: set[tuple[int, ...]] = set()
    for use in value.uses():
        node = use.node
        if node.op_type == "DequantizeLinear" and use.idx == 0:
            point = constant(node.inputs[2]) if len(node.inputs) > 2 else np.array(0)  # as the operator's own
        elif node.op_type in _MOVES and use.idx == 0:
            points |= _points(node.outputs[0], dim)
            continue
        elif node.op_type == "Cast":
            points |= {_subtracted(taken.node, taken.idx, dim) for taken in node.outputs[0].uses()}
            continue
        else:
            point = None
        points.add(_each(point, dim))
    return points


def _subtracted(node: ir.Node, position: int, dim: int) -> tuple[int, ...]:
    """A constant that is subtracted from rows which were cast: another way to write a zero point."""
    point = constant(node.inputs[1]) if node.op_type == "Sub" and position == 0 else None
    whole = point is not None and np.array_equal(point, np.rint(point.astype(np.float64)))
    return _each(point if whole else None, dim)


def _each(point: Array | None, dim: int) -> tuple[int, ...]:
    if point is None or point.size not in (1, dim):
        return (0,) * dim
    return tuple(int(number) for number in np.broadcast_to(point.reshape(-1), (dim,)))
