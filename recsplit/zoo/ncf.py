"""Neural collaborative filtering: a product of user and item vectors beside a perceptron over two others."""

import torch
from torch import Tensor, nn

from recsplit.zoo.layers import Examples, Model, mlp, seeded


class NCF(nn.Module):
    """INT64 user [batch], item [batch] -> logit [batch, 1]. Two tables a side: one for the product, one for the perceptron."""

    def __init__(self, users: int, items: int, dim: int) -> None:
        super().__init__()
        self.user_product = nn.Embedding(users, dim)
        self.item_product = nn.Embedding(items, dim)
        self.user_deep = nn.Embedding(users, 2 * dim)
        self.item_deep = nn.Embedding(items, 2 * dim)
        self.deep = mlp(4 * dim, 2 * dim, dim)
        self.out = nn.Linear(2 * dim, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        product = self.user_product(user) * self.item_product(item)
        deep = self.deep(torch.cat([self.user_deep(user), self.item_deep(item)], dim=1))
        logit: Tensor = self.out(torch.cat([product, torch.relu(deep)], dim=1))
        return logit


def ncf(*, users: int = 6_000, items: int = 3_700, dim: int = 16, batch: int = 4, seed: int = 0) -> Model:
    """Sizes of MovieLens-1M."""
    examples = Examples(seed)
    return seeded(NCF(users, items, dim)), (examples.ids(users, batch), examples.ids(items, batch))
