"""Ids that come out of buffers of integers: cut, and what is outside the buffer is unknown, under every policy."""

from typing import Any

import numpy as np
import pytest

from recsplit.errors import InputError
from recsplit.plan.plan import UNKNOWN_IDS
from tests.graph.small import Array, agrees, small, source_of, table

ITEMS, ROWS = 90, 50
OF = np.random.default_rng(0).integers(1, ROWS, ITEMS)
PAIRS = np.random.default_rng(1).integers(1, ROWS, (ITEMS, 2))
T, W = table(ROWS, 8), table(8, 1)


def number(value: int) -> Array:
    return np.array(value)


# Each makes `i` of `ids`: the nodes, and the shape of ids and of i.
WAYS = {
    "one id": ("int64[N]", "N", "i=Gather(of,ids)"),
    "ids in INT32, buffer in INT32": ("int32[N,3]", "N,3", "i=Gather(narrow,ids)"),
    "a history": ("int64[N,T]", "N,T", "i=Gather(of,ids)"),
    "a buffer of two columns": ("int64[N,3]", "N,3,2", "i=Gather(pairs,ids)"),
    "a buffer of two by two": ("int64[N,3]", "N,3,2,2", "i=Gather(squares,ids)"),
    "a column of a buffer": ("int64[N,3]", "N,3", "p=Gather(pairs,ids) i=Gather<axis=2>(p,zero)"),
    "a buffer of a buffer": ("int64[N,3]", "N,3", "c=Gather(of,ids) i=Gather(of,c)"),
    "a buffer read twice": ("int64[N,3]", "N,3", "c=Gather(of,ids) d=Gather(of,ids) e=Max(c,d) i=Identity(e)"),
    "a shift before and a hash behind": ("int64[N,3]", "N,3", "s=Sub(ids,zero) c=Gather(of,s) h=Mul(c,seven) i=Mod(h,fifty)"),
    "beside the ids themselves": ("int64[N,3]", "N,6", "c=Gather(of,ids) m=Mul(ids,zero) i=Concat<axis=1>(c,m)"),
    "reshaped": ("int64[N,3]", "N,3", "f=Reshape(ids,flat) c=Gather(of,f) i=Reshape(c,back)"),
    "by elements": ("int64[N]", "N", "i=GatherElements(of,ids)"),
}
CONSTANTS: dict[str, Any] = {
    "t": T,
    "w": W,
    "of": OF,
    "narrow": OF.astype(np.int32),
    "pairs": PAIRS,
    "squares": np.stack([PAIRS, PAIRS[::-1]], axis=1),
    "zero": number(0),
    "seven": number(7),
    "fifty": number(ROWS),
    "flat": np.array([-1]),
    "back": np.array([-1, 3]),
    "minus": number(-1),
}


def text(signature: str, shape: str, nodes: str) -> str:
    return f"({signature} ids) => (float[{shape},1] y) {{ {nodes} v=Gather(t,i) y=MatMul(v,w) }}"


@pytest.mark.parametrize("policy", ["error", "zero", "row=7"])
@pytest.mark.parametrize(("signature", "shape", "nodes"), WAYS.values(), ids=WAYS)
def test_it_is_cut_and_equal(signature: str, shape: str, nodes: str, policy: str) -> None:
    parts = agrees(text(signature, shape, nodes), CONSTANTS, {"ids": ITEMS}, unknown_ids=policy)
    assert all(item.is_lookup for item in parts.cut.candidates)
    assert not {"of", "narrow", "pairs", "squares"} & {value.name for value in parts.cut.dense.graph.initializers.values()}
    assert parts.cut.known()({"ids": np.full_like(ids_of(signature), 10**6)}).tolist() == [False] * 4


@pytest.mark.parametrize(("signature", "shape", "nodes"), WAYS.values(), ids=WAYS)
def test_ids_may_be_asked_for_in_int32(signature: str, shape: str, nodes: str) -> None:
    agrees(text(signature, shape, nodes), CONSTANTS, {"ids": ITEMS}, int32_ids=True)


def ids_of(signature: str) -> Array:
    shape = (4,) if "[N]" in signature else (4, 3)
    return np.ones(shape, np.int32 if "int32" in signature else np.int64)


@pytest.mark.parametrize("outside", [ITEMS, -1, 2**30])
@pytest.mark.parametrize(("signature", "shape", "nodes"), WAYS.values(), ids=WAYS)
def test_an_id_outside_the_buffer_is_unknown_and_no_other(signature: str, shape: str, nodes: str, outside: int) -> None:
    ids = ids_of(signature)
    ids.reshape(4, -1)[2, -1] = outside
    model = text(signature, shape, nodes)
    marks = small(model, CONSTANTS)({"ids": ids})[UNKNOWN_IDS]
    assert (marks[:, 0] >= 0).tolist() == [False, False, True, False] and marks[2, 1] == -1
    zeros = small(model, CONSTANTS, unknown_ids="zero")({"ids": ids})["y"]
    fine = ids.copy()
    fine.reshape(4, -1)[2, -1] = 1
    expected = small(model, CONSTANTS, unknown_ids="zero")({"ids": fine})["y"]
    changed = (zeros != expected).reshape(4, -1).any(axis=1)
    assert changed.tolist() == [False, False, True, False]
    assert (zeros[zeros != expected] == 0).all(), "what is not unknown changed"


def test_an_id_that_the_model_itself_puts_aside_is_not_unknown() -> None:
    nodes = "b=Less(ids,zero) c=Gather(of,ids) i=Where(b,zero,c)"
    parts = agrees(text("int64[N,3]", "N,3", nodes), CONSTANTS, {"ids": ITEMS})
    ids = np.array([[1, -5, 2], [1, 2, ITEMS], [1, 2, -ITEMS - 1]])
    assert (parts({"ids": ids})[UNKNOWN_IDS][:, 0] >= 0).tolist() == [False, True, True]
    fine = parts({"ids": ids[:1]})["y"]
    assert np.array_equal(fine, source_of(text("int64[N,3]", "N,3", nodes), CONSTANTS)({"ids": ids[:1]})["y"])


def test_a_buffer_that_the_dense_model_reads_too_is_read_inside_its_bounds_there() -> None:
    model = (
        "(int64[N] ids) => (float[N,1] y) { c=Gather(of,ids) v=Gather(t,c) m=MatMul(v,w) f=Cast<to=1>(c) g=Sin(f) "
        "h=Unsqueeze(g,one) y=Add(m,h) }"
    )
    parts = agrees(model, {**CONSTANTS, "one": np.array([1])}, {"ids": ITEMS})
    assert np.isnan(parts({"ids": np.array([1, ITEMS + 5])})["y"][1]).all()


def test_ids_that_can_not_be_followed_back_to_the_buffer_stay_in_the_dense_model_and_are_read_inside_its_bounds_there() -> None:
    model = (
        "(int64[N,3] ids, int64[N] k) => (float[N,1] y) { c=Gather(of,ids) i=ReduceMax<axes=[1],keepdims=0>(c) v=Gather(t,i) "
        "u=Gather(t,k) p=Mul(u,v) y=MatMul(p,w) }"
    )
    parts = agrees(model, CONSTANTS, {"ids": ITEMS, "k": ROWS})
    assert "buffer of integers by way of ReduceMax" in parts.reason()
    answers = parts({"ids": np.array([[1, 2, 3], [1, 2, ITEMS]]), "k": np.array([1, 1])})
    assert np.isfinite(answers["y"][0]).all() and np.isnan(answers["y"][1]).all()


def test_without_any_other_lookup_that_is_the_error() -> None:
    model = "(int64[N,3] ids) => (float[N,1] y) { c=Gather(of,ids) i=ReduceMax<axes=[1],keepdims=0>(c) v=Gather(t,i) y=MatMul(v,w) }"
    with pytest.raises(InputError, match="no lookup that can be cut out") as refused:
        small(model, CONSTANTS)
    assert "by way of ReduceMax" in refused.value.detail
