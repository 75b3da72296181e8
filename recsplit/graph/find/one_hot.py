"""One-hot vectors: which node made them, where they may stand for rows of a weight that they are multiplied with."""

import numpy as np
import onnx_ir as ir

from recsplit.graph.flow import constant, upstream

#: What stands between one-hot vectors and the product: a dtype, a shape, sums of several (multi-hot), masks, several side by side.
_BETWEEN = frozenset(
    "Add And Cast Concat Div Expand Flatten Identity Mul Not Or ReduceMax ReduceMean ReduceSum Reshape Squeeze Sub Transpose Unsqueeze "
    "Where".split()
)
#: Numbers from 0 on that are read, to see that they are: a table of more rows than these isn't multiplied with one-hot vectors.
_MOST_ROWS = 1 << 24


def origin(vectors: ir.Value) -> ir.Node | None:
    """The node that makes one-hot vectors of numbers, with nothing but moves and sums between it and `vectors`; None where there is none.

    OneHot; Equal with the numbers 0, 1, 2, ..., as torch.onnx makes it; something scattered into a constant.
    """
    seen: set[ir.Value] = set()
    ahead = [vectors]
    while ahead:
        value = ahead.pop()
        node = value.producer()
        if node is None or value in seen:
            continue
        seen.add(value)
        if node.op_type in ("OneHot", "ScatterElements", "ScatterND") and (node.op_type == "OneHot" or _is_constant(node.inputs[0])):
            return node
        if node.op_type == "Equal" and any(counts_up(item) for item in node.inputs):
            return node
        if node.op_type in _BETWEEN:
            ahead.extend(item for item in node.inputs if item is not None)
    return None


def counts_up(value: ir.Value | None) -> int:
    """n where the value is the constant 0, 1, ..., n - 1 along its last axis, n at least 2; else 0."""
    numbers = constant(value, limit=_MOST_ROWS)
    if numbers is None or numbers.ndim == 0 or numbers.size < 2 or numbers.size != numbers.shape[-1]:
        return 0
    return numbers.size if np.array_equal(numbers.reshape(-1), np.arange(numbers.size)) else 0


def _is_constant(value: ir.Value | None) -> bool:
    return value is not None and not any(item.is_graph_input() for item in upstream(value, data_only=True))
