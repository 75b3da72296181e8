"""Sharded equals unsharded, up to the order of sums (acceptance row E6), whatever the pooling and wherever the tables are cut."""

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit.errors import InputError
from recsplit.graph.cut import cut
from recsplit.plan.plan import UNKNOWN_IDS, Segment
from tests.graph.shards.sharded import Orders, in_shards
from tests.graph.small import Array, feeds_for, loaded, proto, small, table

ROWS = {"t": 50, "u": 60, "w": 40, "z": 30}
TABLES: dict[str, Array] = {"t": table(50, 8), "u": table(60, 8, seed=1), "w": table(40, 1), "z": table(30, 4)}
CONSTANTS: dict[str, Array] = {
    "one": np.array([1]),
    "two": np.array([2]),
    "minus": np.array([-1]),
    "m8": table(8, 2),
    "m4": table(4, 2),
    "m1": table(1, 2),
    "sizes": np.array([2, 3]),
}


@dataclass(frozen=True)
class Model:
    """A model's text, the limits of its id inputs, and which tables it reads."""

    text: str
    limits: dict[str, int]
    tables: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, str] = field(default_factory=dict)


MODELS = {
    "sum": Model("(int64[N,5] a) => (float[N,8] y) { v=Gather(t,a) y=ReduceSum<keepdims=0>(v,one) }", {"a": 50}, ("t",)),
    "mean": Model("(int64[N,5] a) => (float[N,8] y) { v=Gather(t,a) y=ReduceMean<axes=[1],keepdims=0>(v) }", {"a": 50}, ("t",)),
    "max": Model("(int64[N,5] a) => (float[N,8] y) { v=Gather(t,a) y=ReduceMax<axes=[1],keepdims=0>(v) }", {"a": 50}, ("t",)),
    "none": Model("(int64[N,3] a) => (float[N,3,2] y) { v=Gather(t,a) y=MatMul(v,m8) }", {"a": 50}, ("t",)),
    "one id": Model("(int64[N] a) => (float[N,2] y) { v=Gather(t,a) y=MatMul(v,m8) }", {"a": 50}, ("t",)),
    "sum, mean and max of two tables of one width": Model(
        "(int64[N,5] a, int64[N,4] b, int64[N,3] c, int64[N,2] d) => (float[N,8] y) {"
        " v=Gather(t,a) p=ReduceSum<keepdims=0>(v,one) q=Gather(u,b) r=ReduceMax<axes=[1],keepdims=0>(q)"
        " k=Gather(t,c) l=ReduceMean<axes=[1],keepdims=0>(k) e=Gather(u,d) f=ReduceMax<axes=[1],keepdims=0>(e)"
        " g=Mul(p,r) h=Sub(g,l) y=Mul(h,f) }",
        {"a": 50, "b": 60, "c": 50, "d": 60},
        ("t", "u"),
    ),
    "a wide table of width one": Model(
        "(int64[N,5] a, int64[N,5] b) => (float[N,1] y) {"
        " v=Gather(w,a) p=ReduceSum<keepdims=0>(v,one) q=Gather(z,b) r=ReduceSum<keepdims=0>(q,one) s=ReduceSum<keepdims=1>(r,one)"
        " y=Add(p,s) }",
        {"a": 40, "b": 30},
        ("w", "z"),
    ),
    "a shared table and one id of another": Model(
        "(int64[N] a, int64[N] b, int64[N] c) => (float[N,8] y) { v=Gather(t,a) q=Gather(t,b) r=Gather(u,c) s=Mul(v,q) y=Sub(s,r) }",
        {"a": 50, "b": 50, "c": 60},
        ("t", "u"),
    ),
    "a history of any length": Model(
        "(int64[N,T] a, int64[N] b) => (float[N,T] y) { v=Gather(t,a) q=Gather(t,b) r=Unsqueeze(q,two) s=MatMul(v,r) y=Squeeze(s,two) }",
        {"a": 50, "b": 50},
        ("t",),
    ),
    "a pooled history": Model("(int64[N,T] a) => (float[N,8] y) { v=Gather(t,a) y=ReduceSum<keepdims=0>(v,one) }", {"a": 50}, ("t",)),
    "a masked mean": Model(
        "(int64[N,5] a, float[N,5] m) => (float[N,8] y) {"
        " v=Gather(t,a) k=Unsqueeze(m,two) p=Mul(v,k) s=ReduceSum<keepdims=0>(p,one) c=ReduceSum<keepdims=1>(m,one) e=Exp(c) y=Div(s,e) }",
        {"a": 50},
        ("t",),
    ),
    "squares, which come after the join": Model(
        "(int64[N,5] a) => (float[N,8] y) {"
        " v=Gather(t,a) s=ReduceSum<keepdims=0>(v,one) p=Mul(s,s) q=Mul(v,v) r=ReduceSum<keepdims=0>(q,one) y=Sub(p,r) }",
        {"a": 50},
        ("t",),
    ),
    "roots, which come after the join": Model(
        "(int64[N,5] a) => (float[N] y) { v=Gather(t,a) q=Abs(v) s=ReduceSum<keepdims=0>(q,one) k=Sqrt(s) y=ReduceSum<keepdims=0>(k,one) }",
        {"a": 50},
        ("t",),
    ),
    "per-sample weights and padding": Model(
        "(int64[N,5] a, float[N,5] k) => (float[N,8] y) {"
        ' s=recsplit.EmbeddingBag<mode="sum",padding_idx=3>(t,a,,k) q=recsplit.EmbeddingBag<mode="mean",padding_idx=3>(u,a)'
        ' r=recsplit.EmbeddingBag<mode="max",padding_idx=3>(t,a) h=Add(s,q) y=Mul(h,r) }',
        {"a": 50},
        ("t", "u"),
    ),
    "narrow ids": Model(
        "(int64[N,5] a) => (float[N,8] y) { v=Gather(t,a) y=ReduceSum<keepdims=0>(v,one) }", {"a": 50}, ("t",), {"int32_ids": True}
    ),
    "zeros for unknown ids": Model(
        "(int64[N,5] a, int64[N,5] b) => (float[N,8] y) {"
        " v=Gather(t,a) p=ReduceSum<keepdims=0>(v,one) q=Gather(u,b) r=ReduceMax<axes=[1],keepdims=0>(q) y=Mul(p,r) }",
        {"a": 70, "b": 70},
        ("t", "u"),
        {"unknown_ids": "zero"},
    ),
    "a row for unknown ids": Model(
        "(int64[N,5] a, int64[N,5] b) => (float[N,8] y) {"
        " v=Gather(t,a) p=ReduceSum<keepdims=0>(v,one) q=Gather(u,b) r=ReduceMax<axes=[1],keepdims=0>(q) y=Mul(p,r) }",
        {"a": 70, "b": 70},
        ("t", "u"),
        {"unknown_ids": "row=7"},
    ),
    "marks for unknown ids": Model(
        "(int64[N,5] a, int64[N,5] b) => (float[N,8] y) {"
        " v=Gather(t,a) p=ReduceSum<keepdims=0>(v,one) q=Gather(u,b) r=ReduceMax<axes=[1],keepdims=0>(q) y=Mul(p,r) }",
        {"a": 52, "b": 62},
        ("t", "u"),
    ),
}

BAGS = {
    mode: "(int64[V] values, int64[N] offsets) => (float[N,8] y) {"
    f' y=recsplit.EmbeddingBag<mode="{mode}",padding_idx=2>(t,values,offsets) }}'
    for mode in ("sum", "mean", "max")
} | {
    "weights": "(int64[V] values, int64[N] offsets, float[V] weights) => (float[N,8] y) {"
    ' y=recsplit.EmbeddingBag<mode="sum">(t,values,offsets,weights) }'
}


def partitions(draw: st.DrawFn, tables: tuple[str, ...]) -> list[list[Segment]]:
    """Cuts anywhere, pieces to shards in any way; every shard has something."""
    count = draw(st.integers(1, 4), label="shards")
    shards: list[list[Segment]] = [[] for _ in range(count)]
    for name in tables:
        cuts = draw(st.lists(st.integers(1, ROWS[name] - 1), max_size=4, unique=True), label=f"cuts of {name}")
        bounds = [0, *sorted(cuts), ROWS[name]]
        for first, last in itertools.pairwise(bounds):
            shards[draw(st.integers(0, count - 1), label="shard")].append(Segment(name, first, last))
    return [segments for segments in shards if segments]


@st.composite
def cases(draw: st.DrawFn, tables: tuple[str, ...]) -> tuple[list[list[Segment]], Orders | None]:
    """A partition, by heat or not."""
    shards = partitions(draw, tables)
    if not draw(st.booleans(), label="by heat"):
        return shards, None
    seed = draw(st.integers(0, 5), label="order")
    return shards, {name: np.random.default_rng(seed).permutation(ROWS[name]).astype(np.int32) for name in tables}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_sharded_is_unsharded(name: str, data: st.DataObject) -> None:
    model = MODELS[name]
    arrays = {**{key: TABLES[key] for key in model.tables}, **{key: item for key, item in CONSTANTS.items() if key in model.text}}
    shards, orders = data.draw(cases(model.tables))
    whole = small(model.text, arrays, **model.settings)
    sharded = in_shards(model.text, arrays, shards, orders, **model.settings)
    inputs = {item.name: item.dtype for item in whole.cut.whole.graph.inputs}
    for batch in (1, 6):
        feeds = feeds_for(model.text, model.limits, batch=batch, length=4 + batch, seed=batch)
        feeds = {key: item.astype(inputs[key].numpy()) for key, item in feeds.items()}  # type: ignore[union-attr]
        want, got = whole(feeds), sharded(feeds)
        assert set(want) == set(got)
        for key, item in want.items():
            if key == UNKNOWN_IDS:
                np.testing.assert_array_equal(got[key], item)
            else:
                np.testing.assert_allclose(got[key], item, rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("kind", BAGS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_sharded_ragged_bags_are_unsharded(kind: str, data: st.DataObject) -> None:
    shards, orders = data.draw(cases(("t",)))
    arrays = {"t": TABLES["t"]}
    whole = small(BAGS[kind], arrays)
    sharded = in_shards(BAGS[kind], arrays, shards, orders)
    random = np.random.default_rng(1)
    lengths = np.array([[3], [0], [6], [1]])
    feeds: dict[str, Array] = {"values": random.integers(0, 50, (4, 7)), "lengths": lengths}
    if kind == "weights":
        feeds["weights"] = random.standard_normal((4, 7)).astype(np.float32)
    want, got = whole(feeds), sharded(feeds)
    for key, item in want.items():
        np.testing.assert_allclose(got[key], item, rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("pooled", ["ReduceSum<keepdims=0>(v,one)", "ReduceMax<axes=[1],keepdims=0>(v)"])
def test_tables_of_other_dtypes_are_sharded_too(dtype: Any, pooled: str) -> None:
    kind = {np.float16: "float16", np.float64: "double"}[dtype]
    text = f"(int64[N,5] a) => ({kind}[N,8] y) {{ v=Gather(t,a) y={pooled} }}"
    arrays = {"t": table(50, 8, dtype=dtype), **({"one": CONSTANTS["one"]} if "one" in text else {})}
    feeds = feeds_for(text, {"a": 50})
    want, got = small(text, arrays)(feeds)["y"], in_shards(text, arrays, HALVES)(feeds)["y"]
    assert got.dtype == dtype
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=5e-3 if dtype == np.float16 else 1e-9, atol=2e-2)


HALVES = [[Segment("t", 0, 25)], [Segment("t", 25, 50)]]


def test_a_shard_holds_its_own_rows_and_no_others() -> None:
    model = MODELS["sum"]
    order = {"t": np.random.default_rng(0).permutation(50).astype(np.int32)}
    arrays = {"t": TABLES["t"], "one": CONSTANTS["one"]}
    sharded = in_shards(model.text, arrays, HALVES, order)
    for number, part in enumerate(sharded.sharded.shards):
        rows = sharded.rows(part.tables[0])
        np.testing.assert_array_equal(rows[:-1], TABLES["t"][np.sort(order["t"][number * 25 : number * 25 + 25])])
        assert not rows[-1].any()
        assert [value.name for value in part.model.graph.inputs] == ["places_0"]
        assert [value.name for value in part.model.graph.outputs] == [f"embeddings_8_{number}"]


def test_a_table_in_one_piece_needs_no_map_and_a_cut_one_has_one() -> None:
    text = MODELS["a shared table and one id of another"].text
    arrays = {"t": TABLES["t"], "u": TABLES["u"]}
    order = {name: np.random.default_rng(0).permutation(ROWS[name]).astype(np.int32) for name in arrays}
    apart = in_shards(text, arrays, [[Segment("u", 0, 60)], [Segment("t", 0, 50)]], order)
    assert not apart.sharded.maps
    cut_one = in_shards(text, arrays, [[Segment("t", 0, 10)], [Segment("t", 10, 50), Segment("u", 0, 60)]], order)
    assert [layout.map_size() for layout in cut_one.sharded.maps.values()] == [50]


def test_readings_tell_plain_poolings_vector_by_vector() -> None:
    model = MODELS["sum, mean and max of two tables of one width"]
    shards = [[Segment("t", 0, 50)], [Segment("u", 0, 60)]]
    arrays = {"t": TABLES["t"], "u": TABLES["u"], "one": CONSTANTS["one"]}
    sharded = in_shards(model.text, arrays, shards)
    (reading,) = sharded.sharded.readings
    assert (reading.places, reading.output) == ("places_0", "embeddings_8")
    assert sorted(zip(reading.poolings, reading.widths, strict=True)) == [("max", 2), ("max", 4), ("mean", 3), ("sum", 5)]
    assert in_shards(MODELS["a masked mean"].text, {**arrays, "two": CONSTANTS["two"]}, HALVES).sharded.readings == ()


@pytest.mark.parametrize("reading", ["a bias", "a product with itself"])
def test_what_does_not_add_up_stays_behind_the_join(reading: str) -> None:
    inner = {"a bias": "q=Add(v,eight)", "a product with itself": "q=Mul(v,v)"}[reading]
    text = f"(int64[N,5] a) => (float[N,8] y) {{ v=Gather(t,a) {inner} y=ReduceSum<keepdims=0>(q,one) }}"
    cut_model = cut(loaded(proto(text, {"t": TABLES["t"], "one": CONSTANTS["one"], "eight": np.ones(8, np.float32)})), adding_up=True)
    assert "ReduceSum" in [node.op_type for node in cut_model.dense.graph]


def test_more_pieces_than_passes_are_worth_become_a_map() -> None:
    model = MODELS["sum"]
    many = [[Segment("t", row, row + 1) for row in range(start, 50, 2)] for start in (0, 1)]
    sharded = in_shards(model.text, {"t": TABLES["t"], "one": CONSTANTS["one"]}, many)
    assert [layout.map_size() for layout in sharded.sharded.maps.values()] == [51]
    feeds = feeds_for(model.text, model.limits)
    np.testing.assert_allclose(sharded(feeds)["y"], TABLES["t"][feeds["a"]].sum(axis=1), rtol=1e-4, atol=1e-5)


def test_too_many_rows_for_places_are_refused() -> None:
    from recsplit.graph.shards.places import lay_out
    from tests.graph.huge import fused

    with pytest.raises(InputError, match="int32"):
        lay_out(fused(2**31), [[Segment("t", 0, 2**31)]], by_heat=False)
