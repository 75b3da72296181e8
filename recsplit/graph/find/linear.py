"""Does a pooling add up? What a shard may do with a table's vectors, so that the shards' partial results can be joined.

A shard reads zeros for rows that it doesn't hold. Whatever is linear in the vectors then gives partial results whose sum is the
whole; a maximum over vectors gives partial maxima, where foreign rows read the lowest number. Anything else (a square, a bias, a
clip) has to come after the join.
"""

from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir

from recsplit.graph.flow import constant

#: Only moves or copies elements of its first input.
_MOVES = frozenset(
    "Reshape Transpose Squeeze Unsqueeze Identity Flatten Split Slice Expand Tile Gather GatherElements GatherND Cast".split()
)
_SUMS = frozenset({"ReduceSum", "ReduceMean", "Neg", "CumSum"})
MAXIMUM = "ReduceMax"


def problem(node: ir.Node, derived: Collection[ir.Value], *, maximum: bool) -> str | None:
    """Why partial results don't join once this node has seen them, None where they do.

    `derived`: the values made from the table's vectors, some of the node's inputs among them; `maximum`: a maximum over them was
    taken before this node, or will be later, so that partial results join by Max and not by Sum.
    """
    kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    where = f"{kind} {node.name!r}"
    positions = [index for index, value in enumerate(node.inputs) if value is not None and value in derived]
    others = [value for index, value in enumerate(node.inputs) if value is not None and index not in positions]
    if kind in _MOVES and positions == [0]:
        whole = kind == "Cast" and not ir.DataType(node.attributes["to"].as_int()).is_floating_point()
        return f"{where} makes whole numbers of vectors" if whole else None
    if kind == "Concat":
        return None if not others else f"{where} puts other values beside vectors"
    if kind == "Where" and 0 not in positions:
        # Under Max the same value in every shard counts once; under Sum it would count once a shard.
        branches = [value for value in node.inputs[1:] if value not in derived]
        return None if maximum or all(_zero(value) for value in branches) else f"{where} puts other values in the place of vectors"
    if maximum:
        return None if kind == MAXIMUM and positions == [0] else f"{where} stands beside a maximum over vectors"
    if kind in _SUMS and positions == [0]:
        return None
    if kind in ("Add", "Sub", "Sum") and not others:
        return None
    if (kind in ("Mul", "MatMul") and len(positions) == 1) or (kind == "Div" and positions == [0]):
        return None
    return f"{where} is not linear in the vectors"


def prefix(walk: Sequence[ir.Value]) -> Sequence[ir.Value]:
    """The longest beginning of a walk from a lookup's vectors onwards behind which partial results still join."""
    kept = 1
    for stop in range(1, len(walk)):
        nodes = [node for value in walk[1 : stop + 1] if (node := value.producer()) is not None]
        maximum = any(node.op_type == MAXIMUM for node in nodes)
        if all(problem(node, set(walk), maximum=maximum) is None for node in nodes):
            kept = stop + 1
    return walk[:kept]


def _zero(value: ir.Value | None) -> bool:
    data = constant(value)
    return data is not None and not np.any(data)
