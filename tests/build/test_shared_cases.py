"""The cases that were filed with the issue: each is built and searched, or refused for the reason that it states."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

CASES = REPOSITORY.parent / "shared" / "cases"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases isn't here; its models are in tests/build too"),
]

BUILT_TORCH = (
    *("epsilon", "two_hashed_bags", "two_hashed_bags_alike", "clamp_large", "item_to_category", "squeeze_noop", "squeeze_scores"),
    *("output_squeeze", "and_mask", "encoder_causal", "len_of_tensor", "dense_weights_bag", "floordiv_ragged", "item_major", "bias_vector"),
    *("one_hot_matmul", "multi_hot_rank3"),
)
BUILT_ONNX = (
    *("int8_table", "gather_elements", "one_hot", "block_quantized", "vocabulary", "murmur", "unique", "newest_opset", "unsorted"),
)
REFUSED = {
    "criteo_stacked": "the batch is dimension 1 of input 'lS_i'",
    "amp": "computes in bfloat16",
    "quantized_bag": "is a quantized EmbeddingBag",
}


def built(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "recsplit", "build", source, "-o", str(folder / "models"), "--name", "m"]
    return subprocess.run(command, cwd=CASES, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("name", BUILT_TORCH)
def test_a_torch_case_is_built_and_equal(name: str, tmp_path: Path) -> None:
    done = built(f"torch_models:{name}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Searched: " in done.stdout


@pytest.mark.parametrize("name", BUILT_ONNX)
def test_an_onnx_case_is_built_and_equal(name: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "onnx_models.py", name, str(tmp_path / "x.onnx")], cwd=CASES, check=True, timeout=120)
    done = built(str(tmp_path / "x.onnx"), tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "reason"), REFUSED.items(), ids=REFUSED)
def test_a_case_that_cant_be_cut_is_refused_for_the_true_reason(name: str, reason: str, tmp_path: Path) -> None:
    done = built(f"torch_models:{name}", tmp_path)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Hint: " in done.stderr


def test_no_case_is_forgotten() -> None:
    listing = "import torch_models as t, onnx_models as o; print(*t.WANT, *o.WANT)"
    done = subprocess.run([sys.executable, "-c", listing], cwd=CASES, capture_output=True, text=True, check=True, timeout=120)
    assert sorted(done.stdout.split()) == sorted([*BUILT_TORCH, *BUILT_ONNX, *REFUSED])
