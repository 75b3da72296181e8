"""Ids outside their tables: the row is marked and answers NaN, its neighbours don't notice, policies put rows in their place."""

import numpy as np
import pytest
import torch

from recsplit.errors import InputError
from recsplit.plan.plan import UNKNOWN_IDS, Lookup
from tests.graph.small import Array, Feeds, Small, agrees, feeds_for, small, table

T, U, W = table(50, 8), table(60, 8), table(8, 1)
ARRAYS = {"t": T, "u": U, "w": W, "w3": table(8, 3), "one": np.array([1]), "shifts": np.array([0, 10, 20])}
LOWEST, HIGHEST = -(2**63), 2**63 - 1
OUTSIDE = [-1, -50, -60, 60, 2**31, 2**32 + 5, 2**40, HIGHEST, LOWEST]
BAD_ROW = 2

MODELS = {
    "fixed, pooled and single": (
        "(int64[N,3] ids, int64[N] b) => (float[N,1] y, float[N,3] z) "
        "{ v=Gather(t,ids) s=ReduceSum<keepdims=0>(v,one) y=MatMul(s,w) r=Gather(u,b) z0=MatMul(r,w3) z=Tanh(z0) }"
    ),
    "INT32": (
        "(int32[N,3] ids, int32[N] b) => (float[N,1] y) "
        "{ v=Gather(t,ids) p=MatMul(v,w) q=ReduceSum<keepdims=0>(p,one) r=Gather(u,b) m=MatMul(r,w) y=Add(q,m) }"
    ),
    "a history": "(int64[N,T] ids) => (float[N,T,1] y) { v=Gather(t,ids) y=MatMul(v,w) }",
    "a history, pooled": "(int64[N,T] ids) => (float[N,1] y) { v=Gather(t,ids) s=ReduceSum<keepdims=0>(v,one) y=MatMul(s,w) }",
    "two histories and columns": (
        "(int64[N,T] ids, int64[N,2] b, int64[N,T] c) => (float[N,1] y) { v=Gather(t,ids) s=ReduceSum<keepdims=0>(v,one) p=MatMul(s,w) "
        "r=Gather(u,b) m=ReduceMax<axes=[1],keepdims=0>(r) q=MatMul(m,w) "
        "x=Gather(u,c) h=Tanh(x) g=ReduceSum<keepdims=0>(h,one) o=MatMul(g,w) y=Sum(p,q,o) }"
    ),
    "padded bags": (
        '(int64[N,4] ids, int64[N] b) => (float[N,1] y) { s=recsplit.EmbeddingBag<mode="mean",padding_idx=3,include_last_offset=0>(t,ids) '
        'r=recsplit.EmbeddingBag<mode="sum",padding_idx=3,include_last_offset=0>(t,ids) k=Gather(u,b) x=Sum(s,r,k) y=MatMul(x,w) }'
    ),
    "weighted bags": (
        "(int64[N,4] ids, float[N,4] x) => (float[N,1] y) "
        '{ s=recsplit.EmbeddingBag<mode="sum",padding_idx=3,include_last_offset=0>(t,ids,,x) y=MatMul(s,w) }'
    ),
}


def place(parts: Small, position: int) -> tuple[Lookup, int]:
    """The lookup that a position means, and which of its ids."""
    for lookup in parts.cut.lookups:
        if position < lookup.width:
            return lookup, position
        position -= lookup.width
    raise AssertionError("a position behind the last lookup")


def with_id(feeds: Feeds, name: str, column: int, number: int) -> dict[str, Array]:
    """The feeds with one id replaced in the bad row."""
    changed = {key: data.copy() for key, data in feeds.items()}
    changed[name].reshape(len(changed[name]), -1)[BAD_ROW, column] = number
    return changed


@pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)
def test_only_the_row_with_the_unknown_id_is_marked_and_its_neighbours_are_the_same_to_the_bit(text: str) -> None:
    parts = small(text, ARRAYS)
    feeds = feeds_for(text, {"ids": 50, "b": 60, "c": 60})
    fine = parts(feeds)
    others = np.arange(5) != BAD_ROW
    for name in {"ids", "b", "c"} & set(feeds):
        for number in OUTSIDE:
            if feeds[name].dtype == np.int32 and abs(number) > 2**31 - 1:
                continue
            for column in range(feeds[name][0].size):
                got = parts(with_id(feeds, name, column, number))
                marks = got.pop(UNKNOWN_IDS)
                assert (marks[others] == (-1, 0)).all()
                lookup, offset = place(parts, marks[BAD_ROW, 0])
                assert (*lookup.inputs, lookup.table, marks[BAD_ROW, 1]) == (name, "t" if name == "ids" else "u", number)
                assert lookup.columns is None or lookup.columns[0] + offset == column
                for output, data in got.items():
                    assert np.isnan(data[BAD_ROW]).all()
                    np.testing.assert_array_equal(data[others], fine[output][others])


def test_the_first_unknown_id_of_a_row_is_told_in_plan_order() -> None:
    parts = small(MODELS["fixed, pooled and single"], ARRAYS)
    feeds = {"ids": np.array([[1, -7, 99], [1, 2, 3]]), "b": np.array([5, 60])}
    marks = parts(feeds)[UNKNOWN_IDS]
    assert [lookup.inputs for lookup in parts.cut.lookups] == [("b",), ("ids",)]
    assert marks.tolist() == [[2, -7], [0, 60]]


def test_shifted_ids_are_told_as_the_client_sent_them() -> None:
    text = "(int64[N,3] ids) => (float[N,3,1] y) { i=Add(ids,shifts) v=Gather(t,i) y=MatMul(v,w) }"
    parts = small(text, ARRAYS)
    assert [lookup.limit for lookup in parts.cut.lookups] == [50, 40, 30]
    marks = parts({"ids": np.array([[49, 39, 29], [50, 0, 0], [0, 40, 0], [0, 0, 30], [0, -10, -20], [0, -11, 0]])})[UNKNOWN_IDS]
    assert marks.tolist() == [[-1, 0], [0, 50], [1, 40], [2, 30], [-1, 0], [1, -11]]


def test_an_id_that_wraps_when_it_is_shifted_is_unknown() -> None:
    text = "(int64[N,3] ids) => (float[N,3,1] y) { i=Add(ids,shifts) v=Gather(t,i) y=MatMul(v,w) }"
    marks = small(text, ARRAYS)({"ids": np.array([[0, 0, HIGHEST], [0, LOWEST, 0]])})[UNKNOWN_IDS]
    assert marks.tolist() == [[2, HIGHEST], [1, LOWEST]]


def test_computed_ids_are_told_as_the_rows_they_became() -> None:
    text = "(int64[N,2] ids) => (float[N,2,1] y) { i=Div(ids,ten) v=Gather(t,i) y=MatMul(v,w) }"
    marks = small(text, {**ARRAYS, "ten": np.array(10)})({"ids": np.array([[499, 0], [0, 500], [-10, 0]])})[UNKNOWN_IDS]
    assert marks.tolist() == [[-1, 0], [1, 50], [0, -1]]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e30, -1e30, 3e9, -1.0, 50.0, 2.0**31])
def test_a_float_that_is_no_id_is_unknown(number: float) -> None:
    text = "(float[N,2] x) => (float[N,2,1] y) { i=Cast<to=7>(x) v=Gather(t,i) y=MatMul(v,w) }"
    parts = small(text, ARRAYS)
    feeds = {"x": np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)}
    fine = parts(feeds)["y"]
    feeds["x"][1, 1] = number
    got = parts(feeds)
    assert got[UNKNOWN_IDS][:, 0].tolist() == [-1, 1, -1] and np.isnan(got["y"][1]).all()
    np.testing.assert_array_equal(got["y"][[0, 2]], fine[[0, 2]])


def test_integers_out_are_left_alone_and_floats_of_every_rank_become_nan() -> None:
    text = (
        "(int64[N,3] ids) => (float[N] flat, float[N,3,8] deep, int64[N,8] best) "
        "{ v=Gather(t,ids) deep=Tanh(v) flat=ReduceSum<keepdims=0>(deep,rest) best=ArgMax<axis=1,keepdims=0>(deep) }"
    )
    got = small(text, {**ARRAYS, "rest": np.array([1, 2])})({"ids": np.array([[1, 2, 3], [1, 50, 3]])})
    assert np.isnan(got["flat"]).tolist() == [False, True]
    assert np.isnan(got["deep"]).all(axis=(1, 2)).tolist() == [False, True]
    assert got["best"].dtype == np.int64


BAG = '{{ s=recsplit.EmbeddingBag<mode="{}",padding_idx={},include_last_offset=0>(t,ids) y=Identity(s) }}'
POLICY_MODELS = {
    "single": ("(int64[N,3] ids) => (float[N,3,8] y) { y=Gather(t,ids) }", "none", -1),
    "history": ("(int64[N,T] ids) => (float[N,T,8] y) { y=Gather(t,ids) }", "none", -1),
    "mean by operators": ("(int64[N,3] ids) => (float[N,8] y) { v=Gather(t,ids) y=ReduceMean<axes=[1],keepdims=0>(v) }", "mean", -1),
    **{
        f"{mode} of {length}, padding {padding}": (f"(int64[N,{length}] ids) => (float[N,8] y) {BAG.format(mode, padding)}", mode, padding)
        for mode in ("sum", "mean", "max")
        for padding in (-1, 3)
        for length in ("3", "T")
    },
}


@pytest.mark.parametrize("policy", ["zero", "row=7"])
@pytest.mark.parametrize(("text", "mode", "padding"), POLICY_MODELS.values(), ids=POLICY_MODELS)
def test_policies_give_what_torch_gives_with_that_row_in_its_place(text: str, mode: str, padding: int, policy: str) -> None:
    parts = small(text, ARRAYS, unknown_ids=policy)
    with_zeros = np.concatenate([T, np.zeros((1, 8), np.float32)])
    for number in OUTSIDE:
        ids = np.array([[1, 2, 3], [4, number, 3], [3, 3, 3], [number, number, number], [5, 6, 5]])
        read = torch.tensor(np.where((ids < 0) | (ids >= 50), 50 if policy == "zero" else 7, ids))
        tensor = torch.tensor(with_zeros)
        want = (
            tensor[read]
            if mode == "none"
            else torch.nn.functional.embedding_bag(read, tensor, mode=mode, padding_idx=padding if padding >= 0 else None)
        )
        got = parts({"ids": ids})
        np.testing.assert_allclose(got.pop("y"), want.numpy(), rtol=1e-6, atol=1e-6)
        assert not got, "no marks leave under a policy that answers"


@pytest.mark.parametrize("policy", ["zero", "row=7"])
def test_policies_change_nothing_for_known_ids_and_the_check_still_tells_unknown_ones(policy: str) -> None:
    text = MODELS["two histories and columns"]
    parts = agrees(text, ARRAYS, {"ids": 50, "b": 60, "c": 60}, unknown_ids=policy)
    feeds = feeds_for(text, {"ids": 50, "b": 60, "c": 60})
    assert parts.cut.known()(feeds).all()
    assert parts.cut.known()(with_id(feeds, "c", 1, 60)).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("policy", ["zer0", "row", "row=", "row=-1", "row=1.5", "error=1", ""])
def test_what_is_no_policy_is_refused(policy: str) -> None:
    with pytest.raises(InputError, match="not a policy"):
        small(MODELS["weighted bags"], ARRAYS, unknown_ids=policy)


def test_a_policy_row_must_be_in_every_table() -> None:
    with pytest.raises(InputError, match="'t' has 50 rows"):
        small(MODELS["two histories and columns"], ARRAYS, unknown_ids="row=55")


@pytest.mark.parametrize("rows_before", [0, 37])
def test_a_shared_fused_table_keeps_each_tables_own_limits(rows_before: int) -> None:
    """An id just outside one table lies inside its neighbour's rows of the fused one, and must not be read there."""
    text = "(int64[N] ids, int64[N] b) => (float[N,8] y) { p=Gather(first,ids) q=Gather(last,b) y=Mul(p,q) }"
    first, last = table(37 + rows_before, 8), table(13, 8)
    parts = small(text, {"first": first, "last": last})
    assert len(parts.cut.fused) == 1
    got = parts({"ids": np.array([len(first) - 1, len(first), 0]), "b": np.array([12, 0, -1])})
    np.testing.assert_array_equal(got["y"][0], first[-1] * last[-1])
    assert np.isnan(got["y"][1:]).all()
