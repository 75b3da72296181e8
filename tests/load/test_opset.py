"""Opsets that the target's onnxruntime doesn't read: written out or declared older where that says the same, else refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from recsplit.errors import InputError
from recsplit.plan import triton_releases
from recsplit.plan.triton_releases import RELEASES
from tests.build.onnx_models import build_of, built
from tests.graph.small import Array, proto, table

ARRAYS: dict[str, Array] = {"t": table(50, 16), "w": table(16, 1), "one": np.array([1]), "g": np.ones(16, np.float32), "ax": np.array(1)}
HEAD = "(int64[N,3] ids) => (float[N,1] y) { v = Gather(t, ids) s = ReduceMean<keepdims=0>(v, one) "
LOWERED = {
    "root mean square": (24, HEAD + "n = RMSNormalization(s, g) y = MatMul(n, w) }"),
    "swish": (24, HEAD + "n = Swish<alpha=2.0>(s) y = MatMul(n, w) }"),
    "swish by default": (24, HEAD + "n = Swish(s) y = MatMul(n, w) }"),
    "attention": (
        24,
        HEAD + "u = Unsqueeze(v, one) b = Attention(u, u, u) a = Squeeze(b, one) n = ReduceMean<keepdims=0>(a, one) y = MatMul(n, w) }",
    ),
    "the same operators": (
        26,
        HEAD + "c = Cast<to=11>(s) f = Cast<to=1>(c) r = Transpose<perm=[1,0]>(f) n = Transpose(r) y = MatMul(n, w) }",
    ),
}


@pytest.mark.parametrize(("opset", "text"), LOWERED.values(), ids=LOWERED)
def test_parts_declare_what_the_default_release_reads(opset: int, text: str, tmp_path: Path) -> None:
    onnx.save(proto(text, ARRAYS, opset=opset), tmp_path / "m.onnx")
    build = build_of(tmp_path / "m.onnx", tmp_path / "models")
    default = RELEASES[triton_releases.DEFAULT]
    for path in build.repository.rglob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        assert {item.domain: item.version for item in model.opset_import} == {"": default.opset}
        assert model.ir_version <= default.ir_version


@pytest.mark.parametrize(
    ("opset", "text", "words"),
    [
        (26, HEAD + "n = CumProd(s, ax) y = MatMul(n, w) }", "CumProd '' came with opset 26"),
        (24, HEAD + "b = Cast<to=24>(s) n = Cast<to=1>(b) y = MatMul(n, w) }", "takes FLOAT8E8M0 since opset 24"),
    ],
)
def test_what_the_release_lacks_is_refused_with_both_numbers(opset: int, text: str, words: str, tmp_path: Path) -> None:
    onnx.save(proto(text, ARRAYS, opset=opset), tmp_path / "m.onnx")
    with pytest.raises(
        InputError, match=f"uses ONNX opset {opset}, and onnxruntime 1.19.2 of Triton 24.10 reads up to 21: .*{words}"
    ) as caught:
        build_of(tmp_path / "m.onnx", tmp_path / "models")
    assert "opset_version=21" in caught.value.hint and "--triton 26." in caught.value.hint


def test_a_newer_release_takes_the_model_as_it_is(tmp_path: Path) -> None:
    onnx.save(proto(HEAD + "n = RMSNormalization(s, g) y = MatMul(n, w) }", ARRAYS, opset=23), tmp_path / "m.onnx")
    build = build_of(tmp_path / "m.onnx", tmp_path / "models", triton="25.08")
    model = onnx.load(build.repository / "m_dense" / "1" / "model.onnx", load_external_data=False)
    assert "RMSNormalization" in {node.op_type for node in model.graph.node}


def test_the_oldest_release_gets_its_ir_version(tmp_path: Path) -> None:
    build = build_of("recsplit.zoo.tiny:dlrm", tmp_path / "models", triton=next(iter(RELEASES)))
    versions = {onnx.load(path, load_external_data=False).ir_version for path in build.repository.rglob("*.onnx")}
    assert max(versions) <= 9


@pytest.mark.parametrize("release", ["2.51", "24.1", ""])
def test_an_unknown_release_is_refused(release: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--triton is"):
        built(tmp_path, HEAD + "y = MatMul(s, w) }", ARRAYS, triton=release)
