"""Factories with one mistake each."""

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS, DIM = 50, 4
number = 7


class Ranker(nn.Module):
    """INT64 user [batch] -> score [batch, 1]; a test's mistake is its `end`, what becomes of the score."""

    def __init__(self, end: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.user = nn.Embedding(ROWS, DIM)
        self.top = nn.Linear(DIM, 1)
        self.end = end

    def forward(self, user: Tensor) -> Any:
        score = self.top(self.user(user))
        return score if self.end is None else self.end(score)


def user(batch: int = 3) -> Tensor:
    return torch.arange(batch)


def good() -> Any:
    return Ranker().eval(), (user(),)


def on_meta() -> Any:
    with torch.device("meta"):
        return Ranker(), (torch.arange(3, device="cpu"),)


# What a factory gives.


def raises() -> Any:
    raise RuntimeError("no such checkpoint")


def exits() -> Any:
    sys.exit(3)


def needs_an_argument(size: int) -> Any:
    return Ranker(), (user(size),)


def nothing() -> Any:
    return None


def four_things() -> Any:
    return Ranker(), (user(),), None, "more"


def a_function() -> Any:
    return (lambda user: user), (user(),)


def a_class() -> Any:
    return Ranker, (user(),)


def scripted() -> Any:
    return torch.jit.script(nn.Linear(2, 2)), (torch.rand(3, 2),)


# Example inputs.


def no_inputs() -> Any:
    return Ranker(), ()


def bare_tensor() -> Any:
    return Ranker(), user()


def too_many_inputs() -> Any:
    return Ranker(), (user(), user())


def text_input() -> Any:
    return Ranker(), ("user 7",)


def an_object() -> Any:
    return Ranker(), (object(),)


def ids_outside() -> Any:
    return Ranker(), (user(ROWS + 1),)


def ids_as_floats() -> Any:
    return Ranker(), (torch.rand(3),)


def shapes_of_another_model() -> Any:
    return Ranker(), (user(),), ({0: torch.export.Dim.AUTO}, None)


# What a module does.


def branches_on_values() -> Any:
    return Ranker(lambda score: score if score.sum() > 0 else -score), (user(),)


def no_onnx_operator() -> Any:
    return Ranker(torch.special.bessel_j0), (user(),)


def fixed_batch() -> Any:
    return Ranker(lambda score: score.reshape(3, 1) + torch.ones(3, 1)), (user(),)


def answers_a_loss() -> Any:
    return Ranker(lambda score: score.mean()), (user(),)


def answers_text() -> Any:
    return Ranker(lambda score: {"score": score, "model": "v7"}), (user(),)


def answers_nothing() -> Any:
    return Ranker(lambda score: None), (user(),)


def answers_bfloat16() -> Any:
    return Ranker(lambda score: score.bfloat16()), (user(),)


def compares_rows() -> Any:
    return Ranker(lambda score: score - score.mean(dim=0, keepdim=True)), (user(),)


def draws_numbers() -> Any:
    return Ranker(lambda score: functional.dropout(score, 0.5, training=True)), (user(),)


def overflows() -> Any:
    module = Ranker()
    nn.init.constant_(module.user.weight, float("inf"))
    return module, (user(),)


def no_table() -> Any:
    return nn.Linear(2, 1), (torch.rand(3, 2),)


def clips() -> Any:
    return nn.Sequential(nn.Embedding(ROWS, DIM, max_norm=1.0)), (user(),)


class Counter(Ranker):
    """Counts its calls, as a served model may not."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, user: Tensor) -> Any:
        self.calls += 1
        return super().forward(user) + self.calls


def counts_calls() -> Any:
    return Counter(), (user(),)
