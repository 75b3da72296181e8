"""Tables that are read by rows in another form than Gather: cut as lookups, equal, refused outside; and what only looks like one."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import pytest

from recsplit.load.normalize import normalize
from recsplit.plan.plan import UNKNOWN_IDS
from tests.graph.small import Array, agrees, loaded, proto, small, table

ROWS = 50
T, W, BIAS, CUBE = table(ROWS, 8), table(8, 1), table(ROWS, 1)[:, 0], table(ROWS, 8).reshape(ROWS, 2, 4)
BITS, F32 = np.array([0, 1], np.float32), np.float32


def at(*numbers: int) -> Array:
    return np.array(numbers, dtype=np.int64)


class Form(NamedTuple):
    """A model that reads one table by `ids`, which has ROWS rows, and what it has besides the constants that all have."""

    name: str
    text: str
    constants: Mapping[str, Any] = MappingProxyType({})


FORMS = [
    Form("weights [rows]", "(int64[N] ids) => (float[N] y) { g=Gather(bias,ids) y=Tanh(g) }"),
    Form("weights [rows], from the last axis", "(int64[N] ids) => (float[N] y) { g=Gather<axis=-1>(bias,ids) y=Tanh(g) }"),
    Form("weights [rows] by ids [batch, 3]", "(int64[N,3] ids) => (float[N,3] y) { g=Gather(bias,ids) y=Tanh(g) }"),
    Form("weights [rows], summed", "(int32[N,3] ids) => (float[N,1] y) { g=Gather(bias,ids) y=ReduceSum<keepdims=1>(g,one) }"),
    Form("weights [rows] of a history", "(int64[N,T] ids) => (float[N] y) { g=Gather(bias,ids) y=ReduceSum<keepdims=0>(g,one) }"),
    Form("weights [rows] are the answer", "(int64[N] ids) => (float[N] y) { y=Gather(bias,ids) }"),
    Form("weights [rows] by elements", "(int64[N] ids) => (float[N] y) { g=GatherElements(bias,ids) y=Tanh(g) }"),
    Form(
        "weights [rows] beside a table of the same ids",
        "(int64[N] ids) => (float[N,1] y) { g=Gather(bias,ids) h=Unsqueeze(g,one) v=Gather(t,ids) p=MatMul(v,w) y=Add(p,h) }",
    ),
    Form("weights [rows] in half precision", "(int64[N] ids) => (float16[N] y) { y=Gather(half,ids) }", {"half": BIAS.astype(np.float16)}),
    Form("blocks", "(int64[N] ids) => (float[N,2,4] y) { g=Gather(cube,ids) y=Tanh(g) }"),
    Form("blocks by ids [batch, 3]", "(int64[N,3] ids) => (float[N,3,2,4] y) { g=Gather<axis=-3>(cube,ids) y=Tanh(g) }"),
    Form(
        "blocks of a history, pooled",
        "(int64[N,T] ids) => (float[N,2,4] y) { g=Gather(cube,ids) s=ReduceSum<keepdims=0>(g,one) y=Tanh(s) }",
    ),
    Form("columns turned", "(int64[N] ids) => (float[N,8] y) { g=Gather<axis=1>(turned,ids) h=Transpose<perm=[1,0]>(g) y=Tanh(h) }"),
    Form(
        "columns by ids [batch, 3], turned",
        "(int64[N,3] ids) => (float[N,3,8] y) { g=Gather<axis=1>(turned,ids) h=Transpose<perm=[1,2,0]>(g) y=Tanh(h) }",
    ),
    Form("elements of a row", "(int64[N,1] ids) => (float[N,8] y) { e=Expand(ids,wide) g=GatherElements(t,e) y=Tanh(g) }"),
    Form("elements of a row, tiled", "(int64[N,1] ids) => (float[N,8] y) { e=Tile(ids,wide) g=GatherElements<axis=0>(t,e) y=Tanh(g) }"),
    Form(
        "elements of a row as the legacy exporter writes it",
        "(int64[N] ids) => (float[N,8] y) { u=Unsqueeze(ids,one) c=ConstantOfShape<value=int64[1] {1}>(two) m=Mul(c,minus) q=Equal(any,m) "
        "s=Where(q,c,any) e=Expand(u,s) g=GatherElements(t,e) y=Tanh(g) }",
        {"two": at(2), "minus": np.array(-1), "any": at(-1, 8)},
    ),
    Form("OneHot", "(int64[N] ids) => (float[N,8] y) { o=OneHot(ids,depth,bits) g=MatMul(o,t) y=Tanh(g) }"),
    Form("OneHot of INT32", "(int32[N,3] ids) => (float[N,3,8] y) { o=OneHot<axis=2>(ids,narrow,bits) g=MatMul(o,t) y=Tanh(g) }"),
    Form(
        "OneHot in whole numbers, pooled",
        "(int64[N,3] ids) => (float[N,8] y) "
        "{ o=OneHot(ids,depth,whole) f=Cast<to=1>(o) g=MatMul(f,t) s=ReduceSum<keepdims=0>(g,one) y=Tanh(s) }",
        {"whole": at(0, 1)},
    ),
    Form(
        "one_hot as torch.onnx writes it",
        "(int64[N] ids) => (float[N,8] y) { u=Unsqueeze(ids,last) e=Equal(u,all) i=Cast<to=7>(e) f=Cast<to=1>(i) g=MatMul(f,t) y=Tanh(g) }",
    ),
    Form(
        "one_hot, compared the other way round",
        "(int64[N,3] ids) => (float[N,3,8] y) { u=Unsqueeze(ids,last) e=Equal(all,u) f=Cast<to=1>(e) g=MatMul(f,t) y=Tanh(g) }",
    ),
    Form(
        "a linear layer on one-hot vectors",
        "(int64[N] ids) => (float[N,8] y) { o=OneHot(ids,depth,bits) g=Gemm<transB=1>(o,turned,shift) y=Tanh(g) }",
        {"shift": np.arange(8, dtype=F32)},
    ),
    Form(
        "a linear layer whose weight is turned in the graph",
        "(int64[N] ids) => (float[N,8] y) { o=OneHot(ids,depth,bits) h=Transpose(large) g=MatMul(o,h) y=Slice(g,zero,eight,one) }",
        {"large": np.ascontiguousarray(table(ROWS, 2000).T), "zero": at(0), "eight": at(8)},
    ),
    Form(
        "several one-hot vectors added up",
        "(int64[N,3] ids) => (float[N,8] y) { o=OneHot(ids,depth,whole) s=ReduceSum<keepdims=0>(o,one) f=Cast<to=1>(s) g=MatMul(f,t) "
        "y=Tanh(g) }",
        {"whole": at(0, 1)},
    ),
    Form(
        "several added up as torch.onnx writes them",
        "(int64[N,3] ids) => (float[N,8] y) { u=Unsqueeze(ids,last) e=Equal(u,all) i=Cast<to=7>(e) s=ReduceSum<keepdims=0>(i,before) "
        "f=Cast<to=1>(s) g=MatMul(f,t) y=Tanh(g) }",
        {"before": at(-2)},
    ),
    Form(
        "each id once",
        "(int64[N,3] ids) => (float[N,3,8] y) { f=Reshape(ids,flat) u,a,i,c=Unique<sorted=1>(f) r=Gather(t,u) v=Gather(r,i) "
        "d=Reshape(v,deep) y=Tanh(d) }",
        {"flat": at(-1), "deep": at(-1, 3, 8)},
    ),
    Form(
        "each id once, places shaped as the ids",
        "(int64[N,3] ids) => (float[N,3,8] y) { u,a,i,c=Unique(ids) k=Shape(ids) p=Reshape(i,k) r=Gather(t,u) v=Gather(r,p) y=Tanh(v) }",
    ),
]
SHARED: dict[str, Any] = {
    "t": T,
    "w": W,
    "bias": BIAS,
    "cube": CUBE,
    "turned": np.ascontiguousarray(T.T),
    "bits": BITS,
    "depth": np.array(ROWS),
    "one": at(1),
    "narrow": np.array(ROWS, np.int32),
    "last": at(-1),
    "wide": at(1, 8),
    "all": np.arange(ROWS),
}


@pytest.mark.parametrize("policy", ["error", "zero", "row=7"])
@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_it_is_cut_and_equal_and_its_columns_are_told(form: Form, policy: str) -> None:
    parts = agrees(form.text, {**SHARED, **form.constants}, {"ids": ROWS}, unknown_ids=policy)
    assert all(item.is_lookup for item in parts.cut.candidates)
    assert all((lookup.direct, lookup.limit) == (True, ROWS) for lookup in parts.cut.lookups)
    large = [
        value.name
        for value in parts.cut.dense.graph.initializers.values()
        if value.const_value is not None and value.const_value.size >= ROWS
    ]
    assert not large, "a table stayed in the dense model"


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_its_ids_may_be_asked_for_in_int32(form: Form) -> None:
    agrees(form.text, {**SHARED, **form.constants}, {"ids": ROWS}, int32_ids=True)


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_an_id_outside_is_unknown(form: Form) -> None:
    arrays = {**SHARED, **form.constants}
    parts, kind = small(form.text, arrays), np.int32 if "int32" in form.text else np.int64
    shape = (3,) if "[N] ids" in form.text else (3, 1) if "[N,1] ids" in form.text else (3, 3)
    ids = np.ones(shape, kind)
    ids[1], ids[2] = ROWS, -1
    assert (parts({"ids": ids})[UNKNOWN_IDS][:, 0] >= 0).tolist() == [False, True, True]
    row = small(form.text, arrays, unknown_ids="row=1")({"ids": ids})["y"]
    assert np.array_equal(row[1], row[0]) and np.array_equal(row[2], row[0])


LEFT = {
    "a one-hot vector that is padded": "o=OneHot(ids,thirty,bits) p=Pad(o,pads) g=MatMul(p,t)",
    "a one that is a two": "o=OneHot(ids,depth,twos) g=MatMul(o,t)",
    "a zero that is a one": "o=OneHot(ids,depth,cold) g=MatMul(o,t)",
    "one-hot vectors along the first axis": "o=OneHot<axis=0>(ids,depth,bits) h=Transpose(o) g=MatMul(h,t)",
    "a comparison with other numbers": "u=Unsqueeze(ids,last) e=Equal(u,odd) f=Cast<to=1>(e) g=MatMul(f,t)",
    "several one-hot vectors, each id once": (
        "w2=Unsqueeze(ids,last) o=OneHot(w2,depth,bits) s=ReduceSum<keepdims=0>(o,one) k=Cast<to=9>(s) f=Cast<to=1>(k) g=MatMul(f,t)"
    ),
    "the largest of several one-hot vectors": (
        "w2=Unsqueeze(ids,last) o=OneHot(w2,depth,bits) s=ReduceMax<axes=[1],keepdims=0>(o) g=MatMul(s,t)"
    ),
    "a scaled product": "o=OneHot(ids,depth,bits) g=Gemm<alpha=2.0>(o,t)",
    "elements of several rows": "u=Unsqueeze(ids,last) e=Concat<axis=1>(u,u,u,u,u,u,u,u) g=GatherElements(t,e)",
    "unique ids whose places are counted on": (
        "f=Reshape(ids,last) u,a,i,c=Unique(f) r=Gather(t,u) j=Sub(i,zero) v=Gather(r,j) g=Identity(v)"
    ),
}


@pytest.mark.parametrize("nodes", LEFT.values(), ids=LEFT)
def test_what_is_no_lookup_in_truth_stays_as_it_is(nodes: str) -> None:
    constants = {
        "thirty": np.array(30),
        "pads": at(0, 0, 0, 20),
        "twos": np.array([0, 2], F32),
        "cold": np.array([1, 0], F32),
        "odd": np.arange(ROWS) * 2,
        "zero": np.array(0),
    }
    text = f"(int64[N] ids) => (float[N,8] y) {{ {nodes} y=Tanh(g) }}"
    model = loaded(proto(text, {**SHARED, **constants}))
    assert not [node for node in model.graph if (node.name or "").startswith("by_rows/")]


def test_a_table_in_a_file_is_seen_as_rows_where_it_lies() -> None:
    model = ir.from_proto(proto("(int64[N] ids) => (float[N] y) { y=Gather(bias,ids) }", {"bias": BIAS}))
    (value,) = model.graph.initializers.values()
    value.const_value = ir.ExternalTensor("far.bin", 4096, BIAS.nbytes, ir.DataType.FLOAT, shape=ir.Shape([ROWS]), name="bias")
    normalize(model, origin="small")
    (tensor,) = [item.const_value for item in model.graph.initializers.values() if item.name == "bias"]
    assert isinstance(tensor, ir.ExternalTensor) and tensor.shape.numpy() == (ROWS, 1)
    assert (tensor.location, tensor.offset, tensor.length) == ("far.bin", 4096, BIAS.nbytes)


def test_a_weight_that_something_else_reads_too_keeps_its_name() -> None:
    text = "(int64[N] ids, float[N,50] x) => (float[N] y) { g=Gather(bias,ids) s=MatMul(x,bias) y=Add(g,s) }"
    parts = agrees(text, {"bias": BIAS}, {"ids": ROWS})
    assert [lookup.table for lookup in parts.cut.lookups] == ["bias_rows"]


def test_two_readers_of_one_weight_share_its_rows() -> None:
    text = "(int64[N] ids, int64[N] b) => (float[N] y) { g=Gather(bias,ids) h=Gather(bias,b) y=Add(g,h) }"
    parts = agrees(text, {"bias": BIAS}, {"ids": ROWS, "b": ROWS})
    assert [lookup.table for lookup in parts.cut.lookups] == ["bias", "bias"] and len(parts.cut.fused[0].sources) == 1
