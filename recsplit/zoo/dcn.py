"""DCN-V2: full-rank cross layers over the concatenated embeddings and dense features, stacked under a perceptron."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recsplit.zoo.layers import Examples, Model, mlp, seeded


class DCNv2(nn.Module):
    """FP32 dense [batch, dense], INT64 ids [batch, fields] -> logit [batch, 1]."""

    def __init__(self, rows: Sequence[int], dim: int, dense: int, crosses: int, deep: Sequence[int]) -> None:
        super().__init__()
        self.fields = nn.ModuleList(nn.Embedding(count, dim) for count in rows)
        width = dense + len(rows) * dim
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(crosses))
        self.deep = mlp(width, *deep, 1)

    def forward(self, dense: Tensor, ids: Tensor) -> Tensor:
        features = torch.cat([dense, *(field(ids[:, n]) for n, field in enumerate(self.fields))], dim=1)
        crossed = features
        for cross in self.crosses:
            crossed = features * cross(crossed) + crossed
        logit: Tensor = self.deep(crossed)
        return logit


def dcnv2(
    *,
    rows: Sequence[int] = (10_000, 5_000, 1_000, 200, 50, 7),
    dim: int = 16,
    dense: int = 13,
    crosses: int = 3,
    deep: Sequence[int] = (128, 64),
    batch: int = 4,
    seed: int = 0,
) -> Model:
    """Six one-hot fields of very different sizes."""
    examples = Examples(seed)
    ids = torch.stack([examples.ids(count, batch) for count in rows], dim=1)
    return seeded(DCNv2(rows, dim, dense, crosses, deep)), (examples.dense(batch, dense), ids)
