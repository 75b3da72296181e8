"""Simplifying an exported graph changes no value: constants that look like nothing count where the rest is nothing too."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from recsplit.load import load
from recsplit.load.fold import fold_constants
from tests.graph.small import proto, session
from tests.load.models import make

EPSILONS = (1e-6, 1e-8, 1e-9, 1e-12, 1e-16, 1e-30)

#: What models do with an epsilon, from vectors [batch, 6, 8], a mask [batch, 6, 1] and the epsilon.
FORMS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "masked mean": lambda vectors, mask, eps: (vectors * mask).sum(1) / (mask.sum(1) + eps),
    "masked mean, epsilon first": lambda vectors, mask, eps: (vectors * mask).sum(1) / (eps + mask.sum(1)),
    "logarithm": lambda vectors, mask, eps: torch.log(mask.sum(1) + eps) + vectors.sum(1) * 0.0,
    "difference": lambda vectors, mask, eps: torch.log(-(-mask.sum(1) - eps)) + vectors.sum(1) * 0.0,
    "norm": lambda vectors, mask, eps: (vectors * mask).sum(1) / torch.sqrt(((vectors * mask).sum(1) ** 2).sum(-1, keepdim=True) + eps),
    "reciprocal": lambda vectors, mask, eps: 1.0 / (mask.sum(1) * vectors.sum(1) + eps),
    "one and a bit": lambda vectors, mask, eps: torch.log(mask.mean(1) * 0 + (1 + eps)) + vectors.sum(1) * 0.0,
    "clamped": lambda vectors, mask, eps: (vectors * mask).sum(1) / mask.sum(1).clamp(min=eps),
}


def module_of(form: Callable[[Tensor, Tensor, float], Tensor]) -> nn.Module:
    def forward(self: nn.Module, history: Tensor, mask: Tensor) -> dict[str, Tensor]:
        vectors: Tensor = self.get_submodule("item")(history)
        return {f"{number}": form(vectors, mask.unsqueeze(-1), epsilon) for number, epsilon in enumerate(EPSILONS)}

    return make(forward, item=nn.Embedding(50, 8)).eval()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_epsilon_stays_whatever_its_size(form: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    history, mask = torch.randint(0, 50, (4, 6)), torch.ones(4, 6)
    loaded = load(module_of(form), example=(history, mask))
    masks = torch.ones(5, 6)
    masks[1], masks[2, 3:], masks[3, 0] = 0, 0, 0
    inputs = {"history": np.random.default_rng(0).integers(0, 50, (5, 6)), "mask": masks.numpy()}
    answers = session(loaded.model)(inputs)
    for name, expected in loaded.run(inputs).items():
        np.testing.assert_allclose(
            answers[name].astype(float), expected.astype(float), rtol=1e-5, atol=1e-6, err_msg=f"epsilon {EPSILONS[int(name)]}"
        )


def test_batch_normalization_is_not_folded_into_weights() -> None:
    """Folding rounds otherwise: what is published would not be what was trained."""
    layers = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).eval()
    torch.nn.init.uniform_(layers[1].get_buffer("running_var"), 0.5, 2)
    module = make(lambda self, item: self.layers(self.item(item)), item=nn.Embedding(50, 8), layers=layers).eval()
    loaded = load(module, example=(torch.randint(0, 50, (4,)),))
    weights = [value.const_value.numpy() for value in loaded.model.graph.initializers.values() if value.const_value is not None]
    trained = layers[0].get_parameter("weight").detach().numpy()
    assert any(np.array_equal(array, trained) or np.array_equal(array, trained.T) for array in weights)


def test_minimum_and_maximum_are_not_made_a_clip() -> None:
    """Clip may treat NaN, and INT64 from 2**31 on, otherwise."""
    module = make(lambda self, item: self.item(item.maximum(torch.tensor(0)).minimum(torch.tensor(49))), item=nn.Embedding(50, 8)).eval()
    loaded = load(module, example=(torch.randint(0, 50, (4,)),))
    assert "Clip" not in [node.op_type for node in loaded.model.graph]


@pytest.mark.parametrize(("operator", "folds"), [("Sqrt", True), ("Neg", True), ("Exp", False), ("Tanh", False), ("Log", False)])
def test_only_what_every_library_computes_alike_is_folded(operator: str, folds: bool) -> None:
    """Exp of a constant may differ in the last bit between numpy, which folds, and the server's runtime."""
    model = ir.from_proto(
        proto(f"(float[N,3] x) => (float[N,3] y) {{ c = {operator}(w) y = Add(x, c) }}", {"w": np.array([0.3, 1.7, 2.9], np.float32)})
    )
    for value in model.graph.initializers.values():
        value.dtype = ir.DataType.FLOAT
    model.graph[0].outputs[0].dtype = ir.DataType.FLOAT
    fold_constants(model)
    assert [node.op_type for node in model.graph] == (["Add"] if folds else [operator, "Add"])
