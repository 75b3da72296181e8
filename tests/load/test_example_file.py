"""Example inputs of an .onnx file: from an .npz file or Python, checked against the model's inputs, never unpickled."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from recsplit.building.api import build
from recsplit.errors import InputError
from recsplit.load import load
from recsplit.load.example_file import LIMIT_BYTES
from recsplit.plan.files import REFERENCES_FILE
from recsplit.proof.cases import recorded
from recsplit.proof.samples import EXAMPLE
from tests.graph.small import proto, table

TEXT = """(int64[N,3] ids, float[N,2] x) => (float[N,8] y) {
    v = Gather(t, ids) s = ReduceSum<keepdims=0>(v, one) f = MatMul(x, w) y = Add(s, f)
}"""
IDS, X = np.array([[1, 2, 3], [4, 5, 19]]), np.array([[0.5, 0.25], [1.0, 2.0]], np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(proto(TEXT, {"t": table(20, 8), "one": np.array([1]), "w": table(2, 8)}), path)
    return path


def test_a_file_with_an_example_is_proved_on_it(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "example.npz", ids=IDS, x=X)
    loaded = load(str(model), example=tmp_path / "example.npz")
    assert loaded.example is not None
    assert {name: array.tolist() for name, array in loaded.example.items()} == {"ids": IDS.tolist(), "x": X.tolist()}
    built = build(model, {"ids": IDS, "x": X}, out=tmp_path / "models", max_batch_size=8)
    cases = recorded(built.repository / built.plan.name / "1" / REFERENCES_FILE)
    assert [case.inputs["x"].tolist() for case in cases if case.name == EXAMPLE] == [X.tolist()]


def test_a_proto_in_memory_takes_an_example_too(model: Path) -> None:
    loaded = load(onnx.load(model), example={"ids": IDS, "x": X})
    assert loaded.example is not None and loaded.example["ids"].tolist() == IDS.tolist()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"ids": IDS}, "lacks 'x'"),
        ({"ids": IDS, "x": X, "user": IDS}, "has 'user', which the model hasn't"),
        ({"ids": IDS.astype(np.int32), "x": X}, "'ids' is int32, and the input is int64"),
        ({"ids": IDS[:, :2], "x": X}, r"'ids' has the shape \[2, 2\], and the input is \[N, 3\]"),
        ({"ids": IDS[0], "x": X}, r"'ids' has the shape \[3\]"),
        ({"ids": IDS[:0], "x": X[:0]}, r"'ids' has the shape \[0, 3\]"),
        ({"ids": IDS, "x": X[:1]}, "N=2 in 'ids' and 1 in 'x'"),
        ((IDS, X), "go by name"),
    ],
)
def test_what_does_not_fit_the_inputs_is_named(model: Path, arrays: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load(str(model), example=arrays)
    assert caught.value.hint


def test_pickles_bombs_and_other_files_are_not_read(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "example.npz"
    with pytest.raises(InputError, match="is not a file"):
        load(str(model), example=path)
    path.write_text("ids")
    with pytest.raises(InputError, match=r"no .npz file of numbers"):
        load(str(model), example=path)
    np.savez(path, ids=np.array([[1, "a"]], dtype=object), x=X)
    with pytest.raises(InputError, match="'ids' is no array: it holds pickled objects"):
        load(str(model), example=path)
    np.savez_compressed(path, ids=np.zeros(LIMIT_BYTES // 8 + 1, np.int64), x=X)
    with pytest.raises(InputError, match="at most"):
        load(str(model), example=path)


def test_sources_that_bring_their_example_take_no_other(tmp_path: Path) -> None:
    np.savez(tmp_path / "example.npz", ids=IDS)
    with pytest.raises(InputError, match="example inputs go with"):
        load("recsplit.zoo.tiny:dlrm", example=tmp_path / "example.npz")
