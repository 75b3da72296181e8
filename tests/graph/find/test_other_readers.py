"""Large constants that are read by ids, but by no lookup: each is a candidate with its bytes and a reason."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.graph.small import Array, small, table

T = table(50, 8)
SCORE = "v=Gather(t,item) s=MatMul(v,w)"


def at(*numbers: int) -> Array:
    return np.array(numbers, dtype=np.int64)


class Reader(NamedTuple):
    """A model that reads the constant `big` beside a lookup of `t`: the rest of its nodes, its constants, bytes and reason."""

    name: str
    inputs: str
    nodes: str
    constants: Mapping[str, Any]
    size_bytes: int
    reason: str


READERS = [
    Reader(
        "elements of different rows",
        "int64[N,8] i",
        "g=GatherElements(big,i) h=MatMul(g,w) y=Add(s,h)",
        {"big": table(60, 8)},
        60 * 8 * 4,
        "single elements",
    ),
    Reader(
        "several indices",
        "int64[N,2] i",
        "g=GatherND(big,i) h=Unsqueeze(g,one) y=Add(s,h)",
        {"big": table(60, 8)},
        60 * 8 * 4,
        "several indices",
    ),
    Reader(
        "columns",
        "int64[N] i",
        "g=Gather<axis=1>(big,i) h=Transpose(g) p=MatMul(h,w) k=ReduceSum<keepdims=0>(g) q=Mul(p,k) y=Add(s,q)",
        {"big": table(8, 60)},
        60 * 8 * 4,
        "columns",
    ),
    Reader(
        "the last of three axes",
        "int64[N] i",
        "g=Gather<axis=2>(big,i) h=Transpose<perm=[2,0,1]>(g) k=ReduceSum<keepdims=0>(h,one) p=MatMul(k,w) y=Add(s,p)",
        {"big": table(8, 480).reshape(8, 8, 60)},
        8 * 480 * 4,
        "along axis 2: columns",
    ),
    Reader(
        "rows of whole numbers",
        "int64[N] i",
        "g=Gather(big,i) c=Cast<to=1>(g) p=MatMul(c,w) y=Add(s,p)",
        {"big": np.ones((600, 8), np.int64)},
        600 * 8 * 8,
        "holds INT64 numbers, not vectors",
    ),
    Reader(
        "the largest of one-hot vectors",
        "int64[N,3] i",
        "h=OneHot(i,depth,bits) m=ReduceMax<axes=[1],keepdims=0>(h) p=MatMul(m,big) q=MatMul(p,w) y=Add(s,q)",
        {"big": table(60, 8), "depth": np.array(60), "bits": np.array([0, 1], np.float32)},
        60 * 8 * 4,
        "product with one-hot vectors (of OneHot",
    ),
    Reader(
        "one-hot vectors beside other features",
        "int64[N] i, float[N,4] x",
        "i1=Unsqueeze(i,one) e=Equal(i1,all) h=Cast<to=1>(e) c=Concat<axis=1>(h,x) p=Gemm<transB=1>(c,big) y=Add(s,p)",
        {"big": table(1, 304), "all": np.arange(300)},
        304 * 4,
        "product with one-hot vectors (of Equal",
    ),
    Reader(
        "ones scattered into zeros",
        "int64[N,1] i",
        "b=Shape<start=0,end=1>(item) d=Concat<axis=0>(b,wide) z=ConstantOfShape(d) k=Shape(i) u=Expand(unit,k) "
        "h=ScatterElements<axis=1>(z,i,u) p=MatMul(h,big) q=MatMul(p,w) y=Add(s,q)",
        {"big": table(60, 8), "wide": at(60), "unit": np.array(1, np.float32)},
        60 * 8 * 4,
        "product with one-hot vectors (of ScatterElements",
    ),
    Reader(
        "a table computed from integers",
        "int64[N] i",
        "c=Cast<to=1>(big) g=Gather(c,i) p=MatMul(g,w) y=Add(s,p)",
        {"big": np.ones((9000, 8), np.int16)},
        9000 * 8 * 2,
        "isn't stored but computed by Cast",
    ),
    Reader(
        "the last axis, by ai.onnx.ml",
        "int64[N] i",
        "g=ai.onnx.ml.ArrayFeatureExtractor(big,i) h=Transpose(g) y=Add(s,h)",
        {"big": table(1, 300)},
        300 * 4,
        "columns",
    ),
    Reader(
        "one operator that looks up, adds and normalizes",
        "int32[N,3] i",
        "g,m=com.microsoft.EmbedLayerNormalization(i,,big,places,,gamma,beta) r=ReduceSum<keepdims=0>(g,one) q=MatMul(r,w) y=Add(s,q)",
        {"big": table(60, 8), "places": table(3, 8), "gamma": np.ones(8, np.float32), "beta": np.zeros(8, np.float32)},
        60 * 8 * 4,
        "looks up, adds and normalizes",
    ),
]


def cut_of(reader: Reader) -> Any:
    text = f"(int64[N] item, {reader.inputs}) => (float[N,1] y) {{ {SCORE} {reader.nodes} }}"
    return small(text, {"t": T, "w": table(8, 1), "one": at(1), **reader.constants}).cut


@pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])
def test_what_ids_read_in_another_way_is_named_with_its_bytes_and_a_reason(reader: Reader) -> None:
    (candidate,) = [item for item in cut_of(reader).candidates if not item.is_lookup]
    assert (candidate.table, candidate.size_bytes, candidate.by_requests) == ("big", reader.size_bytes, True)
    assert reader.reason in candidate.reason


def test_a_lookup_tells_the_bytes_of_its_table() -> None:
    text = "(int64[N] item) => (float[N,1] y) { v=Gather(t,item) y=MatMul(v,w) }"
    (candidate,) = small(text, {"t": T, "w": table(8, 1)}).cut.candidates
    assert candidate.is_lookup and candidate.size_bytes == T.nbytes and candidate.by_requests


QUIET = {
    "a small constant": ("int64[N,2] i", "g=GatherND(big,i) h=Unsqueeze(g,one) y=Add(s,h)", table(25, 8)),
    "a constant read at fixed places": ("float[N,60] x", "g=GatherND(big,fixed) y=Add(s,g)", table(60, 8)),
    "a layer's weight": ("float[N,60] x", "h=MatMul(x,big) q=MatMul(h,w) y=Add(s,q)", table(60, 8)),
    "a weight behind a comparison with other numbers": (
        "int64[N,1] i",
        "e=Equal(i,some) h=Cast<to=1>(e) p=MatMul(h,big) q=MatMul(p,w) y=Add(s,q)",
        table(60, 8),
    ),
}


@pytest.mark.parametrize(("inputs", "nodes", "big"), QUIET.values(), ids=QUIET)
def test_what_ids_do_not_read_or_is_small_is_no_candidate(inputs: str, nodes: str, big: Array) -> None:
    text = f"(int64[N] item, {inputs}) => (float[N,1] y) {{ {SCORE} {nodes} }}"
    constants = {"t": T, "w": table(8, 1), "one": at(1), "big": big, "fixed": np.array([[1, 1]]), "some": np.arange(60) * 7}
    assert [item.table for item in small(text, constants).cut.candidates] == ["t"]
