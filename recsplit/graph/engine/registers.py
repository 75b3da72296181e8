"""Registers: the numbers of one row that a step of a program gives, and the shape in which ONNX has them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from recsplit.plan.dtypes import TRITON


class NotExpressedError(Exception):
    """An operator that a program doesn't have; `str()` goes on after "its ids are computed by"."""


@dataclass(frozen=True)
class Register:
    """A register by number. `shape`: of its numbers as ONNX has them, 1 in the place of the batch; None where only their order is known,
    or where they are as many as the request has (`width` 0). A constant has no batch. `floats`: they are floats that were only moved so
    far, and stand here as the cast to INT64 makes them; nothing else may be done with them before that cast.
    """

    number: int
    shape: tuple[int, ...] | None
    width: int
    constant: bool = False
    floats: bool = False


def common(operands: Sequence[Register]) -> tuple[tuple[int, ...] | None, int]:
    """The shape and width that operands are brought to. Raises NotExpressedError where that isn't known, or the batch isn't in front."""
    widths = {operand.width for operand in operands if operand.width != 1}
    if 0 in widths:
        if widths != {0}:
            raise NotExpressedError("numbers of several lengths")
        return None, 0
    shapes = [operand.shape for operand in operands if operand.shape is not None]
    if len(shapes) < len(operands):
        if len(widths) > 1:
            raise NotExpressedError("numbers of unknown shapes")
        return None, max(widths, default=1)
    try:
        common = tuple(int(size) for size in np.broadcast_shapes(*shapes))
    except ValueError as error:
        raise NotExpressedError("numbers of shapes that don't fit") from error
    batched = [len(operand.shape or ()) for operand in operands if not operand.constant]
    if batched and (common[0] != 1 or any(rank != len(common) for rank in batched)):
        raise NotExpressedError("numbers that differ from row to row of a batch")
    return common, math.prod(common)


def dtype_of(value: ir.Value) -> str:
    """Triton's name of a value's integers. Raises NotExpressedError for anything else."""
    if value.dtype is None or value.dtype.is_floating_point() or value.dtype in (ir.DataType.UINT64, ir.DataType.STRING):
        raise NotExpressedError(f"{'numbers of unknown type' if value.dtype is None else value.dtype.name} ({value.name!r})")
    return TRITON[value.dtype.name]
