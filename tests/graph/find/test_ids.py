"""Where ids come from: columns told to clients, ids computed on the way, ids that must stay in the dense model."""

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from recsplit.errors import InputError
from recsplit.graph.cut import cut
from recsplit.graph.find.candidates import find
from tests.graph.small import Array, agrees, loaded, proto, small, table

T, W = table(50, 8), table(8, 1)
HUGE = table(20000, 8)  # more than the loader folds
LAYER = "v=Gather(t,i) y=MatMul(v,w)"
Traced = list[tuple[str, tuple[int, int] | None, int]]


def at(*numbers: int) -> Array:
    return np.array(numbers, dtype=np.int64)


def number(value: int) -> Array:
    return np.array(value)


TRACED: dict[str, tuple[str, str, dict[str, Array], Traced]] = {
    "a slice": ("int64[N,5] ids", "i=Slice(ids,a,b,one)", {"a": at(1), "b": at(3)}, [("ids", (1, 3), 0)]),
    "a slice from the end": ("int64[N,5] ids", "i=Slice(ids,a,b,c)", {"a": at(-2), "b": at(2**62), "c": at(-1)}, [("ids", (3, 5), 0)]),
    "a slice backwards": (
        "int64[N,5] ids",
        "i=Slice(ids,a,b,one,step)",
        {"a": at(-1), "b": at(-4), "step": at(-2)},
        [("ids", (4, 5), 0), ("ids", (2, 3), 0)],
    ),
    "a slice of both dimensions": ("int64[N,5] ids", "i=Slice(ids,a,b)", {"a": at(0, 3), "b": at(2**62, 5)}, [("ids", (3, 5), 0)]),
    "one column": ("int64[N,5] ids", "i=Gather<axis=1>(ids,k)", {"k": number(-2)}, [("ids", (3, 4), 0)]),
    "columns out of order": ("int64[N,5] ids", "i=Gather<axis=-1>(ids,k)", {"k": at(4, 0, 1)}, [("ids", (4, 5), 0), ("ids", (0, 2), 0)]),
    "one column again and again": ("int64[N,5] ids", "i=Gather<axis=1>(ids,k)", {"k": at(2, 2)}, [("ids", (2, 3), 0)] * 2),
    "a split": ("int64[N,5] ids", "h,i=Split<axis=1>(ids,k)", {"k": at(2, 3)}, [("ids", (2, 5), 0)]),
    "a cast": ("int32[N,3] ids", "i=Cast<to=7>(ids)", {}, [("ids", (0, 3), 0)]),
    "floats": ("float[N,5] ids", "h=Slice(ids,a,b,one) i=Cast<to=7>(h)", {"a": at(3), "b": at(5)}, [("ids", (3, 5), 0)]),
    "stacked inputs": (
        "int64[N] ids, int64[N] more",
        "g=Unsqueeze(ids,one) h=Unsqueeze(more,one) i=Concat<axis=1>(g,h)",
        {},
        [("ids", None, 0), ("more", None, 0)],
    ),
    "two inputs side by side": (
        "int64[N,2] ids, int64[N,3] more",
        "i=Concat<axis=1>(ids,more)",
        {},
        [("ids", (0, 2), 0), ("more", (0, 3), 0)],
    ),
    "inputs of both ranks": (
        "int64[N] ids, int64[N,3] more",
        "g=Unsqueeze(ids,one) i=Concat<axis=-1>(more,g)",
        {},
        [("more", (0, 3), 0), ("ids", None, 0)],
    ),
    "parts of two inputs": (
        "int64[N,4] ids, int64[N,4] more",
        "g=Slice(ids,a,b,one) h=Slice(more,a,b,one) i=Concat<axis=1>(h,g,h)",
        {"a": at(1), "b": at(3)},
        [("more", (1, 3), 0), ("ids", (1, 3), 0), ("more", (1, 3), 0)],
    ),
    "an offset": ("int64[N,3] ids", "i=Add(ids,k)", {"k": number(20)}, [("ids", (0, 3), 20)]),
    "an offset a column": ("int64[N,3] ids", "i=Add(k,ids)", {"k": at(0, 10, 10)}, [("ids", (0, 1), 0), ("ids", (1, 3), 10)]),
    "ids from 1 on": ("int64[N,3] ids", "h=Add(ids,k) i=Sub(h,j)", {"k": number(2), "j": number(1)}, [("ids", (0, 3), 1)]),
    "one id, three offsets": (
        "int64[N,1] ids",
        "i=Add(ids,k)",
        {"k": at(0, 10, 20)},
        [("ids", (0, 1), 0), ("ids", (0, 1), 10), ("ids", (0, 1), 20)],
    ),
    "rank 3": ("int64[N,2,2] ids", "i=Identity(ids)", {}, [("ids", (0, 4), 0)]),
    "one of rank 3": ("int64[N,3,2] ids", "i=Gather<axis=1>(ids,k)", {"k": number(-2)}, [("ids", (2, 4), 0)]),
    "one of rank 3 in INT32": ("int32[N,3,2] ids", "i=Gather<axis=1>(ids,k)", {"k": number(2)}, [("ids", (4, 6), 0)]),
    "one of rank 3 behind a shift": (
        "int64[N,3,2] ids",
        "h=Add(ids,o) i=Gather<axis=1>(h,k)",
        {"k": number(1), "o": np.array([[[0]], [[10]], [[20]]])[:, 0]},
        [("ids", (2, 4), 10)],
    ),
    "one of rank 3 by a slice": (
        "int64[N,3,2] ids",
        "h=Slice(ids,one,two,one) i=Squeeze(h,one)",
        {"two": at(2)},
        [("ids", (2, 4), 0)],
    ),
    "one of rank 3 by a split": ("int64[N,3,2] ids", "h,g,f=Split<axis=1>(ids) i=Squeeze(g,one)", {}, [("ids", (2, 4), 0)]),
    "the last of rank 3": ("int64[N,2,3] ids", "i=Gather<axis=2>(ids,k)", {"k": number(1)}, [("ids", (1, 2), 0), ("ids", (4, 5), 0)]),
    "rank 3 with the batch behind, and back": (
        "int64[N,3,2] ids",
        "h=Transpose<perm=[1,0,2]>(ids) i=Gather<axis=0>(h,k)",
        {"k": number(2)},
        [("ids", (4, 6), 0)],
    ),
    "rank 4, flattened and sliced": (
        "int64[N,1,3,2] ids",
        "h=Flatten(ids) i=Slice(h,a,b,one)",
        {"a": at(3), "b": at(6)},
        [("ids", (3, 6), 0)],
    ),
    "a view and back": ("int64[N,6] ids", "h=Reshape(ids,k) i=Reshape(h,j)", {"k": at(-1, 3), "j": at(-1, 6)}, [("ids", (0, 6), 0)]),
}


@pytest.mark.parametrize(("signature", "nodes", "constants", "traced"), TRACED.values(), ids=TRACED)
def test_columns_are_told_and_read_from_the_inputs(signature: str, nodes: str, constants: dict[str, Array], traced: Traced) -> None:
    parts = agrees(text(signature, nodes), {"t": table(80, 8), "w": W, "one": at(1), **constants}, {"ids": 50, "more": 50})
    assert [(*lookup.inputs, lookup.columns, lookup.shift) for lookup in parts.cut.lookups] == traced
    assert all(lookup.direct and lookup.limit == 80 - lookup.shift for lookup in parts.cut.lookups)
    agrees(text(signature, nodes), {"t": table(80, 8), "w": W, "one": at(1), **constants}, {"ids": 50, "more": 50}, int32_ids=True)


COMPUTED: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "a modulo": ("int64[N,3] ids", "i=Mod(ids,k)", {"k": number(50)}, 10**9),
    "quotient and remainder": ("int64[N,3] ids", "g=Div(ids,k) h=Mod(ids,k) i=Add(g,h)", {"k": number(25)}, 600),
    "through BOOL": ("int64[N,3] ids", "h=Cast<to=9>(ids) i=Cast<to=7>(h)", {}, 5),
    "through UINT8": ("int64[N,3] ids", "h=Cast<to=2>(ids) g=Cast<to=7>(h) i=Mod(g,k)", {"k": number(50)}, 10**6),
    "through INT32": ("int64[N,3] ids", "h=Cast<to=6>(ids) i=Cast<to=7>(h)", {}, 50),
    "through FLOAT, which rounds": ("int64[N,3] ids", "h=Cast<to=1>(ids) g=Cast<to=7>(h) i=Sub(ids,g)", {}, 2**24),
    "a constant less the id": ("int64[N,3] ids", "i=Sub(k,ids)", {"k": number(49)}, 50),
    "a view that regroups, and its first column": (
        "int64[N,6] ids",
        "h=Reshape(ids,k) g=Slice(h,zero,one,one) i=Reshape(g,j)",
        {"k": at(-1, 3), "j": at(-1, 2), "zero": at(0)},
        50,
    ),
    "a view, with an offset a column": (
        "int64[N,6] ids",
        "h=Reshape(ids,k) g=Add(h,o) i=Reshape(g,j)",
        {"k": at(-1, 3), "o": at(0, 10, 20), "j": at(-1, 6)},
        30,
    ),
    "a table of integers": ("int64[N] ids", "i=Gather(remap,ids)", {"remap": np.random.default_rng(0).integers(0, 50, 90)}, 90),
    "the largest two": ("int64[N,4] ids", "i,p=TopK<axis=1>(ids,k)", {"k": at(2)}, 50),
    "the id at the largest place": (
        "int64[N,4] ids, int64[N,4] rank",
        "p=ArgMax<axis=1,keepdims=1>(rank) i=GatherElements<axis=1>(ids,p)",
        {},
        50,
    ),
    "the first one set": (
        "int64[N,3] ids",
        (
            "l=Shape<start=0,end=1>(ids) e=Concat<axis=0>(l,one) p=ConstantOfShape<value=int64[1] {0}>(e) u=Expand(seven,e) "
            "i=ScatterElements<axis=1>(ids,p,u)"
        ),
        {"seven": number(7)},
        50,
    ),
    "a hash": (
        "int64[N,3] ids",
        "h=com.microsoft.MurmurHash3<positive=1,seed=7>(ids) g=Cast<to=7>(h) i=Mod(g,k)",
        {"k": number(50)},
        2**62,
    ),
    "a vocabulary": (
        "int64[N,3] ids",
        "i=ai.onnx.ml.LabelEncoder<keys_int64s=[3,1000001,7],values_int64s=[40,41,42],default_int64=2>(ids)",
        {},
        9,
    ),
    "a vocabulary of INT32 ids behind a shift": (
        "int32[N,3] ids",
        "h=Cast<to=7>(ids) g=Add(h,k) i=ai.onnx.ml.LabelEncoder<keys_int64s=[3,7],values_int64s=[40,42],default_int64=2>(g)",
        {"k": number(1)},
        9,
    ),
    "a mask": ("int64[N,3] ids, bool[N,3] seen", "h=Sub(ids,ids) i=Where(seen,ids,h)", {}, 50),
    "buckets of a float": (
        "float[N,3] x",
        "h=Mul(x,ten) g=Floor(h) f=Abs(g) e=Clip(f,low,high) i=Cast<to=7>(e)",
        {"ten": np.float32(10), "low": np.float32(0), "high": np.float32(49)},
        0,
    ),
    "a sum over the row": ("int64[N,3] ids", "i=ReduceSum<keepdims=0>(ids,one)", {}, 17),
}


@pytest.mark.parametrize(("signature", "nodes", "constants", "limit"), COMPUTED.values(), ids=COMPUTED)
def test_computed_ids_are_computed_by_the_models_own_operators(signature: str, nodes: str, constants: dict[str, Any], limit: int) -> None:
    parts = agrees(text(signature, nodes), {"t": T, "w": W, "one": at(1), **constants}, {"ids": limit} if limit else {})
    lookup_fields = [(lookup.direct, lookup.columns, lookup.limit) for lookup in parts.cut.lookups]
    exact = "INT32" in nodes or "to=6" in nodes  # INT32 loses nothing of an id that any table has
    assert lookup_fields == ([(True, (0, 3), 50)] if exact else [(False, None, None)])


def text(signature: str, nodes: str) -> str:
    """A model whose one lookup reads `i`, whatever shape that has."""
    rank = {"[N]": "N", "[N,1]": "N,3"}.get(signature[signature.index("[") : signature.index("]") + 1], "")
    return f"({signature}) => (float[{rank or 'N,M'}] y) {{ {nodes} {LAYER} }}"


STAYS = {
    "out of another lookup": (
        "(int64[N] ids) => (float[N,8] y) { v=Gather(t,ids) a=ArgMax<axis=1,keepdims=0>(v) r=Gather(u,a) y=Mul(v,r) }",
        "come out of another lookup",
    ),
    "out of a layer": (
        (
            "(int64[N] ids, float[N,8] x) => (float[N,8] y) "
            "{ v=Gather(t,ids) m=MatMul(x,u8) a=ArgMax<axis=1,keepdims=0>(m) r=Gather(u,a) y=Mul(v,r) }"
        ),
        "depend on floating-point layers (MatMul",
    ),
    "positions": (
        (
            "(int64[N,T] ids) => (float[N,T,8] y) "
            "{ v=Gather(t,ids) n=Shape(ids) l=Gather(n,k) p=Range(zero,l,k) r=Gather(u,p) m=Mul(v,r) y=Tanh(m) }"
        ),
        "tell positions only",
    ),
    "constants": (
        "(int64[N] ids) => (float[N,2,8] y) { v=Gather(t,ids) r=Gather(huge,two) q=Unsqueeze(v,one) y=Mul(q,r) }",
        "are a constant of the model",
    ),
}


@pytest.mark.parametrize(("model", "reason"), STAYS.values(), ids=STAYS)
def test_ids_that_only_the_dense_model_knows_stay_there_and_it_is_told_why(model: str, reason: str) -> None:
    arrays = {"t": T, "u": table(60, 8), "u8": table(8, 60), "zero": number(0), "k": number(1), "two": at(1, 2), "one": at(1), "huge": HUGE}
    parts = agrees(model, arrays, {"ids": 50})
    assert reason in parts.reason()
    assert [lookup.table for lookup in parts.cut.lookups] == ["t"]


REFUSED = {
    "rows flattened column by column": (
        (
            "(int64[N,3] ids) => (float[N,24] y) { q=Transpose<perm=[1,0]>(ids) i=Reshape(q,flat) v=Gather(t,i) r=Reshape(v,deep) "
            "s=Transpose<perm=[1,0,2]>(r) y=Reshape(s,wide) }"
        ),
        "no leading batch dimension",
    ),
    "each id once, and no way back": (
        (
            "(int64[N] ids) => (float[N,8] y) { u,a,i,n=Unique(ids) v=Gather(t,u) s=ReduceSum<keepdims=1>(v,zero) f=Cast<to=1>(ids) "
            "g=Unsqueeze(f,last) y=Add(s,g) }"
        ),
        "its ids are made by Unique 'node', which is no operator of the embedding model",
    ),
    "sums scattered into ids": (
        '(int64[N,1] ids) => (float[N,1,8] y) { e=ScatterElements<axis=1,reduction="add">(ids,ids,ids) v=Gather(t,e) y=Tanh(v) }',
        "its ids are made by ScatterElements 'node', which is no operator of the embedding model",
    ),
    "ids with the batch second": (
        "(int64[N,3] ids) => (float[N,8] y) { i=Transpose<perm=[1,0]>(ids) v=Gather(t,i) y=ReduceSum<keepdims=0>(v,zero) }",
        "no leading batch dimension",
    ),
    "the batch backwards": (
        "(int64[N,3] ids) => (float[N,3,1] y) { i=Slice(ids,last,far,zero,last) v=Gather(t,i) y=MatMul(v,w) }",
        "depend on other rows",
    ),
    "ids less the smallest of the batch": (
        "(int64[N,3] ids) => (float[N,3,1] y) { m=ReduceMin<keepdims=1,axes=[0]>(ids) i=Sub(ids,m) v=Gather(t,i) y=MatMul(v,w) }",
        "depend on other rows",
    ),
    "ids counted through the batch": (
        "(int64[N] ids) => (float[N,1] y) { h=CumSum(ids,k0) i=Mod(h,k50) v=Gather(t,i) y=MatMul(v,w) }",
        "depend on other rows",
    ),
    "all ids in one row": (
        "(int64[N,3] ids) => (float[N,3,8] y) { i=Reshape(ids,row) v=Gather(t,i) s=Softmax<axis=1>(v) y=Reshape(s,deep2) }",
        "no leading batch dimension",
    ),
    "columns of a table": ("(int64[N] ids) => (float[50,N] y) { v=Gather<axis=1>(t,ids) y=Tanh(v) }", "columns of the table, not rows"),
    "a table of half precision of the other kind": (
        "(int64[N] ids) => (float[N,1] y) { h=Gather(brain,ids) v=Cast<to=1>(h) y=MatMul(v,w) }",
        "is of BFLOAT16",
    ),
    "a table that is computed": (
        "(int64[N] ids) => (float[N,1] y) { big=Mul(huge,c) v=Gather(big,ids) y=MatMul(v,w) }",
        "isn't stored but computed by Mul",
    ),
}


@pytest.mark.parametrize(("model", "reason"), REFUSED.values(), ids=REFUSED)
def test_lookups_that_mix_rows_or_read_no_rows_are_refused_and_it_is_told_why(model: str, reason: str) -> None:
    small_ones: Mapping[str, Array] = {
        "flat": at(-1),
        "row": at(1, -1),
        "deep": at(3, -1, 8),
        "deep2": at(-1, 3, 8),
        "wide": at(-1, 24),
        "zero": at(0),
        "last": at(-1),
        "far": at(-(2**40)),
        "k0": number(0),
        "k50": number(50),
        "c": np.full(1, 2, dtype=np.float32),
        "huge": HUGE,
        "brain": T.astype(ml_dtypes.bfloat16),
    }
    with pytest.raises(InputError, match="no lookup that can be cut out") as refused:
        small(model, {"t": T, "w": W, **small_ones})
    assert reason in refused.value.detail


def test_a_model_without_tables_is_refused() -> None:
    with pytest.raises(InputError, match="no embedding table"):
        small("(float[N,8] x) => (float[N,1] y) { y=MatMul(x,w) }", {"w": W})


def test_candidates_are_found_without_cutting() -> None:
    model, reason = STAYS["out of a layer"]
    candidates = find(loaded(proto(model, {"t": T, "u": table(60, 8), "u8": table(8, 60)})))
    assert [(item.table, item.rows, item.dim, item.is_lookup) for item in candidates] == [("t", 50, 8, True), ("u", 60, 8, False)]
    assert reason in candidates[1].reason


def test_an_input_that_only_tells_its_size_is_no_source_of_ids() -> None:
    """Ids shifted by the number of the dense numbers: they come from `ids` alone."""
    nodes = "n=Size(x) m=Mod(n,two) i=Add(ids,m) j=Mod(i,rows)"
    model = f"(int64[N,3] ids, float[N,2] x) => (float[N,3,8] y) {{ {nodes} y = Gather(t, j) }}"
    parts = small(model, {"t": table(50, 8), "two": number(2), "rows": number(50)})
    assert [lookup.inputs for lookup in parts.cut.lookups] == [("ids",)]


def test_an_input_whose_name_holds_a_comma_is_one_input() -> None:
    source = proto("(int64[N] ids) => (float[N,8] y) { i = Mod(ids, rows) y = Gather(t, i) }", {"t": table(50, 8), "rows": number(50)})
    source.graph.input[0].name = source.graph.node[0].input[0] = "a, b"
    (lookup,) = cut(loaded(source)).lookups
    assert lookup.inputs == ("a, b",)
