"""torch's squeeze leaves what isn't 1, and takes the batch away from one row; ONNX's fails on the first and does the second too."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recsplit.errors import InputError
from recsplit.proof.parts import joined
from tests.build import torch_models
from tests.build.exports import FORMS, source
from tests.build.onnx_models import build_of, built
from tests.graph.small import table

NAMES = ["squeeze_noop", "squeeze_in_place", "squeeze_scores", "squeeze_front", "squeeze_output", "squeeze_batch"]
#: torch.onnx.export(dynamo=True) writes a Squeeze of what isn't one: the file runs nowhere.
BROKEN = [(name, "dynamo") for name in NAMES[:4]]


@pytest.mark.parametrize(("name", "form"), [(name, form) for name in NAMES for form in FORMS if (name, form) not in BROKEN])
def test_a_batch_stays_a_batch_and_what_is_not_one_stays(name: str, form: str, tmp_path: Path) -> None:
    path = source(name, form, tmp_path)
    build = build_of(path, tmp_path / "models")
    assert build.plan.outputs[0].dims == ((1,) if name == "squeeze_front" else ())
    module, (users, items) = getattr(torch_models, name)()
    expected = module.eval()(users, items).detach().numpy()
    run, output = joined(build.repository, build.plan), build.plan.outputs[0].name
    for rows in (slice(0, 4), slice(1, 2)):
        answers = run({tensor.name: data.numpy()[rows] for tensor, data in zip(build.plan.inputs, (users, items), strict=True)})
        np.testing.assert_allclose(answers[output].astype(np.float64), expected[rows].astype(np.float64), rtol=1e-4)


@pytest.mark.parametrize(("name", "what"), [("squeeze_noop", "which is 8"), ("squeeze_scores", "which is the batch")])
def test_a_file_that_squeezes_what_is_not_one_is_refused_for_that(name: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=what) as caught:
        build_of(source(name, "dynamo", tmp_path), tmp_path / "models")
    assert "Squeeze" in str(caught.value) and "out of forward" in caught.value.hint


def test_a_dimension_that_varies_may_not_be_squeezed_by_chance(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"takes dimension 1 of .* away where it is 1") as caught:
        build_of(source("squeeze_length", "factory", tmp_path), tmp_path / "models")
    assert "min=2" in caught.value.hint


def test_a_dimension_that_is_declared_never_one_stays(tmp_path: Path) -> None:
    build = build_of(source("squeeze_length_of_two", "factory", tmp_path), tmp_path / "models")
    module, _, _ = torch_models.squeeze_length_of_two()
    ids = np.arange(10).reshape(2, 5)
    answers = joined(build.repository, build.plan)({"history": ids})
    expected = module.eval()(torch.from_numpy(ids)).detach().numpy()
    np.testing.assert_allclose(answers["output"].astype(np.float64), expected.astype(np.float64), rtol=1e-4)


def test_a_legacy_branch_on_a_length_is_not_settled(tmp_path: Path) -> None:
    """The source squeezes a history of one item, so its answer has another rank there."""
    with pytest.raises(InputError, match="squeezes a dimension away where it is 1"):
        build_of(source("squeeze_length", "legacy", tmp_path), tmp_path / "models")


def test_a_source_that_drops_the_batch_of_its_only_case_is_refused(tmp_path: Path) -> None:
    text = "(int64[N] ids) => (float[N] y) { v = Gather(t, ids) m = MatMul(v, w) y = Squeeze(m) }"
    arrays = {"t": table(20, 4), "w": table(4, 1)}
    with pytest.raises(InputError, match="answers output 'y' without the batch dimension"):
        built(tmp_path, text, arrays, max_batch_size=1)
    assert any("without the batch dimension" in note for note in built(tmp_path, text, arrays).notes)
