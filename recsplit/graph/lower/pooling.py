"""Pooling of looked-up vectors by standard operators, as torch.nn.functional.embedding_bag pools."""

import numpy as np
import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.plan.plan import PlainPooling, Pooling


def pool(
    emit: Emit, vectors: ir.Value, mode: Pooling, *, axis: int, dtype: ir.DataType, mask: ir.Value | None, weights: ir.Value | None
) -> ir.Value:
    """Pool [..., length, dim] over `axis` as torch.nn.functional.embedding_bag does.

    `mask` BOOL [..., length]: which slots count (None: all; masked slots must hold zeros already). An empty bag gives
    zeros in every mode. `weights` [..., length] multiply the vectors (sum only, as in torch); those of masked slots,
    which may be anything, even NaN, don't.
    """
    if weights is not None and mask is not None:
        weights = emit.op("Where", mask, weights, emit.const(np.array(0), dtype.numpy(), name="zero"))
    if weights is not None:
        vectors = emit.op("Mul", vectors, emit.unsqueeze(weights, -1))
    if mode == "max" and mask is not None:
        lowest = emit.const(np.array(-np.inf), dtype.numpy(), name="lowest")
        some = emit.reduce("ReduceMax", emit.cast(mask, ir.DataType.INT32), axis, keepdims=True)
        best = emit.reduce("ReduceMax", emit.op("Where", emit.unsqueeze(mask, -1), vectors, lowest), axis)
        return emit.op("Where", emit.cast(some, ir.DataType.BOOL), best, emit.const(np.array(0), dtype.numpy(), name="zero"))
    if mode == "max":
        return emit.reduce("ReduceMax", vectors, axis)
    if mode == "mean" and mask is None:
        return emit.reduce("ReduceMean", vectors, axis)
    total = emit.reduce("ReduceSum", vectors, axis)
    return total if mode != "mean" or mask is None else mean(emit, total, mask, axis=axis, dtype=dtype)


def mean(emit: Emit, total: ir.Value, mask: ir.Value, *, axis: int, dtype: ir.DataType) -> ir.Value:
    """`total` [..., dim] over the number of slots that count in `mask` BOOL [..., length], whose `axis` was summed; zeros stay."""
    count = emit.reduce("ReduceSum", emit.cast(mask, dtype), axis, keepdims=True)
    return emit.op("Div", total, emit.op("Max", count, emit.const(np.array(1), dtype.numpy(), name="one")))


def vector_dtype(table: ir.Value) -> ir.DataType:
    """The dtype of a table's vectors."""
    assert table.const_value is not None
    return table.const_value.dtype


def plain_pooling(mode: Pooling) -> PlainPooling:
    """A pooling that has a name of its own; "graph" is none."""
    assert mode != "graph"
    return mode
