"""Every other way of looking rows up, one small model each: single ids, computed ids, shared tables, unpooled history.

Every model ends in the same head: a linear layer over four dense features and what was looked up.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsplit.zoo.layers import Examples, Head, Model, mlp, seeded

ROWS, DIM, DENSE = 500, 8, 4
LONGEST = 6


class OneHot(nn.Module):
    """INT64 ids [batch] into an nn.Embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, DIM)
        self.head = Head(DIM)

    def forward(self, dense: Tensor, ids: Tensor) -> Tensor:
        logit: Tensor = self.head(dense, self.table(ids))
        return logit


def one_hot(*, batch: int = 4, seed: int = 0) -> Model:
    """One id a row."""
    examples = Examples(seed)
    return seeded(OneHot()), (examples.dense(batch, DENSE), examples.ids(ROWS, batch))


class SharedTable(nn.Module):
    """INT64 item [batch], last_item [batch] and history [batch, length] (0 pads), all in one table."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(ROWS, DIM)
        self.head = Head(3 * DIM)

    def forward(self, dense: Tensor, item: Tensor, last_item: Tensor, history: Tensor) -> Tensor:
        pooled = functional.embedding_bag(history, self.items.weight, mode="mean", padding_idx=0)
        logit: Tensor = self.head(dense, self.items(item), self.items(last_item), pooled)
        return logit


def shared_table(*, batch: int = 4, seed: int = 0) -> Model:
    """One table, three lookups."""
    examples = Examples(seed)
    ids = (examples.ids(ROWS, batch), examples.ids(ROWS, batch), examples.padded(ROWS, batch, LONGEST))
    return seeded(SharedTable()), (examples.dense(batch, DENSE), *ids)


class ModHash(nn.Module):
    """INT64 ids [batch, 3] of any value, negative ones too, hashed into one table by a modulo."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, DIM)
        self.head = Head(3 * DIM)

    def forward(self, dense: Tensor, ids: Tensor) -> Tensor:
        logit: Tensor = self.head(dense, self.table(ids % ROWS).flatten(1))
        return logit


def mod_hash(*, batch: int = 4, seed: int = 0) -> Model:
    """Ids from -2**40 to 2**40."""
    examples = Examples(seed)
    return seeded(ModHash()), (examples.dense(batch, DENSE), examples.ids(2**41, batch, 3) - 2**40)


class QuotientRemainder(nn.Module):
    """INT64 ids [batch] of 30 * 20 items, composed of 30 quotients and 20 remainders."""

    def __init__(self) -> None:
        super().__init__()
        self.quotients = nn.Embedding(30, DIM)
        self.remainders = nn.Embedding(20, DIM)
        self.head = Head(DIM)

    def forward(self, dense: Tensor, ids: Tensor) -> Tensor:
        quotients = self.quotients(torch.div(ids, 20, rounding_mode="floor"))
        logit: Tensor = self.head(dense, quotients * self.remainders(ids % 20))
        return logit


def qr_trick(*, batch: int = 4, seed: int = 0) -> Model:
    """The quotient-remainder trick: two small tables instead of one of 600 rows."""
    examples = Examples(seed)
    return seeded(QuotientRemainder()), (examples.dense(batch, DENSE), examples.ids(600, batch))


class OneBigTable(nn.Module):
    """INT64 ids [batch, 3], each field's shifted to its own part of one table."""

    first_row: Tensor

    def __init__(self, rows: tuple[int, ...]) -> None:
        super().__init__()
        self.table = nn.Embedding(sum(rows), DIM)
        self.register_buffer("first_row", torch.tensor([0, *rows[:-1]]).cumsum(0))
        self.head = Head(len(rows) * DIM)

    def forward(self, dense: Tensor, ids: Tensor) -> Tensor:
        logit: Tensor = self.head(dense, self.table(ids + self.first_row).flatten(1))
        return logit


def one_big_table(*, batch: int = 4, seed: int = 0) -> Model:
    """Fields of 100, 30 and 370 rows."""
    examples, rows = Examples(seed), (100, 30, 370)
    ids = torch.stack([examples.ids(count, batch) for count in rows], dim=1)
    return seeded(OneBigTable(rows)), (examples.dense(batch, DENSE), ids)


class HistoryAttention(nn.Module):
    """DIN's unit: INT64 item [batch] attends over history [batch, length] (0 pads), which is not pooled before."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(ROWS, DIM, padding_idx=0)
        self.attention = mlp(4 * DIM, 16, 1)
        self.head = Head(2 * DIM)

    def forward(self, dense: Tensor, item: Tensor, history: Tensor) -> Tensor:
        target, watched = self.items(item), self.items(history)  # [batch, dim], [batch, length, dim]
        query = target[:, None, :].expand_as(watched)
        scores = self.attention(torch.cat([query, watched, query - watched, query * watched], dim=2))
        scores = torch.where((history != 0)[:, :, None], scores, torch.zeros_like(scores))
        logit: Tensor = self.head(dense, target, (scores * watched).sum(dim=1))
        return logit


def history_attention(*, batch: int = 4, seed: int = 0) -> Model:
    """One table; the mask is made from the raw ids."""
    examples = Examples(seed)
    inputs = (examples.dense(batch, DENSE), examples.ids(ROWS, batch), examples.padded(ROWS, batch, LONGEST))
    return seeded(HistoryAttention()), inputs


class MaskedMean(nn.Module):
    """INT64 history [batch, length] (0 pads), averaged by hand over what is not padding."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(ROWS, DIM)
        self.head = Head(DIM)

    def forward(self, dense: Tensor, history: Tensor) -> Tensor:
        mask = (history != 0).float().unsqueeze(2)
        mean = (self.items(history) * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        logit: Tensor = self.head(dense, mean)
        return logit


def masked_mean(*, batch: int = 4, seed: int = 0) -> Model:
    """Pooled by the model's own operators."""
    examples = Examples(seed)
    return seeded(MaskedMean()), (examples.dense(batch, DENSE), examples.padded(ROWS, batch, LONGEST))


class Wide(nn.Module):
    """The wide side of Wide & Deep: INT64 ids [batch, 3] and tags [batch, length] into tables of width 1."""

    def __init__(self) -> None:
        super().__init__()
        self.fields = nn.ModuleList(nn.Embedding(ROWS, 1) for _ in range(3))
        self.tags = nn.EmbeddingBag(ROWS, 1, mode="sum", padding_idx=0)
        self.linear = nn.Linear(DENSE, 1)

    def forward(self, dense: Tensor, ids: Tensor, tags: Tensor) -> Tensor:
        wide = torch.cat([*(field(ids[:, n]) for n, field in enumerate(self.fields)), self.tags(tags)], dim=1)
        logit: Tensor = self.linear(dense) + wide.sum(dim=1, keepdim=True)
        return logit


def wide(*, batch: int = 4, seed: int = 0) -> Model:
    """Four tables of width 1."""
    examples = Examples(seed)
    inputs = (examples.dense(batch, DENSE), examples.ids(ROWS, batch, 3), examples.padded(ROWS, batch, LONGEST))
    return seeded(Wide()), inputs


class FloatIds(nn.Module):
    """FP32 features [batch, 4 dense + 2 ids]: ids arrive as floats and are cast, as in DeepCTR."""

    def __init__(self) -> None:
        super().__init__()
        self.fields = nn.ModuleList(nn.Embedding(ROWS, DIM) for _ in range(2))
        self.head = Head(2 * DIM)

    def forward(self, features: Tensor) -> Tensor:
        vectors = [field(features[:, DENSE + n].long()) for n, field in enumerate(self.fields)]
        logit: Tensor = self.head(features[:, :DENSE], *vectors)
        return logit


def float_ids(*, batch: int = 4, seed: int = 0) -> Model:
    """Two tables, one input."""
    examples = Examples(seed)
    return seeded(FloatIds()), (torch.cat([examples.dense(batch, DENSE), examples.ids(ROWS, batch, 2).float()], dim=1),)


class WeightIndexing(nn.Module):
    """INT64 ids [batch] index a bare parameter: `weight[ids]`, with no embedding module at all."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(ROWS, DIM))
        self.head = Head(DIM)

    def forward(self, dense: Tensor, ids: Tensor) -> Tensor:
        logit: Tensor = self.head(dense, self.weight[ids])
        return logit


def weight_indexing(*, batch: int = 4, seed: int = 0) -> Model:
    """One table that is a plain parameter."""
    examples = Examples(seed)
    return seeded(WeightIndexing()), (examples.dense(batch, DENSE), examples.ids(ROWS, batch))


class Codebook(nn.Module):
    """INT64 user [batch] is a lookup; the codebook is not, because its ids come out of a floating-point layer."""

    def __init__(self) -> None:
        super().__init__()
        self.user = nn.Embedding(ROWS, DIM)
        self.nearest = nn.Linear(DENSE, 32)
        self.codebook = nn.Embedding(32, DIM)
        self.head = Head(2 * DIM)

    def forward(self, dense: Tensor, user: Tensor) -> Tensor:
        codes = self.nearest(dense).argmax(dim=1)
        logit: Tensor = self.head(dense, self.user(user), self.codebook(codes))
        return logit


def codebook(*, batch: int = 4, seed: int = 0) -> Model:
    """Two tables in the module, of which one must stay in the dense model."""
    examples = Examples(seed)
    return seeded(Codebook()), (examples.dense(batch, DENSE), examples.ids(ROWS, batch))
