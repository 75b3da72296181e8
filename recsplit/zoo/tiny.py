"""The golden example: a DLRM small enough to read, with a one-hot id, another one, and a bag of tags."""

import torch
from torch import Tensor, nn

from recsplit.zoo.layers import DotInteraction, Examples, Model, mlp, seeded


class TinyDLRM(nn.Module):
    """FP32 dense [batch, 4], INT64 user [batch], item [batch], tags [batch, 5] -> click probability [batch, 1]."""

    def __init__(self, users: int = 1000, items: int = 400, tags: int = 100, dim: int = 8) -> None:
        super().__init__()
        self.user = nn.Embedding(users, dim)
        self.item = nn.Embedding(items, dim)
        self.tags = nn.EmbeddingBag(tags, dim, mode="mean")
        self.bottom = mlp(4, 16, dim)
        self.interaction = DotInteraction(4)
        self.top = mlp(dim + 6, 16, 1)

    def forward(self, dense: Tensor, user: Tensor, item: Tensor, tags: Tensor) -> Tensor:
        features = self.bottom(dense)
        vectors = torch.stack([features, self.user(user), self.item(item), self.tags(tags)], dim=1)
        return torch.sigmoid(self.top(torch.cat([features, self.interaction(vectors)], dim=1)))


def dlrm(*, batch: int = 4, seed: int = 0) -> Model:
    """Three tables of 1000, 400 and 100 rows x 8."""
    examples = Examples(seed)
    inputs = (examples.dense(batch, 4), examples.ids(1000, batch), examples.ids(400, batch), examples.ids(100, batch, 5))
    return seeded(TinyDLRM()), inputs
