"""What may happen to vectors in a shard: followed node by node, and refused where partial results would not join."""

from typing import Any

import numpy as np
import pytest

from recsplit.errors import InputError
from recsplit.graph.shards.joins import follow
from tests.graph.small import Array, loaded, proto, table

ARRAYS: dict[str, Array] = {
    "t": table(50, 8),
    "one": np.array([1]),
    "five": np.array([2, 3]),
    "halves": np.array([4, 4]),
    "eight": np.ones(8, np.float32),
    "none": np.zeros(8, np.float32),
}


def followed(nodes: str) -> Any:
    """The way of `v`, the vectors of ids [N, 5], to `y`."""
    used = {name: data for name, data in ARRAYS.items() if name in nodes or name == "t"}
    text = f"(int64[N,5] a, float[N,5,1] m, bool[N,5,1] k) => (float[N,8] y) {{ v=Gather(t,a) {nodes} }}"
    graph = loaded(proto(text, used)).graph
    gather = next(node for node in graph if node.op_type == "Gather")
    (output,) = graph.outputs
    counts = {value: 1 for node in graph for value in node.outputs}
    return follow(graph, [gather], [output], counts), gather, output


JOIN = {
    "a sum": ("y=ReduceSum<keepdims=0>(v,one)", False, False),
    "weights": ("w=Mul(v,m) y=ReduceSum<keepdims=0>(w,one)", False, False),
    "zeros where masked": ("w=Where(k,v,none) y=ReduceSum<keepdims=0>(w,one)", False, False),
    "a maximum": ("y=ReduceMax<axes=[1],keepdims=0>(v)", True, True),
    "a masked maximum": ("w=Where(k,v,eight) y=ReduceMax<axes=[1],keepdims=0>(w)", True, True),
    "half of each": (
        "p,q=Split<axis=1>(v,five) r=ReduceSum<keepdims=1>(p,one) s=ReduceMax<axes=[1],keepdims=1>(q) y=Concat<axis=1>(r,s)",
        (False, False, True, True, True),
        (False, True),
    ),
}


@pytest.mark.parametrize("kind", JOIN)
def test_sums_and_maxima_are_told_apart_column_by_column(kind: str) -> None:
    nodes, at_gather, at_boundary = JOIN[kind]
    vector_path, gather, output = followed(nodes)
    assert (vector_path.gathers[gather], vector_path.boundary[output]) == (at_gather, at_boundary)


REFUSED = {
    "a square": "w=Mul(v,v) y=ReduceSum<keepdims=0>(w,one)",
    "a bias": "w=Add(v,eight) y=ReduceSum<keepdims=0>(w,one)",
    "a divisor": "w=Div(m,v) y=ReduceSum<keepdims=0>(w,one)",
    "a clip": "w=Relu(v) y=ReduceSum<keepdims=0>(w,one)",
    "something else where masked": "w=Where(k,v,eight) y=ReduceSum<keepdims=0>(w,one)",
    "a mask made of vectors": "z=Cast<to=9>(v) w=Where(z,v,none) y=ReduceSum<keepdims=0>(w,one)",
    "weights under a maximum": "w=Mul(v,m) y=ReduceMax<axes=[1],keepdims=0>(w)",
    "a maximum that is scaled": "w=ReduceMax<axes=[1],keepdims=0>(v) y=Neg(w)",
    "a sum and a maximum of the same": "p=ReduceSum<keepdims=0>(v,one) q=ReduceMax<axes=[1],keepdims=0>(v) y=Add(p,q)",
    "something beside vectors": "e=Mul(m,eight) w=Concat<axis=1>(v,e) y=ReduceSum<keepdims=0>(w,one)",
    "a sum beside a maximum": "p=ReduceSum<keepdims=1>(v,one) q=ReduceMax<axes=[1],keepdims=1>(v) "
    "w=Concat<axis=2>(p,q) y=ReduceSum<keepdims=0>(w,one)",
    "halves of the vectors": "p,q=Split<axis=2>(v,halves) r=ReduceSum<keepdims=1>(p,one) "
    "s=ReduceMax<axes=[1],keepdims=1>(q) y=Concat<axis=2>(r,s)",
    "whole numbers": "w=Cast<to=7>(v) x=Cast<to=1>(w) y=ReduceSum<keepdims=0>(x,one)",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_not_join_is_refused_by_its_name(kind: str) -> None:
    with pytest.raises(InputError, match=r"can't be cut into shards: \w+ .*partial results don't join"):
        followed(REFUSED[kind])
