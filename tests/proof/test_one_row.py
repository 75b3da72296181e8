"""A source whose squeeze() takes a batch of one row away: it is cut, and the parts answer the row that it can't."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recsplit.building.build import build
from recsplit.building.settings import BuildSettings
from recsplit.errors import InputError
from recsplit.load import load
from recsplit.load.export import quiet
from recsplit.proof.parts import joined
from tests.build.onnx_models import build_of, built
from tests.graph.small import table


class Squeezing(torch.nn.Module):
    """A matrix of width one, squeezed without saying where, as in deepctr-torch's DCNMix."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(20, 4)
        self.dense = torch.nn.Linear(4, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """INT64 [batch] -> FP32 [batch, 8]; fails on one row."""
        vectors = self.dense(self.table(ids)).unsqueeze(2)
        return torch.cat([vectors.squeeze(), vectors.flatten(1)], dim=1)


def squeezing() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """The factory."""
    return Squeezing(), (torch.tensor([1, 2, 3]),)


def test_the_parts_answer_the_row_that_the_source_fails_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = load(f"{__name__}:squeezing").run
    with pytest.raises(Exception, match="the source model fails"):
        source({"ids": np.array([5])})
    torch.manual_seed(0)
    built = build(BuildSettings(source=f"{__name__}:squeezing", out=tmp_path / "models", name="squeezing"), lambda text, done, total: None)
    assert [note for note in built.notes if "on a batch of one row the source model fails" in note]
    answer = joined(built.repository, built.plan)({"ids": np.array([5])})["output"]
    expected = source({"ids": np.array([5, 6])})["output"][:1]
    assert answer.astype(np.float64) == pytest.approx(expected.astype(np.float64), rel=1e-5)


def test_an_old_export_whose_shapes_can_be_inferred_answers_one_row_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, inputs = squeezing()
    with quiet():
        torch.onnx.export(module, inputs, tmp_path / "m.onnx", dynamo=False, input_names=["ids"], dynamic_axes={"ids": [0]})
    repository = build_of(tmp_path / "m.onnx", tmp_path / "models")
    answer = next(iter(joined(repository.repository, repository.plan)({"ids": np.array([5])}).values()))
    expected = module(torch.tensor([5, 6])).detach().numpy()[:1]
    assert answer.astype(np.float64) == pytest.approx(expected.astype(np.float64), rel=1e-5)


#: A squeeze that names no axis, of a shape that no inference tells.
UNTOLD = """(int64[N] ids) => (float[N,8] y) {
    x = Gather(t, ids) s = Shape(x) k = Concat<axis=0>(s, one) shape = Abs(k) r = Reshape(x, shape) z = Squeeze(r) y = Concat<axis=1>(z, x)
}"""


def test_a_file_whose_parts_fail_on_one_row_too_is_refused_with_the_usual_cause(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fails on a batch of one row") as caught:
        built(tmp_path, UNTOLD, {"t": table(20, 4), "one": np.array([1])})
    assert "squeeze" in caught.value.hint
    assert not (tmp_path / "models").exists() or not any((tmp_path / "models").glob("m*"))
