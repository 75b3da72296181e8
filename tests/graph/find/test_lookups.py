"""Every form of a lookup with a fixed or varying number of ids, as text: cut, equal, pooled where it should be."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.graph.small import Array, agrees, table, tables_in

T, U, W = table(50, 8), table(60, 8), table(8, 1)
I64 = np.int64


def at(*numbers: int) -> Array:
    return np.array(numbers, dtype=I64)


class Form(NamedTuple):
    """A model, its small constants besides the table `t` and the weight `w`, and the pooling of its lookups in plan order."""

    name: str
    text: str
    pooling: list[str]
    constants: Mapping[str, Any] = MappingProxyType({})
    ids: tuple[str, ...] = ("ids",)


FORMS = [
    Form("one id a row", "(int64[N] ids) => (float[N,1] y) { v=Gather(t,ids) y=MatMul(v,w) }", ["none"]),
    Form("three ids a row", "(int64[N,3] ids) => (float[N,3,1] y) { v=Gather(t,ids) y=MatMul(v,w) }", ["none"]),
    Form("axis -2", "(int64[N] ids) => (float[N,1] y) { v=Gather<axis=-2>(t,ids) y=MatMul(v,w) }", ["none"]),
    Form("ids of rank 3", "(int64[N,2,3] ids) => (float[N,2,3,1] y) { v=Gather(t,ids) y=MatMul(v,w) }", ["none"]),
    Form(
        "ids of rank 3, pooled",
        "(int64[N,2,3] ids) => (float[N,2,1] y) { v=Gather(t,ids) s=ReduceSum<keepdims=0>(v,two) y=MatMul(s,w) }",
        ["graph"],
        {"two": at(2)},
    ),
    Form("INT32", "(int32[N,3] ids) => (float[N,3,1] y) { v=Gather(t,ids) y=MatMul(v,w) }", ["none"]),
    *(
        Form(kind, f"({kind}[N,3] ids) => (float[N,3,1] y) {{ i=Cast<to=7>(ids) v=Gather(t,i) y=MatMul(v,w) }}", ["none"])
        for kind in ("int8", "uint8", "int16", "uint16", "uint32", "uint64", "float", "float16", "double")
    ),
    Form("BOOL", "(bool[N,3] ids) => (float[N,3,1] y) { i=Cast<to=7>(ids) v=Gather(t,i) y=MatMul(v,w) }", ["none"], ids=()),
    Form("raw vector out", "(int64[N] ids) => (float[N,8] y) { y=Gather(t,ids) }", ["none"]),
    Form("raw vectors out", "(int64[N,3] ids) => (float[N,3,8] y) { y=Gather(t,ids) }", ["none"]),
    Form("raw history out", "(int64[N,T] ids) => (float[N,T,8] y) { y=Gather(t,ids) }", ["none"]),
    Form("raw vectors out and used", "(int64[N,3] ids) => (float[N,3,8] v, float[N,3,1] y) { v=Gather(t,ids) y=MatMul(v,w) }", ["none"]),
    Form("raw bag out", "(int64[N,3] ids) => (float[N,8] y) { v=Gather(t,ids) y=ReduceSum<keepdims=0>(v,one) }", ["sum"]),
    Form(
        "raw vectors and bag out",
        "(int64[N,3] ids) => (float[N,3,8] v, float[N,8] y) { v=Gather(t,ids) y=ReduceSum<keepdims=0>(v,one) }",
        ["none"],
    ),
    Form(
        "two outputs, two tables",
        "(int64[N,2] ids, int64[N] b) => (float[N,2,1] y, float[N,1] z) { v=Gather(t,ids) y=MatMul(v,w) r=Gather(u,b) z=MatMul(r,w) }",
        ["none", "none"],
        {"u": U},
        ids=("ids", "b"),
    ),
    Form(
        "an output that needs no lookup",
        "(int64[N] ids, float[N,8] x) => (float[N,8] y, float[N,8] z) { v=Gather(t,ids) y=Tanh(v) z=Identity(x) }",
        ["none"],
    ),
    Form(
        "sum over the vector",
        "(int64[N,3] ids) => (float[N,3] y) { v=Gather(t,ids) r=ReduceSum<keepdims=0>(v,two) y=Tanh(r) }",
        ["graph"],
        {"two": at(2)},
    ),
    Form(
        "sum over all",
        "(int64[N,3] ids) => (float[N] y) { v=Gather(t,ids) r=ReduceSum<keepdims=0>(v,both) y=Tanh(r) }",
        ["graph"],
        {"both": at(1, 2)},
    ),
    Form(
        "sum, keepdims", "(int64[N,3] ids) => (float[N,1,1] y) { v=Gather(t,ids) r=ReduceSum<keepdims=1>(v,one) y=MatMul(r,w) }", ["graph"]
    ),
    Form(
        "masked sum",
        "(int64[N,3] ids) => (float[N,1] y) { v=Gather(t,ids) e=Equal(ids,zero) n=Not(e) f=Cast<to=1>(n) m=Unsqueeze(f,two) "
        "p=Mul(v,m) s=ReduceSum<keepdims=0>(p,one) y=MatMul(s,w) }",
        ["graph"],
        {"zero": np.array(0), "two": at(2)},
    ),
    Form(
        "masked mean by a BOOL input",
        "(int64[N,T] ids, bool[N,T] seen) => (float[N,1] y) { v=Gather(t,ids) f=Cast<to=1>(seen) m=Unsqueeze(f,last) p=Mul(v,m) "
        "s=ReduceSum<keepdims=0>(p,one) c=ReduceSum<keepdims=0>(m,one) c1=Max(c,least) q=Div(s,c1) y=MatMul(q,w) }",
        ["graph"],
        {"last": at(-1), "least": np.array([1], dtype=np.float32)},
    ),
    Form("history, pooled", "(int64[N,T] ids) => (float[N,1] y) { v=Gather(t,ids) s=ReduceSum<keepdims=0>(v,one) y=MatMul(s,w) }", ["sum"]),
    Form(
        "history, not pooled",
        "(int64[N,T] ids) => (float[N,1] y) { v=Gather(t,ids) s=MatMul(v,w) y=ReduceSum<keepdims=0>(s,one) }",
        ["none"],
    ),
    Form(
        "a history trimmed to the longest of the batch",
        "(int64[N,T] ids, int64[N] n) => (float[N,1] y) { m=ReduceMax<keepdims=1>(n) l=Max(m,one) i=Slice(ids,zero,l,one) v=Gather(t,i) "
        "k=Shape(i) e=Gather(k,second) g=Range(first,e,second) h=Unsqueeze(n,one) b=Less(g,h) f=Cast<to=1>(b) q=Unsqueeze(f,two) "
        "p=Mul(v,q) s=ReduceSum<keepdims=0>(p,one) y=MatMul(s,w) }",
        ["graph"],
        {"zero": at(0), "two": at(2), "first": np.array(0), "second": np.array(1)},
        ids=("ids", "n"),
    ),
    Form(
        "two histories of one table",
        "(int64[N,T] ids, int64[N,T] b) => (float[N,1] y) "
        "{ v=Gather(t,ids) r=Gather(t,b) p=Mul(v,r) s=ReduceSum<keepdims=0>(p,one) y=MatMul(s,w) }",
        ["none", "none"],
        ids=("ids", "b"),
    ),
    Form(
        "flattened and reshaped back",
        "(int64[N,3] ids) => (float[N,24] y) { f=Reshape(ids,flat) v=Gather(t,f) r=Reshape(v,wide) y=Tanh(r) }",
        ["graph"],
        {"flat": at(-1), "wide": at(-1, 24)},
    ),
    Form(
        "flattened, a layer on [3 * batch, dim]",
        "(int64[N,3] ids) => (float[N,3] y) { f=Reshape(ids,flat) v=Gather(t,f) r=MatMul(v,w) y=Reshape(r,wide) }",
        ["none"],
        {"flat": at(-1), "wide": at(-1, 3)},
    ),
    Form(
        "flattened, reshaped back and pooled",
        "(int64[N,3] ids) => (float[N,1] y) "
        "{ f=Reshape(ids,flat) v=Gather(t,f) r=Reshape(v,deep) s=ReduceSum<keepdims=0>(r,one) y=MatMul(s,w) }",
        ["graph"],
        {"flat": at(-1), "deep": at(-1, 3, 8)},
    ),
    Form(
        "two bags a row by a view",
        "(int64[N,6] ids) => (float[N,2] y) "
        "{ f=Reshape(ids,bags) v=Gather(t,f) s=ReduceSum<keepdims=0>(v,one) r=MatMul(s,w) y=Reshape(r,wide) }",
        ["sum"],
        {"bags": at(-1, 3), "wide": at(-1, 2)},
    ),
    Form(
        "a table used twice",
        "(int64[N,2] ids, int64[N] b) => (float[N,1] y) { v=Gather(t,ids) r=Gather(t,b) r1=Unsqueeze(r,one) c=Concat<axis=1>(v,r1) "
        "m=ReduceSum<keepdims=0>(c,one) y=MatMul(m,w) }",
        ["none", "none"],
        ids=("ids", "b"),
    ),
    Form(
        "dims 4, 8, 8, 16",
        "(int64[N,3] ids) => (float[N,3,36] y) "
        "{ a=Gather(t4,ids) b=Gather(t,ids) c=Gather(u,ids) d=Gather(t16,ids) e=Concat<axis=2>(a,b,c,d) y=Tanh(e) }",
        ["none"] * 4,
        {"t4": table(50, 4), "u": U, "t16": table(50, 16)},
    ),
    Form(
        "a half and a float table",
        "(int64[N,3] ids) => (float[N,3,1] y) { a=Gather(h,ids) f=Cast<to=1>(a) p=MatMul(f,w) b=Gather(t,ids) q=MatMul(b,w) y=Add(p,q) }",
        ["none", "none"],
        {"h": table(50, 8, dtype=np.float16)},
    ),
    Form(
        "a double table",
        "(int64[N,3] ids, int64[N,T] b) => (double[N,1] y) { a=Gather(d,ids) p=ReduceMean<axes=[1],keepdims=0>(a) c=Gather(d,b) "
        "q=ReduceMax<axes=[1],keepdims=0>(c) s=Add(p,q) y=MatMul(s,dw) }",
        ["mean", "max"],
        {"d": table(50, 8, dtype=np.float64), "dw": table(8, 1, dtype=np.float64)},
        ids=("ids", "b"),
    ),
    Form(
        "every pooling at once",
        "(int64[N,4] ids) => (float[N,1] y) "
        "{ a=Gather(t,ids) p=ReduceSum<keepdims=0>(a,one) b=Gather(u,ids) q=ReduceMean<axes=[1],keepdims=0>(b) "
        "c=Gather(t,ids) r=ReduceMax<axes=[1],keepdims=0>(c) d=Gather(u,ids) e=MatMul(d,w) f=ReduceSum<keepdims=0>(e,one) "
        "s=Sum(p,q,r) g=MatMul(s,w) y=Add(g,f) }",
        ["max", "mean", "none", "sum"],
        {"u": U},
    ),
    *(
        Form(
            f"bag {mode}, padding {padding}",
            f"(int64[N,{length}] ids) => (float[N,1] y) "
            f'{{ b=recsplit.EmbeddingBag<mode="{mode}",padding_idx={padding},include_last_offset=0>(t,ids) '
            "y=MatMul(b,w) }",
            [mode],
        )
        for mode in ("sum", "mean", "max")
        for padding in (-1, 0, 3)
        for length in ("4", "T")
    ),
    *(
        Form(
            f"weighted bag, padding {padding}",
            f"(int64[N,{length}] ids, float[N,{length}] x) => (float[N,1] y) "
            f'{{ b=recsplit.EmbeddingBag<mode="sum",padding_idx={padding},include_last_offset=0>(t,ids,,x) y=MatMul(b,w) }}',
            ["sum"],
        )
        for padding in (-1, 0, 3)
        for length in ("4", "T")
    ),
    *(
        Form(
            f"two bags a row by a view, {mode}, padding {padding}",
            f'(int64[N,6] ids) => (float[N,2] y) {{ f=Reshape(ids,bags) b=recsplit.EmbeddingBag<mode="{mode}",padding_idx={padding},'
            "include_last_offset=0>(t,f) r=MatMul(b,w) y=Reshape(r,wide) }",
            [mode],
            {"bags": at(-1, 3), "wide": at(-1, 2)},
        )
        for mode, padding in (("sum", -1), ("mean", 3), ("max", 3))
    ),
]


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_a_lookup_is_cut_and_the_parts_answer_as_the_source(form: Form) -> None:
    arrays = {"t": T, "w": W, "one": at(1), **form.constants}
    limits = dict.fromkeys(form.ids, 6 if "bag" in form.text.lower() else 50) | {"n": 5}  # few ids, so that padding is among them
    parts = agrees(form.text, arrays, limits)
    assert [lookup.pooling for lookup in parts.cut.lookups] == form.pooling
    assert not tables_in(parts, "dense") & {"t", "u", "t4", "t16", "h", "d"}


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("axis", [1, -2])
@pytest.mark.parametrize("pooling", ["sum", "mean", "max"])
def test_pooling_moves_along_at_every_opset(pooling: str, axis: int, opset: int) -> None:
    kind = f"Reduce{pooling.capitalize()}"
    by_attribute = kind != "ReduceSum" and opset < 18
    reduced = f"{kind}<keepdims=0,axes=[{axis}]>(v)" if by_attribute else f"{kind}<keepdims=0>(v,axes)"
    text = f"(int64[N,3] ids) => (float[N,1] y) {{ v=Gather(t,ids) s={reduced} y=MatMul(s,w) }}"
    parts = agrees(text, {"t": T, "w": W, "axes": at(axis)}, {"ids": 50}, opset=opset)
    assert [lookup.pooling for lookup in parts.cut.lookups] == [pooling]
    assert [len(value.shape or ()) for value in parts.cut.embedding.graph.outputs] == [3, 2]
    assert not [kind for kind in parts.operators("dense") if kind.startswith("Reduce")]


def test_a_table_that_a_layer_also_reads_stays_with_it_too() -> None:
    text = "(int64[N] ids) => (float[N,50] y) { v=Gather(t,ids) q=Tanh(v) back=Transpose<perm=[1,0]>(t) y=MatMul(q,back) }"
    parts = agrees(text, {"t": T}, {"ids": 50})
    assert len(tables_in(parts, "dense")) == 1 and len(parts.cut.fused) == 1


SHAPES = {
    "[batch]": "n=Shape(v) b=Slice(n,zero,one)",
    "[batch] by attributes": "b=Shape<start=0,end=1>(v)",
    "[batch] from the end": "b=Shape<start=-3,end=-2>(v)",
    "all its elements": "z=Size(v) o=Size(o0) q=Div(z,per) b=Unsqueeze(q,zero)",
}


@pytest.mark.parametrize("ids", ["int64[N,3]", "int64[N,T]"])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_model_that_learns_its_batch_from_the_vectors_shape_does_not_keep_the_table(shape: str, keepdims: int, ids: str) -> None:
    if "Size" in shape and "T" in ids:
        pytest.skip("elements a row vary")
    text = (
        f"({ids} ids) => (float[N,8] y) {{ v=Gather(t,ids) s=ReduceSum<keepdims={keepdims}>(v,one) {shape} "
        "n8=Concat<axis=0>(b,e) r=Reshape(s,n8) y=Tanh(r) }"
    )
    parts = agrees(text, {"t": T, "one": at(1), "zero": at(0), "e": at(8), "per": np.array(24), "o0": at(1)}, {"ids": 50})
    assert "t" not in tables_in(parts, "dense")


def test_a_history_may_be_empty() -> None:
    text = "(int64[N,T] ids) => (float[N,1] y) { v=Gather(t,ids) s=ReduceSum<keepdims=0>(v,one) y=MatMul(s,w) }"
    parts = agrees(text, {"t": T, "w": W, "one": at(1)}, {"ids": 50})
    answers = parts({"ids": np.zeros((3, 0), dtype=I64)})
    assert np.array_equal(answers["y"], np.zeros((3, 1))) and (answers["unknown_ids"][:, 0] == -1).all()
