"""Two towers for retrieval: a user with a watch history against an item; history and item share one table."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsplit.zoo.layers import Examples, Model, mlp, seeded


class TwoTower(nn.Module):
    """INT64 user [batch], history [batch, length] (0 pads), item [batch], tags [batch, 4] (0 pads).

    Returns the score [batch] and both unit vectors [batch, width], which a nearest-neighbour index would store.
    """

    def __init__(self, users: int, items: int, tags: int, dim: int, width: int) -> None:
        super().__init__()
        self.user = nn.Embedding(users, dim)
        self.item = nn.Embedding(items, dim)
        self.tags = nn.EmbeddingBag(tags, dim, mode="sum", padding_idx=0)
        self.user_tower = mlp(2 * dim, 2 * width, width)
        self.item_tower = mlp(2 * dim, 2 * width, width)

    def forward(self, user: Tensor, history: Tensor, item: Tensor, tags: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        watched = functional.embedding_bag(history, self.item.weight, mode="mean", padding_idx=0)
        user_vector = functional.normalize(self.user_tower(torch.cat([self.user(user), watched], dim=1)))
        item_vector = functional.normalize(self.item_tower(torch.cat([self.item(item), self.tags(tags)], dim=1)))
        return (user_vector * item_vector).sum(dim=1), user_vector, item_vector


def two_tower(
    *,
    users: int = 5_000,
    items: int = 2_000,
    tags: int = 50,
    dim: int = 16,
    width: int = 32,
    length: int = 10,
    batch: int = 4,
    seed: int = 0,
) -> Model:
    """Three tables; the items' is read twice, once whole and once pooled."""
    examples = Examples(seed)
    inputs = (
        examples.ids(users, batch),
        examples.padded(items, batch, length),
        examples.ids(items, batch),
        examples.padded(tags, batch, 4),
    )
    return seeded(TwoTower(users, items, tags, dim, width)), inputs
