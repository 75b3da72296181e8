"""Factories of lookups in forms that are not an nn.Embedding: buffers, vectors, one-hot products, computed weights and ids."""

import torch
from torch import Tensor, nn

V = torch.export.Dim.AUTO


class ItemToCategory(nn.Module):
    """INT64 item [batch], and its category by a buffer of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.item, self.category, self.out = nn.Embedding(200, 8), nn.Embedding(9, 8), nn.Linear(16, 1)
        self.register_buffer("category_of", torch.randint(0, 9, (200,)))

    def forward(self, item: Tensor) -> Tensor:
        vectors = [self.item(item), self.category(self.category_of[item])]  # type: ignore[index]
        return torch.tanh(self.out(torch.cat(vectors, -1)))


def item_to_category() -> tuple[nn.Module, tuple[Tensor]]:
    """A table that is read by a buffer of the ids of another."""
    torch.manual_seed(0)
    return ItemToCategory(), (torch.randint(0, 200, (4,)),)


class BiasVector(nn.Module):
    """INT64 user [batch] in a table, INT64 city [batch] in a vector of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.bias, self.out = nn.Embedding(300, 8), nn.Parameter(torch.randn(500_000)), nn.Linear(8, 1)

    def forward(self, user: Tensor, city: Tensor) -> Tensor:
        score: Tensor = self.out(self.user(user)).squeeze(1) + self.bias[city]
        return score


def bias_vector() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A table of rank 1."""
    torch.manual_seed(0)
    return BiasVector(), (torch.tensor([1, 2]), torch.tensor([3, 4]))


class OneHotProduct(nn.Module):
    """INT64 user [batch] by one-hot vectors, INT64 item [batch] in a table."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.item, self.out = nn.Parameter(torch.randn(300, 8)), nn.Embedding(200, 8), nn.Linear(8, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        one_hot = torch.nn.functional.one_hot(user, 300).float()
        score: Tensor = self.out(one_hot @ self.weight + self.item(item))
        return score


def one_hot_product() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A product that reads rows."""
    torch.manual_seed(0)
    return OneHotProduct(), (torch.randint(0, 300, (4,)), torch.randint(0, 200, (4,)))


class MultiHot(nn.Module):
    """INT64 sparse [batch, 3, 7]: seven ids for each of three tables."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(rows, 8, mode="sum") for rows in (50, 500, 5000))
        self.out = nn.Linear(24, 1)

    def forward(self, sparse: Tensor) -> Tensor:
        score: Tensor = self.out(torch.cat([table(sparse[:, number]) for number, table in enumerate(self.tables)], 1))
        return score


def multi_hot() -> tuple[nn.Module, tuple[Tensor]]:
    """An example with ids of the smallest table only."""
    torch.manual_seed(0)
    return MultiHot(), (torch.randint(0, 50, (8, 3, 7)),)


class DenseWeights(nn.Module):
    """INT64 ids [batch, 4], pooled by weights that a layer makes of features [batch, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.attention, self.out = nn.EmbeddingBag(50, 8, mode="sum"), nn.Linear(4, 4), nn.Linear(8, 1)

    def forward(self, ids: Tensor, features: Tensor) -> Tensor:
        weights = torch.softmax(self.attention(features), -1)
        score: Tensor = self.out(self.table(ids, per_sample_weights=weights))
        return score


def dense_weights() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A bag whose weights come out of a layer."""
    torch.manual_seed(0)
    return DenseWeights(), (torch.randint(0, 50, (4, 4)), torch.rand(4, 4))


class FloorDivided(nn.Module):
    """INT64 ids [n] in bags by offsets [batch], four ids a row."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.EmbeddingBag(13, 8, mode="sum"), nn.Linear(8, 1)

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        score: Tensor = self.out(self.table(ids // 4, offsets))
        return score


def floor_divided() -> tuple[nn.Module, tuple[Tensor, Tensor], dict[str, dict[int, object]]]:
    """Ragged ids through a division."""
    torch.manual_seed(0)
    any_size = torch.export.Dim.AUTO
    example = torch.randint(0, 50, (7,)), torch.tensor([0, 2, 3, 5])
    return FloorDivided(), example, {"ids": {0: any_size}, "offsets": {0: any_size}}
