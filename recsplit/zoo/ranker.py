"""The demo's model, to copy from: a DLRM over user, item, tags and watch history, on the meta device.

The factory builds the module without allocating its weights; they come from the file that training saved:

    recsplit build recsplit.zoo.ranker:clicks --weights weights.safetensors -o model_repository/
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsplit.zoo.layers import DotInteraction, Examples, Model, mlp

DENSE = 4


@dataclass(frozen=True)
class Sizes:
    """Rows of each table (row 0 of items and tags is padding), and how many ids a row of tags and history has."""

    users: int
    segments: int
    items: int
    tags: int
    tags_length: int
    history_length: int = 20
    dim: int = 16


CLICKS = Sizes(users=20_000, segments=20, items=10_001, tags=51, tags_length=3)
MOVIELENS = Sizes(users=944, segments=22, items=1_683, tags=20, tags_length=6)


class Ranker(nn.Module):
    """The probability of a click.

    FP32 dense [batch, 4]; INT64 user [batch], segment [batch], item [batch], tags [batch, tags_length] and
    history [batch, history_length] (item ids; both padded with 0 on the right) -> FP32 [batch].
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.user = nn.Embedding(sizes.users, sizes.dim)
        self.segment = nn.Embedding(sizes.segments, sizes.dim)
        self.item = nn.Embedding(sizes.items, sizes.dim)  # read twice: the candidate, and the history
        self.tags = nn.EmbeddingBag(sizes.tags, sizes.dim, mode="mean", padding_idx=0)
        self.bottom = mlp(DENSE, 32, sizes.dim)
        self.interaction = DotInteraction(6)
        self.top = mlp(sizes.dim + 15, 64, 32, 1)

    def forward(self, dense: Tensor, user: Tensor, segment: Tensor, item: Tensor, tags: Tensor, history: Tensor) -> Tensor:
        features = self.bottom(dense)
        watched = functional.embedding_bag(history, self.item.weight, mode="mean", padding_idx=0)
        vectors = [features, self.user(user), self.segment(segment), self.item(item), self.tags(tags), watched]
        pairs = self.interaction(torch.stack(vectors, dim=1))
        return torch.sigmoid(self.top(torch.cat([features, pairs], dim=1))).squeeze(1)


def _on_meta(sizes: Sizes, batch: int, seed: int) -> Model:
    with torch.device("meta"):
        module = Ranker(sizes).eval()
    examples = Examples(seed)
    return module, (
        examples.dense(batch, DENSE),
        examples.ids(sizes.users, batch),
        examples.ids(sizes.segments, batch),
        examples.ids(sizes.items, batch),
        examples.padded(sizes.tags, batch, sizes.tags_length),
        examples.padded(sizes.items, batch, sizes.history_length),
    )


def clicks(*, batch: int = 4, seed: int = 0) -> Model:
    """The model that `recsplit demo` trains on its synthetic click log."""
    return _on_meta(CLICKS, batch, seed)


def movielens(*, batch: int = 4, seed: int = 0) -> Model:
    """The model that `recsplit demo --movielens` trains."""
    return _on_meta(MOVIELENS, batch, seed)
