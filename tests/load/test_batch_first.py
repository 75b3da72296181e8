"""Inputs whose batch isn't their first dimension: turned where the outputs tell it, refused by name where nothing does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recsplit.errors import InputError
from recsplit.proof import published
from recsplit.proof.parts import joined
from tests.build import torch_models
from tests.build.exports import FORMS, source
from tests.build.onnx_models import build_of, built
from tests.graph.small import table


@pytest.mark.parametrize(("name", "across"), [("item_major", "ids"), ("dense_major", "features")])
@pytest.mark.parametrize("form", ["factory", "pt2", "dynamo"])
def test_clients_send_the_batch_first(name: str, across: str, form: str, tmp_path: Path) -> None:
    path = source(name, form, tmp_path)
    build = build_of(path, tmp_path / "models")
    module, inputs, _ = getattr(torch_models, name)()
    expected = module.eval()(*inputs).detach().numpy()
    feeds = {tensor.name: data.numpy() for tensor, data in zip(build.plan.inputs, inputs, strict=True)}
    feeds[across] = feeds[across].T
    assert {tensor.name: tensor.dims for tensor in build.plan.inputs}[across] == feeds[across].shape[1:]
    for rows in (slice(0, 4), slice(2, 3)):
        answers = joined(build.repository, build.plan)({key: data[rows] for key, data in feeds.items()})
        np.testing.assert_allclose(answers[build.plan.outputs[0].name].astype(np.float64), expected[rows].astype(np.float64), rtol=1e-4)
    assert [note for note in build.notes if f"the batch is dimension 1 of the source's input {across!r}" in note]
    assert all(item.ok for item in published.verify(build.repository, source=path))


@pytest.mark.parametrize("form", FORMS)
def test_stacked_ids_of_ragged_bags_are_refused_by_name(form: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the batch is dimension 1 of input 'ids'") as caught:
        build_of(source("criteo_stacked", form, tmp_path), tmp_path / "models")
    assert "[batch, 3]" in caught.value.hint


def test_a_batch_that_no_output_names_is_refused_by_name(tmp_path: Path) -> None:
    text = "(int64[2,M] ids) => (float[N,8] y) { x = Gather(ids, one) v = Gather(t, x) y = Tanh(v) }"
    with pytest.raises(InputError, match="the batch is dimension 1 of input 'ids': its first dimension is 2"):
        built(tmp_path, text, {"t": table(20, 8), "one": np.array(1)})


def test_a_history_that_only_names_its_length_keeps_its_batch_first(tmp_path: Path) -> None:
    build = build_of("tests.load.test_batch_first:history", tmp_path / "models", embedding_runtime="onnxruntime")
    assert build.plan.inputs[0].dims == (-1,)
    assert [note for note in build.notes if not note.startswith("Searched")] == []


def test_an_example_of_one_row_keeps_its_batch_first_too(tmp_path: Path) -> None:
    """One row is broadcast to any batch, so that an export with it fixed looks as if the batch varied."""
    build = build_of("tests.load.test_batch_first:one_row", tmp_path / "models")
    assert [tensor.dims for tensor in build.plan.inputs] == [(-1,), ()]


def one_row() -> object:
    """A history beside an item, in one row."""
    torch.manual_seed(0)
    module = torch_models.Squeezes()
    module.forward = lambda history, item: module.out(module.user(history).mean(1) * module.item(item))
    auto = torch.export.Dim.AUTO
    return module, (torch.tensor([[1, 2, 3]]), torch.tensor([4])), {"history": {1: auto}, "item": {0: auto}}


def history() -> object:
    """dynamic_shapes tell that the length varies, and leave the batch out."""
    torch.manual_seed(0)
    module = torch_models.Squeezes()
    module.forward = lambda history: module.out(module.user(history).mean(1))
    return module, (torch.tensor([[1, 2, 3], [4, 5, 6]]),), {"history": {1: torch.export.Dim.AUTO}}
