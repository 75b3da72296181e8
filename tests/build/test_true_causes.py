"""A model that can't be served is refused for what it is, not for where an exporter or onnxruntime stumbles over it."""

from pathlib import Path

import numpy as np
import pytest

from recsplit.errors import InputError, RecsplitError
from tests.build.exports import FORMS, source
from tests.build.onnx_models import build_of, built
from tests.graph.small import table


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_layers_are_named(form: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the model computes in bfloat16.*no kernels on a CPU") as caught:
        build_of(source("autocast", form, tmp_path), tmp_path / "models")
    assert "autocast" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "form", "words", "advice"),
    [
        ("quantized_bag", "factory", "table is a quantized EmbeddingBag", "dequantize"),
        ("renorm", "factory", "reads 'table.weight' with max_norm=1.0", "torch.renorm"),
        ("renorm", "pt2", "reads 'table.weight' with max_norm=1.0", "torch.renorm"),
        ("sparse_buffer", "factory", "neighbours is a sparse tensor", "to_dense"),
        ("sparse_input", "factory", "input 'ids' is a sparse tensor", "to_dense"),
    ],
)
@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
def test_modules_that_have_no_served_form_are_named(name: str, form: str, words: str, advice: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        build_of(source(name, form, tmp_path), tmp_path / "models")
    assert advice in caught.value.hint


@pytest.mark.parametrize("name", ["sparse_gradients", "unread_sparse_buffer"])
def test_what_is_sparse_and_not_read_is_nothing_to_a_served_model(name: str, tmp_path: Path) -> None:
    assert build_of(source(name, "factory", tmp_path), tmp_path / "models").plan.lookups


ARRAYS = {"t": table(20, 8), "w": table(8, 1), "sixteen": np.array([16, 8]), "wrong": table(7, 1)}


def test_a_batch_written_as_a_number_is_told_with_that_number(tmp_path: Path) -> None:
    text = "(int64[N] ids) => (float[N,1] y) { v = Gather(t, ids) r = Reshape(v, sixteen) y = MatMul(r, w) }"
    with pytest.raises(RecsplitError, match="does not run at another batch size than the exported one, 16"):
        built(tmp_path, text, ARRAYS)


def test_a_graph_that_runs_at_no_batch_size_is_not_called_fixed(tmp_path: Path) -> None:
    text = "(int64[N] ids) => (float[N,1] y) { v = Gather(t, ids) r = Reshape(v, seven) y = MatMul(r, wrong) }"
    with pytest.raises(RecsplitError, match=r"onnxruntime can't run the part of the graph|onnxruntime can't load") as caught:
        built(tmp_path, text, {**ARRAYS, "seven": np.array([-1, 5, 7])})
    assert "batch size" not in str(caught.value)
