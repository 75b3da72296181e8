"""Models that were published and answered otherwise than their source, each in a way of its own."""

import torch
from torch import Tensor, nn

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


class MaskedByIds(nn.Module):
    """A ragged bag whose weights are a mask of its own ids."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.out = nn.EmbeddingBag(50, 8, mode="sum"), nn.Linear(8, 1)

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        return torch.as_tensor(self.out(self.e(ids, offsets, per_sample_weights=(ids != 0).float())))


def masked_by_ids() -> tuple[nn.Module, tuple[Tensor, ...], dict[str, dict[int, object]]]:
    """Id 0 counts for nothing."""
    torch.manual_seed(0)
    return MaskedByIds(), (torch.randint(0, 50, (7,)), torch.tensor([0, 2, 3, 5])), {"ids": {0: V}, "offsets": {0: V}}


class SharedOffsets(nn.Module):
    """Two groups of ids with one set of offsets, and a history through a GRU, of which onnxruntime has none in FP64."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.EmbeddingBag(30, 8, mode="sum"), nn.EmbeddingBag(40, 8, mode="sum")
        self.item, self.gru = nn.Embedding(30, 8), nn.GRU(8, 8, batch_first=True)

    def forward(self, ids_a: Tensor, ids_b: Tensor, offsets: Tensor, history: Tensor) -> Tensor:
        states, _ = self.gru(self.item(history))
        return torch.as_tensor((self.a(ids_a, offsets) * self.b(ids_b, offsets) * states[:, -1]).sum(1))


def shared_offsets() -> tuple[nn.Module, tuple[Tensor, ...], dict[str, dict[int, object]]]:
    """Four rows."""
    torch.manual_seed(0)
    args = torch.randint(0, 30, (7,)), torch.randint(0, 40, (7,)), torch.tensor([0, 2, 3, 5]), torch.randint(0, 30, (4, 5))
    return SharedOffsets(), args, {name: {0: V} for name in ("ids_a", "ids_b", "offsets", "history")}


class LastOfHistory(nn.Module):
    """The last item of a history by its length, which has a table too: a length of 0 is an id, and no place in the history."""

    def __init__(self) -> None:
        super().__init__()
        self.item, self.length = nn.Embedding(50, 8), nn.Embedding(7, 8)

    def forward(self, history: Tensor, length: Tensor) -> Tensor:
        last = history.gather(1, length.unsqueeze(1) - 1).squeeze(1)
        return torch.as_tensor((self.item(last) * self.length(length)).sum(-1))


def last_of_history() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Lengths from 1 on."""
    torch.manual_seed(0)
    return LastOfHistory(), (torch.randint(0, 50, (4, 6)), torch.tensor([1, 6, 3, 2]))
