"""The parts' names, dtypes and shapes: users' names are left alone, few tensors cross, every output follows the batch."""

import numpy as np
import onnx_ir as ir
import pytest

from recsplit.errors import InputError, RecsplitError
from recsplit.graph.cut import cut
from recsplit.plan.files import PAGE_BYTES
from recsplit.plan.plan import UNKNOWN_IDS
from tests.graph.small import Small, agrees, feeds_for, filled, loaded, proto, small, table, tables_in

T, W = table(50, 8), table(8, 1)
ARRAYS = {"t": T, "w": W, "one": np.array([1]), "two": np.array([2]), "zero": np.array([0])}


@pytest.mark.parametrize("name", ["embeddings_8", "tables_float_8", "vectors_0"])
@pytest.mark.parametrize("role", ["input", "output", "inner value", "weight", "table"])
def test_names_that_the_model_has_already_stay_its_own(role: str, name: str) -> None:
    names_by_role = {**NAMES, role: name}
    text = (
        "(int64[N,3] ids, int64[N,T] h, float[N,3] {input}) => (float[N,3,1] {output}, float[N,T,8] far) "
        "{{ v=Gather({table},ids) {inner value}=MatMul(v,{weight}) "
        "u=Unsqueeze({input},two) {output}=Add({inner value},u) far=Gather(u2,h) }}"
    ).format(**names_by_role)
    arrays = {**ARRAYS, names_by_role["table"]: T, names_by_role["weight"]: W, "u2": table(60, 8)}
    parts = agrees(text, arrays, {"ids": 50, "h": 60})
    whole = parts.cut.whole.graph
    assert [value.name for value in whole.inputs] == ["ids", "h", names_by_role["input"]]
    assert [value.name for value in whole.outputs] == [names_by_role["output"], "far", UNKNOWN_IDS]


NAMES = {"input": "x", "output": "y", "inner value": "inner", "weight": "w", "table": "t"}


@pytest.mark.parametrize("role", ["input", "output"])
def test_the_name_of_the_marks_is_reserved(role: str) -> None:
    names_by_role = {**NAMES, role: UNKNOWN_IDS}
    text = "(int64[N] ids, float[N,8] {input}) => (float[N,8] {output}) {{ v=Gather(t,ids) {output}=Mul(v,{input}) }}".format(
        **names_by_role
    )
    with pytest.raises(InputError, match="unknown_ids"):
        small(text, ARRAYS)


def test_inside_a_model_the_name_of_the_marks_is_free() -> None:
    text = "(int64[N] ids) => (float[N,1] y) { v=Gather(t,ids) unknown_ids=Tanh(v) y=MatMul(unknown_ids,w) }"
    agrees(text, ARRAYS, {"ids": 50})


def test_lookups_of_one_table_have_names_of_their_own() -> None:
    text = (
        "(int64[N] ids, int64[N] b, int64[N,3] c) => (float[N,8] y) "
        "{ p=Gather(t,ids) q=Gather(t,b) v=Gather(t,c) r=ReduceSum<keepdims=0>(v,one) y=Sum(p,q,r) }"
    )
    names = [lookup.name for lookup in small(text, ARRAYS).cut.lookups]
    assert sorted(names) == ["t", "t_2", "t_3"]


def test_one_tensor_crosses_for_each_dtype_and_dim_and_one_for_what_varies() -> None:
    text = (
        "(int64[N,4] ids, int64[N,T] h) => (float[N,8] y, float[N,4,4] z, float16[N,4,8] x, float[N,T,8] q) "
        "{ a=Gather(t,ids) p=ReduceSum<keepdims=0>(a,one) b=Gather(u,ids) r=ReduceSum<keepdims=0>(b,one) y=Mul(p,r) "
        "c=Gather(t4,ids) z=Softmax(c) d=Gather(half,ids) x=Softmax(d) e=Gather(t,h) q=Softmax(e) }"
    )
    parts = small(text, {**ARRAYS, "u": table(60, 8), "t4": table(50, 4), "half": table(50, 8, dtype=np.float16)})
    crossing = {value.name: (value.dtype, list(value.shape or ())) for value in parts.cut.embedding.graph.outputs}
    assert crossing == {
        "embeddings_8": (ir.DataType.FLOAT, ["batch", 2, 8]),
        "embeddings_4": (ir.DataType.FLOAT, ["batch", 4, 4]),
        "embeddings_float16_8": (ir.DataType.FLOAT16, ["batch", 4, 8]),
        "vectors_0": (ir.DataType.FLOAT, ["batch", None, 8]),
        UNKNOWN_IDS: (ir.DataType.INT64, ["batch", 2]),
    }
    assert set(parts.cut.boundary) == set(crossing) - {UNKNOWN_IDS}
    assert not tables_in(parts, "dense")


def test_measured_shapes_are_what_sessions_answer() -> None:
    text = "(int64[N,3] ids, int64[N,T] h) => (float[N,3,1] y, float[N,T,8] z) { v=Gather(t,ids) y=MatMul(v,w) u=Gather(t,h) z=Tanh(u) }"
    parts = small(text, ARRAYS)
    feeds = feeds_for(text, {"ids": 50, "h": 50}, batch=6, length=9)
    for side, run in (("embedding", parts.embedding), ("whole", parts.whole)):
        answers = run(feeds)
        for value in getattr(parts.cut, side).graph.outputs:
            shape = answers[value.name].shape
            assert value.shape[0] == "batch" and shape[0] == 6
            assert all(
                size == declared_size
                for size, declared_size in zip(shape[1:], value.shape[1:], strict=True)
                if isinstance(declared_size, int)
            )


OUTPUTS_OFF_THE_BATCH = {
    "a sum over the batch": "float[8] y) { v=Gather(t,ids) y=ReduceSum<keepdims=0>(v,zero) }",
    "a sum over the batch, keepdims": "float[1,8] y) { v=Gather(t,ids) y=ReduceSum<keepdims=1>(v,zero) }",
    "two outputs, one a constant size": "float[N,8] x, float[8] y) { v=Gather(t,ids) x=Tanh(v) y=ReduceMax<axes=[0],keepdims=0>(v) }",
    "transposed": "float[8,N] y) { v=Gather(t,ids) y=Transpose<perm=[1,0]>(v) }",
}


@pytest.mark.parametrize("rest", OUTPUTS_OFF_THE_BATCH.values(), ids=OUTPUTS_OFF_THE_BATCH)
def test_an_output_that_does_not_follow_the_batch_is_refused(rest: str) -> None:
    with pytest.raises(RecsplitError, match="'y' has no batch dimension"):
        small(f"(int64[N] ids) => ({rest}", ARRAYS)


def test_int32_ids_are_asked_for_on_request_and_widened_for_who_else_reads_them() -> None:
    text = (
        "(int64[N,3] ids, int64[N] b, int64[N] age) => (float[N,3,1] y, float[N,3] mask, float[N] old) "
        "{ v=Gather(t,ids) y=MatMul(v,w) m=Greater(ids,k) mask=Cast<to=1>(m) "
        "r=Gather(t,b) s=ReduceSum<keepdims=0>(r,one) a=Cast<to=1>(age) old=Add(a,s) }"
    )
    parts = agrees(text, {**ARRAYS, "k": np.array(4)}, {"ids": 50, "b": 50}, int32_ids=True)
    dtypes = {value.name: value.dtype for value in parts.cut.whole.graph.inputs}
    assert dtypes == {"ids": ir.DataType.INT32, "b": ir.DataType.INT32, "age": ir.DataType.INT64}
    (gather,) = [node for node in parts.cut.embedding.graph if node.op_type == "Gather"]
    casts = [node.attributes["to"].as_int() for node in parts.cut.embedding.graph if node.op_type == "Cast"]
    assert gather.inputs[1] is not None and casts.count(ir.DataType.INT64) == 1, "ids are widened for the marks alone"


@pytest.mark.parametrize(("rows", "narrow"), [(2**30, True), (2**31 - 51, True), (2**31 - 50, False), (2**31, False), (3 * 2**30, False)])
def test_int32_ids_are_read_as_they_are_unless_the_fused_table_has_two_billion_rows(rows: int, narrow: bool) -> None:
    """No such table is created: its initializer names a file that isn't there, and nothing may read it."""
    text = "(int32[N] ids, int32[N] b) => (float[N,8] y) { v=Gather(big,ids) u=Gather(t,b) y=Mul(v,u) }"
    model = loaded(proto(text, {"big": table(40, 8), **ARRAYS}))
    shape = ir.Shape([rows, 8])
    model.graph.initializers["big"].const_value = ir.ExternalTensor("nowhere.bin", 0, rows * 32, ir.DataType.FLOAT, shape=shape, name="big")
    cut_model = cut(model)
    assert cut_model.fused[0].zero_row == rows + 50
    constants = [value.const_value for value in cut_model.embedding.graph.initializers.values() if "fallback" in (value.name or "")]
    assert [tensor.dtype for tensor in constants if tensor is not None] == [ir.DataType.INT32 if narrow else ir.DataType.INT64]


def test_fused_tables_start_at_page_boundaries_and_end_in_a_row_of_zeros() -> None:
    text = "(int64[N] ids) => (float[N,16] y) { a=Gather(t,ids) b=Gather(t4,ids) c=Gather(u4,ids) y=Concat<axis=1>(a,b,c) }"
    cut_model = small(text, {**ARRAYS, "t4": table(50, 4), "u4": table(77, 4)}).cut
    tensors = [fused.value.const_value for fused in cut_model.fused]
    assert [(item.offset % PAGE_BYTES, list(item.shape)) for item in tensors] == [(0, [51, 8]), (0, [128, 4])]  # type: ignore[union-attr]
    assert tensors[1].offset >= tensors[0].offset + 51 * 8 * 4  # type: ignore[union-attr]


def test_a_model_that_recsplit_wrote_can_be_cut_again() -> None:
    text = "(int64[N,3] ids) => (float[N,3,1] y) { v=Gather(t,ids) y=MatMul(v,w) }"
    first = small(text, ARRAYS, unknown_ids="zero")
    feeds = feeds_for(text, {"ids": 50})
    again = Small(cut(loaded(ir.to_proto(filled(first.cut, first.cut.whole)))))
    np.testing.assert_allclose(again(feeds)["y"], first.whole(feeds)["y"], rtol=1e-6)
