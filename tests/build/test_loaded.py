"""What torch takes and its exporters don't, or in another way: it is cut from every form, and proved there."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recsplit.errors import InputError, RecsplitError
from recsplit.load.export import quiet
from recsplit.proof.parts import joined
from tests.build import torch_models
from tests.build.exports import source
from tests.build.onnx_models import build_of


@pytest.mark.parametrize("form", ["factory", "pt2"])
def test_operators_on_bits_are_cut(form: str, tmp_path: Path) -> None:
    build = build_of(source("bits", form, tmp_path), tmp_path / "models")
    assert len(build.plan.lookups) == 2


@pytest.mark.parametrize(("name", "form"), [("encoder_causal", "factory"), ("encoder_padded", "factory"), ("encoder_padded", "pt2")])
def test_transformer_layers_are_cut_with_their_masks(name: str, form: str, tmp_path: Path) -> None:
    """The fused operators of torch's fast path have no ONNX form, and the causal mask is looked for by its values."""
    build = build_of(source(name, form, tmp_path), tmp_path / "models")
    module, (histories, items) = getattr(torch_models, name)()
    histories = torch.cat([histories, torch.zeros(1, 4, dtype=torch.int64)])
    items = torch.cat([items, items[:1]])
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            expected = module.eval()(histories, items).numpy()
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    answers = joined(build.repository, build.plan)({"history": histories.numpy(), "item": items.numpy()})
    np.testing.assert_allclose(answers["output"].astype(np.float64), expected.astype(np.float64), rtol=1e-4, atol=1e-5)


def test_an_encoder_whose_padded_places_count_is_refused_for_that(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another one on torch's fast path") as caught:
        build_of(source("encoder_mean", "factory", tmp_path), tmp_path / "models")
    assert "enable_nested_tensor=False" in caught.value.hint


def test_rows_that_the_source_answers_with_nan_are_left_out_and_told(tmp_path: Path) -> None:
    build = build_of(source("attention_padded", "factory", tmp_path), tmp_path / "models")
    assert [note for note in build.notes if "4 of case 'first rows'" in note]


def test_a_program_with_fused_layers_is_refused_with_the_switch_that_unfuses_them(tmp_path: Path) -> None:
    module, inputs = torch_models.encoder_causal()
    shapes = {name: {0: torch.export.Dim.AUTO} for name in ("history", "item")}
    with quiet(), torch.no_grad():
        torch.export.save(torch.export.export(module.eval(), inputs, dynamic_shapes=shapes, strict=True), tmp_path / "fused.pt2")
    with pytest.raises(RecsplitError, match="_transformer_encoder_layer_fwd") as caught:
        build_of(tmp_path / "fused.pt2", tmp_path / "models")
    assert "set_fastpath_enabled(False)" in caught.value.hint


def test_the_length_of_a_tensor_is_the_batch_of_the_moment(tmp_path: Path) -> None:
    """torch.export traces len(x) as the example's number, and dynamo as a size that varies."""
    build = build_of(source("len_of_tensor", "factory", tmp_path), tmp_path / "models")
    module, inputs = torch_models.len_of_tensor()
    expected = module.eval()(*inputs).detach().numpy()[1:3]
    names = [tensor.name for tensor in build.plan.inputs]
    answers = joined(build.repository, build.plan)({name: data.numpy()[1:3] for name, data in zip(names, inputs, strict=True)})
    np.testing.assert_allclose(answers["output"].astype(np.float64), expected.astype(np.float64), rtol=1e-4, atol=1e-6)
