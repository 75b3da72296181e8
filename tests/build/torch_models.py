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


V = torch.export.Dim.AUTO


class MaskedMean(nn.Module):
    """The mean of the vectors that a mask takes, over an epsilon."""

    def __init__(self) -> None:
        super().__init__()
        self.item, self.out = nn.Embedding(50, 8), nn.Linear(8, 1)

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        total = (self.item(history) * mask.unsqueeze(-1)).sum(1)
        return torch.as_tensor(self.out(total / (mask.sum(1, keepdim=True) + 1e-9)))


def masked_mean() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """An example without an empty mask."""
    torch.manual_seed(0)
    return MaskedMean(), (torch.randint(0, 50, (4, 6)), torch.ones(4, 6))


class Clamped(nn.Module):
    """Ids of any size, clamped into the table."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.out = nn.Embedding(31, 8), nn.Linear(8, 1)

    def forward(self, ids: Tensor) -> Tensor:
        return torch.as_tensor(self.out(self.e(ids.clamp(0, 30))))


def clamped() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """INT64 ids [batch]."""
    torch.manual_seed(0)
    return Clamped(), (torch.randint(0, 40, (4,)),)


class TwoHashedBags(nn.Module):
    """Two ragged inputs, both hashed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.EmbeddingBag(13, 8, mode="sum"), nn.EmbeddingBag(11, 8, mode="sum")
        self.out = nn.Linear(16, 1)

    def forward(self, ids_a: Tensor, off_a: Tensor, ids_b: Tensor, off_b: Tensor) -> Tensor:
        return torch.as_tensor(self.out(torch.cat([self.a(ids_a % 13, off_a), self.b(ids_b % 11, off_b)], 1)))


def two_hashed_bags() -> tuple[nn.Module, tuple[Tensor, ...], dict[str, dict[int, object]]]:
    """Both examples have as many ids."""
    torch.manual_seed(0)
    args = torch.randint(0, 50, (7,)), torch.tensor([0, 2, 3, 5]), torch.randint(0, 50, (7,)), torch.tensor([0, 2, 3, 5])
    return TwoHashedBags(), args, {name: {0: V} for name in ("ids_a", "off_a", "ids_b", "off_b")}


class WeightedBag(nn.Module):
    """A ragged bag with weights for its ids."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.out = nn.EmbeddingBag(50, 8, mode="sum"), nn.Linear(8, 1)

    def forward(self, ids: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        return torch.as_tensor(self.out(self.e(ids, offsets, per_sample_weights=weights)))


def weighted_bag() -> tuple[nn.Module, tuple[Tensor, ...], dict[str, dict[int, object]]]:
    """Four bags of seven ids."""
    torch.manual_seed(0)
    args = torch.randint(0, 50, (7,)), torch.tensor([0, 2, 3, 5]), torch.rand(7)
    return WeightedBag(), args, {"ids": {0: V}, "offsets": {0: V}, "weights": {0: V}}


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
