"""DLRM at the size of a benchmark: bags of ids, a bottom perceptron, dot interaction, a top perceptron."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsplit.zoo.layers import DotInteraction, Examples, Model, mlp, seeded


class DLRM(nn.Module):
    """FP32 dense [batch, dense], INT64 ids [batch, tables * bag] (one table's bag after the other) -> logit [batch, 1]."""

    def __init__(
        self, tables: int, rows: int, dim: int, bag: int, dense: int, pooling: str, bottom: Sequence[int], top: Sequence[int]
    ) -> None:
        super().__init__()
        self.bag = bag
        self.tables = nn.ModuleList(nn.EmbeddingBag(rows, dim, mode=pooling) for _ in range(tables))
        self.bottom = mlp(dense, *bottom, dim)
        self.interaction = DotInteraction(tables + 1)
        self.top = mlp(dim + (tables + 1) * tables // 2, *top, 1)

    def forward(self, dense: Tensor, ids: Tensor) -> Tensor:
        features = self.bottom(dense)
        pooled = [table(ids[:, n * self.bag : (n + 1) * self.bag]) for n, table in enumerate(self.tables)]
        pairs = self.interaction(torch.stack([features, *pooled], dim=1))
        logit: Tensor = self.top(torch.cat([features, pairs], dim=1))
        return logit


def dlrm(
    *,
    tables: int = 8,
    rows: int = 100_000,
    dim: int = 32,
    bag: int = 20,
    dense: int = 13,
    pooling: str = "sum",
    bottom: Sequence[int] = (256, 128),
    top: Sequence[int] = (256, 64),
    batch: int = 4,
    seed: int = 0,
) -> Model:
    """The defaults are 8 tables of 100,000 rows x 32, 102 MB, with bags of 20 ids."""
    examples = Examples(seed)
    inputs = (examples.dense(batch, dense), examples.ids(rows, batch, tables * bag))
    return seeded(DLRM(tables, rows, dim, bag, dense, pooling, bottom, top)), inputs
