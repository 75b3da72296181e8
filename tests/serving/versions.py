"""Builds whose answers tell which ones they are, and whether two of them made one."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

import recsplit
from recsplit.building.build import Built

NAME = "told"
DIM = 4


class Told(torch.nn.Module):
    """Answers 4 * number * number: one factor lies in the table, the other in the dense model."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.items, self.mlp = torch.nn.Embedding(50, DIM), torch.nn.Linear(DIM, 1, bias=False)
        torch.nn.init.constant_(self.items.weight, number)
        torch.nn.init.constant_(self.mlp.weight, number)

    def forward(self, item: torch.Tensor) -> torch.Tensor:
        """INT64 [batch] -> FP32 [batch]."""
        return self.mlp(self.items(item))[:, 0]


def build(folder: Path, number: int, *, module: torch.nn.Module | None = None, **settings: Any) -> Built:
    """The build that answers by `number`."""
    inputs = (torch.tensor([3, 14, 15]),)
    return recsplit.build(module or Told(number), inputs, out=folder, name=NAME, max_batch_size=16, search_s=0, threads=1, **settings)


def query(rows: int) -> dict[str, np.ndarray[Any, Any]]:
    return {"item": np.arange(rows) % 50}


def number(answer: recsplit.Answer) -> int:
    """Of the build that made the answer. An AssertionError where two did."""
    (value,) = set(answer["output"].tolist())
    assert answer["output"].ndim == 1
    root = round((value / DIM) ** 0.5)
    assert value == DIM * root * root, f"made of two builds: {value}"
    return root
