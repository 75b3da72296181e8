"""Factories for builds under test."""

import torch
from torch import Tensor, nn


class FromTheEnd(nn.Module):
    """INT64 ids [batch] index a parameter, where torch counts ids below 0 from the end."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(80.0).reshape(10, 8))

    def forward(self, ids: Tensor) -> Tensor:
        return torch.tanh(self.weight[ids])


def from_the_end() -> tuple[nn.Module, tuple[Tensor]]:
    """An example with an id of -1."""
    return FromTheEnd(), (torch.tensor([0, 3, -1, 9]),)
