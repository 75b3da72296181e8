"""Builds that must fail, and leave nothing behind; builds that must not: half precision, policies, several outputs, versions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsplit.errors import InputError, RecsplitError
from recsplit.plan.plan import UNKNOWN_IDS
from recsplit.proof import published
from recsplit.repository.find import find
from tests.build.onnx_models import build_of, built
from tests.graph.small import Array, table

T, W = table(50, 8), table(8, 1)
ARRAYS: dict[str, Array] = {
    "t": T,
    "u": table(60, 8),
    "w": W,
    "w4": table(4, 1),
    "one": np.array([1]),
    "zero": np.array([0]),
    "eight": np.ones(8, np.float32),
}

MIXES_ROWS = {
    "softmax over the batch": "(int64[N] ids) => (float[N,1] y) { v=Gather(t,ids) m=MatMul(v,w) y=Softmax<axis=0>(m) }",
    "the batch's mean": "(int64[N] ids) => (float[N,8] y) { v=Gather(t,ids) m=ReduceMean<axes=[0],keepdims=1>(v) y=Sub(v,m) }",
    "batch normalization in training": (
        "(int64[N] ids) => (float[N,8] y) { v=Gather(t,ids) y,m,s=BatchNormalization<training_mode=1>(v,eight,eight,eight,eight) }"
    ),
    "the last row's score": (
        "(int64[N] ids, float[N,4] x) => (float[N,1] y) { v=Gather(t,ids) m=MatMul(v,w) c=MatMul(x,w4) l=CumSum(c,axis) y=Add(m,l) }"
    ),
    "the batch's size": (
        "(int64[N] ids) => (float[N,1] y) { v=Gather(t,ids) m=MatMul(v,w) n=Shape<start=0,end=1>(ids) f=Cast<to=1>(n) y=Div(m,f) }"
    ),
    "the batch sorted": (
        "(int64[N] ids) => (float[N,1] y) { v=Gather(t,ids) m=MatMul(v,w) n=Shape<start=0,end=1>(ids) y,i=TopK<axis=0>(m,n) }"
    ),
}


@pytest.mark.parametrize("text", MIXES_ROWS.values(), ids=MIXES_ROWS)
def test_a_model_whose_rows_depend_on_each_other_is_refused_by_the_proof(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"depends on the other rows|answers differently when it is asked again"):
        built(tmp_path, text, {**ARRAYS, "axis": np.array(0)})
    assert not list((tmp_path / "models").glob("*"))


def test_an_example_with_ids_from_the_end_is_refused_rather_than_left_out(tmp_path: Path) -> None:
    """An example is what users send. A cut that refuses it, rightly or not, must not be published."""
    with pytest.raises(InputError, match="row 2 of the source's own example"):
        build_of("tests.build.torch_models:from_the_end", tmp_path / "models")


def test_a_failed_build_leaves_the_build_before_it_as_it_was(tmp_path: Path) -> None:
    good = "(int64[N] ids) => (float[N,1] y) { v=Gather(t,ids) y=MatMul(v,w) }"
    first = built(tmp_path, good, ARRAYS)
    before = {path: path.read_bytes() for path in first.repository.rglob("*") if path.is_file()}
    with pytest.raises(RecsplitError):
        built(tmp_path, MIXES_ROWS["softmax over the batch"], ARRAYS)
    assert {path: path.read_bytes() for path in first.repository.rglob("*") if path.is_file()} == before
    again = built(tmp_path, good, ARRAYS)
    assert again.plan.version == 2 and find(again.repository).plan == again.plan


FINE: dict[str, tuple[str, dict[str, Any]]] = {
    "rows of zeros": ("(int64[N] ids) => (float[N,8] y) { v=Gather(nothing,ids) y=Tanh(v) }", {}),
    "nothing but the vectors": ("(int64[N,3] ids) => (float[N,3,8] y) { y=Gather(t,ids) }", {}),
    "a scalar a row": ("(int64[N] ids) => (float[N] y) { v=Gather(t,ids) y=ReduceSum<keepdims=0>(v,one) }", {}),
    "a scalar a row, twice out": (
        "(int64[N] ids) => (float[N] y, float[N] z) { v=Gather(t,ids) y=ReduceSum<keepdims=0>(v,one) z=Neg(y) }",
        {},
    ),
    "integers out": (
        "(int64[N,3] ids) => (int64[N,3] best, float[N,3,1] y) { v=Gather(t,ids) y=MatMul(v,w) best=ArgMax<axis=2,keepdims=0>(v) }",
        {},
    ),
    "truths out": ("(int64[N,3] ids) => (bool[N,3,8] high) { v=Gather(t,ids) high=Greater(v,low) }", {}),
    "a history and no other input": (
        "(int64[N,T] ids) => (float[N,1] y) { v=Gather(t,ids) s=ReduceSum<keepdims=0>(v,one) y=MatMul(s,w) }",
        {},
    ),
    "an input that goes straight out": (
        "(int64[N] ids, float[N,4] x) => (float[N,8] y, float[N,4] z) { v=Gather(t,ids) y=Tanh(v) z=Identity(x) }",
        {},
    ),
    "an input that nothing reads": ("(int64[N] ids, float[N,4] x) => (float[N,8] y) { v=Gather(t,ids) y=Tanh(v) }", {}),
    "zeros for unknown ids": (
        "(int64[N] ids, int64[N] b) => (float[N,8] y) { v=Gather(t,ids) q=Gather(u,b) y=Mul(v,q) }",
        {"unknown_ids": "zero"},
    ),
    "a row for unknown ids": (
        "(int64[N] ids, int64[N] b) => (float[N,8] y) { v=Gather(t,ids) q=Gather(u,b) y=Mul(v,q) }",
        {"unknown_ids": "row=49"},
    ),
    "narrow ids": ("(int64[N,3] ids) => (float[N,3,1] y) { v=Gather(t,ids) y=MatMul(v,w) }", {"int32_ids": True}),
    "one row at most": ("(int64[N,3] ids) => (float[N,3,1] y) { v=Gather(t,ids) y=MatMul(v,w) }", {"max_batch_size": 1}),
    "a double table": ("(int64[N] ids) => (double[N,8] y) { v=Gather(wide,ids) y=Tanh(v) }", {}),
    "a half table, within its precision": (
        "(int64[N,3] ids) => (float16[N,8] y) { v=Gather(half,ids) s=ReduceSum<keepdims=0>(v,one) y=Tanh(s) }",
        {},
    ),
    "a mask of other inputs": (
        (
            "(int64[N,3] ids, int64[N] lengths) => (float[N,1] y) { v=Gather(t,ids) l=Unsqueeze(lengths,one) m=Less(three,l) "
            "f=Cast<to=1>(m) k=Unsqueeze(f,two) p=Mul(v,k) s=ReduceSum<keepdims=0>(p,one) y=MatMul(s,w) }"
        ),
        {},
    ),
}


@pytest.mark.parametrize(("text", "settings"), FINE.values(), ids=FINE)
def test_it_is_built_and_proved_again(text: str, settings: dict[str, Any], tmp_path: Path) -> None:
    more = {
        "nothing": np.zeros((50, 8), np.float32),
        "low": np.array(0, np.float32),
        "wide": table(50, 8, dtype=np.float64),
        "half": table(50, 8, dtype=np.float16),
        "three": np.arange(3)[None],
        "two": np.array([2]),
    }
    build = built(tmp_path, text, {**ARRAYS, **more}, **settings)
    assert all(item.ok for item in published.verify(build.repository, source=str(tmp_path / "source.onnx")))
    marked = UNKNOWN_IDS in {tensor.name for tensor in build.plan.outputs}
    assert marked == (settings.get("unknown_ids", "error") == "error")
    dtypes = {tensor.name: tensor.dtype for tensor in build.plan.inputs}
    assert dtypes.get("ids") == ("INT32" if "int32_ids" in settings else "INT64")
    assert {tensor.name for tensor in build.plan.embedding.inputs} | {tensor.name for tensor in build.plan.dense.inputs} >= set(dtypes) - {
        "x"
    }


@pytest.mark.parametrize(("table_name", "tolerance"), [("t", 1e-5), ("wide", 1e-5), ("half", 1e-2)])
def test_the_tolerance_follows_the_narrowest_dtype_on_the_way_to_an_output(table_name: str, tolerance: float, tmp_path: Path) -> None:
    wide = {"wide": table(50, 8, dtype=np.float64), "half": table(50, 8, dtype=np.float16)}
    text = f"(int64[N] ids) => (float[N,8] y) {{ v=Gather({table_name},ids) c=Cast<to=1>(v) y=Tanh(c) }}"
    assert built(tmp_path, text, {**ARRAYS, **wide}).plan.tolerance == tolerance
    assert built(tmp_path, text, {**ARRAYS, **wide}, tolerance=1e-3).plan.tolerance == 1e-3


def test_the_plan_tells_the_tables_and_where_each_id_goes(tmp_path: Path) -> None:
    text = "(int64[N,3] ids, int64[N] b) => (float[N,8] y) { v=Gather(t,ids) s=ReduceSum<keepdims=0>(v,one) q=Gather(u,b) y=Mul(s,q) }"
    plan = built(tmp_path, text, ARRAYS).plan
    assert sorted((item.name, item.rows, item.dim, item.dtype, item.size_bytes) for item in plan.tables) == [
        ("t", 50, 8, "FP32", 50 * 32),
        ("u", 60, 8, "FP32", 60 * 32),
    ]
    assert {(item.table, item.pooling, item.inputs, item.columns, item.width) for item in plan.lookups} == {
        ("t", "sum", ("ids",), (0, 3), 3),
        ("u", "none", ("b",), None, 1),
    }
    assert [(item.name, item.dtype, item.dims) for item in plan.boundary] == [("embeddings_8", "FP32", (2, 8))]


def test_sizes_of_many_pieces_stay_in_the_dense_model(tmp_path: Path) -> None:
    """onnxruntime reads a Split's sizes before it opens weights.bin: with 129 pieces or more it could not load the part."""
    pieces = ",".join(f"p{n}" for n in range(200))
    text = f"(int64[N] ids, float[N,200] x) => (float[N,1] y) {{ v=Gather(t,ids) m=MatMul(v,w) {pieces}=Split<axis=1>(x,sizes) "
    build = built(tmp_path, text + "a=Add(p0,p199) y=Add(m,a) }", {**ARRAYS, "sizes": np.ones(200, np.int64)})
    assert all(item.ok for item in build.differences)
    assert not (build.repository / "m_dense" / "1" / "weights.bin").exists()
