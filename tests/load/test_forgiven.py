"""Files that onnxruntime runs and onnx's checker refuses: out of order, without types of outputs, with data behind links."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from recsplit.errors import InputError
from recsplit.load import load
from tests.build.onnx_models import build_of
from tests.graph.small import proto, table

IDS = np.array([[1, 2, 3], [19, 0, 7]])
ARRAYS = {"t": table(20, 8), "w": table(8, 1), "one": np.array([1])}
UNSORTED = "(int64[N,3] ids) => (float[N,1] y) { y = MatMul(s, w) s = ReduceSum<keepdims=0>(v, one) v = Gather(t, ids) }"
SORTED = "(int64[N,3] ids) => (float[N,1] y) { v = Gather(t, ids) s = ReduceSum<keepdims=0>(v, one) y = MatMul(s, w) }"
CIRCLE = (
    "(int64[N,3] ids) => (float[N,1] y) { v = Gather(t, ids) a = Add(v, b) b = Neg(a) s = ReduceSum<keepdims=0>(b, one) y = MatMul(s, w) }"
)
EXPECTED = ARRAYS["t"][IDS].sum(1) @ ARRAYS["w"]


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    """Converters to half precision leave them so."""
    onnx.save(proto(UNSORTED, ARRAYS), tmp_path / "m.onnx")
    build = build_of(tmp_path / "m.onnx", tmp_path / "models")
    assert len(build.plan.lookups) == 1


def test_nodes_in_a_circle_are_named(tmp_path: Path) -> None:
    model = proto(CIRCLE, ARRAYS)
    for node in model.graph.node:
        node.name = node.op_type.lower()
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"in a circle: (Neg 'neg' -> )?Add 'add' -> Neg 'neg'( -> Add 'add')?$"):
        load(str(tmp_path / "m.onnx"))


def _no_shape(output: onnx.ValueInfoProto) -> None:
    output.type.tensor_type.ClearField("shape")


def _no_dtype(output: onnx.ValueInfoProto) -> None:
    output.type.tensor_type.ClearField("elem_type")


def _no_type(output: onnx.ValueInfoProto) -> None:
    output.ClearField("type")


@pytest.mark.parametrize("external", [False, True], ids=["whole", "external data"])
@pytest.mark.parametrize("forget", [_no_shape, _no_dtype, _no_type])
def test_types_of_outputs_are_inferred(forget: Callable[[onnx.ValueInfoProto], None], external: bool, tmp_path: Path) -> None:
    model = proto(SORTED, ARRAYS)
    forget(model.graph.output[0])
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=external, location="data", size_threshold=64)
    build = build_of(tmp_path / "m.onnx", tmp_path / "models")
    output = build.plan.outputs[0]
    assert (output.name, output.dtype, output.dims) == ("y", "FP32", (1,))


def test_an_output_whose_dtype_nothing_tells_is_refused(tmp_path: Path) -> None:
    model = proto("(int64[N,3] ids) => (float[N,3,8] y) { v = Gather(t, ids) y = custom.Secret(v) }", {"t": ARRAYS["t"]})
    model.opset_import.add(domain="custom", version=1)
    _no_dtype(model.graph.output[0])
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(InputError, match="output 'y' has no dtype"):
        load(str(tmp_path / "m.onnx"))


@pytest.mark.parametrize("link", ["everything", "data", "hard"])
def test_data_behind_links_is_read_and_published_as_plain_files(link: str, tmp_path: Path) -> None:
    """As a cache of downloads keeps it: snapshots/<revision>/ of links into blobs/."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "revision"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    onnx.save(proto(SORTED, ARRAYS), blobs / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=64)
    for name, blob in (("model.onnx", "aaaa"), ("model.onnx_data", "bbbb")):
        (blobs / name).rename(blobs / blob)
        if link == "hard":
            os.link(blobs / blob, snapshot / name)
        elif link == "data" and name == "model.onnx":
            (blobs / blob).rename(snapshot / name)
        else:
            (snapshot / name).symlink_to(blobs / blob)
    loaded = load(str(snapshot / "model.onnx"))
    np.testing.assert_allclose(loaded.run({"ids": IDS})["y"].astype(np.float64), EXPECTED, rtol=1e-3)
    build = build_of(snapshot / "model.onnx", tmp_path / "models")
    files = [path for path in build.repository.rglob("*") if not path.is_dir()]
    assert files and not [path for path in files if path.is_symlink() or path.stat().st_nlink > 1]
    assert any("weights are read through links to " in note for note in build.notes) == (link != "hard")  # no path leads elsewhere there


def test_linked_data_that_is_cut_short_is_still_refused(tmp_path: Path) -> None:
    onnx.save(proto(SORTED, ARRAYS), tmp_path / "m.onnx", save_as_external_data=True, location="data", size_threshold=64)
    (tmp_path / "elsewhere").write_bytes((tmp_path / "data").read_bytes()[:-1])
    (tmp_path / "data").unlink()
    (tmp_path / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="ends at byte"):
        load(str(tmp_path / "m.onnx"))
