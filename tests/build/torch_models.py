"""Factories for builds under test."""

from typing import Any

import torch
from torch import Tensor, nn

from recsplit.zoo import bags
from recsplit.zoo import layers as zoo


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


class Squeezes(nn.Module):
    """INT64 ids [batch] of a user and an item; each subclass squeezes in its own way."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.user, self.item, self.out = nn.Embedding(30, 8), nn.Embedding(40, 8), nn.Linear(8, 1)


def _two_ids(module: nn.Module) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return module, (torch.tensor([1, 29, 0, 7]), torch.tensor([39, 5, 0, 8]))


class SqueezeNoop(Squeezes):
    """Dimension 1 is 8 wide: torch leaves it."""

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return (self.user(user).squeeze(1) * self.item(item)).sum(-1)


def squeeze_noop() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return _two_ids(SqueezeNoop())


class SqueezeInPlace(Squeezes):
    """The same by squeeze_."""

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return (self.user(user).squeeze_(1) * self.item(item)).sum(-1)


def squeeze_in_place() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return _two_ids(SqueezeInPlace())


class SqueezeScores(Squeezes):
    """The last dimension of the scores is the batch."""

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return torch.cosine_similarity(self.user(user), self.item(item), dim=1).squeeze(-1)


def squeeze_scores() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return _two_ids(SqueezeScores())


class SqueezeOutput(Squeezes):
    """No axis is named, and the output is squeezed."""

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return torch.sigmoid(self.out(self.user(user) * self.item(item)).squeeze())


def squeeze_output() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return _two_ids(SqueezeOutput())


class SqueezeBatch(Squeezes):
    """Scores [batch], squeezed without a name."""

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return torch.sigmoid((self.user(user) * self.item(item)).sum(-1).squeeze())


def squeeze_batch() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return _two_ids(SqueezeBatch())


class SqueezeFront(Squeezes):
    """Scores [batch, 1], of which one row is answered as [1]."""

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return self.out(self.user(user) * self.item(item)).squeeze(0)


def squeeze_front() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return _two_ids(SqueezeFront())


class SqueezeLength(Squeezes):
    """A history of varying length, squeezed where it is 1 long."""

    def forward(self, history: Tensor) -> Tensor:
        return self.out(self.user(history).squeeze(1).mean(1))


def squeeze_length() -> tuple[nn.Module, tuple[Tensor], dict[str, dict[int, Any]]]:
    auto = torch.export.Dim.AUTO
    return SqueezeLength(), (torch.arange(12).reshape(4, 3),), {"history": {0: auto, 1: auto}}


def squeeze_length_of_two() -> tuple[nn.Module, tuple[Tensor], dict[str, dict[int, Any]]]:
    """Histories that are declared to be 2 or longer: nothing is squeezed."""
    length = torch.export.Dim("length", min=2, max=50)
    return SqueezeLength(), (torch.arange(12).reshape(4, 3),), {"history": {0: torch.export.Dim.AUTO, 1: length}}


class Bits(nn.Module):
    """INT64 ids [batch, 6] and what was seen of them [batch, 6], joined by the operators `& | ^ ~ << >>` on truths and on integers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.e, self.out = nn.Embedding(50, 8), nn.Linear(8, 1)

    def forward(self, ids: Tensor, seen: Tensor) -> Tensor:
        mask = ((ids != 0) & (seen > 0)) | ((ids > 40) ^ ~(seen > 1))
        hashed = (((ids >> 2) ^ 3) << 1) & 31 | 1
        shifted = ((ids << (seen & 1)) >> (seen & 3)) % 50
        shifted >>= seen & 1
        return self.out((self.e(hashed) * mask.float().unsqueeze(-1) + self.e(shifted)).sum(1))


def bits() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return Bits(), (torch.arange(24).reshape(4, 6) * 2, torch.arange(24).reshape(4, 6) % 3)


class Encoder(nn.Module):
    """INT64 histories [batch, 4], padded with 0, and an item [batch]; each subclass reads the encoder in its own way."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.item = nn.Embedding(61, 16, padding_idx=0)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)


def _history(module: nn.Module) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return module, (torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0], [6, 7, 8, 9], [3, 0, 0, 0]]), torch.tensor([1, 2, 3, 60]))


class EncoderCausal(Encoder):
    """The mask of truths that SASRec has; nobody says that it is causal."""

    def forward(self, history: Tensor, item: Tensor) -> Tensor:
        mask = ~torch.tril(torch.ones(4, 4, dtype=torch.bool))
        return (self.encoder(self.item(history), mask=mask)[:, -1] * self.item(item)).sum(-1)


def encoder_causal() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return _history(EncoderCausal())


class EncoderPadded(Encoder):
    """Padding is masked; a history of padding alone leaves nothing."""

    def forward(self, history: Tensor, item: Tensor) -> Tensor:
        return (self.encoder(self.item(history), src_key_padding_mask=history == 0)[:, 0] * self.item(item)).sum(-1)


def encoder_padded() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return _history(EncoderPadded())


class EncoderMean(Encoder):
    """Padded places are averaged too: they are zero on torch's fast path, and numbers in the layers."""

    def forward(self, history: Tensor, item: Tensor) -> Tensor:
        return (self.encoder(self.item(history), src_key_padding_mask=history == 0).mean(1) * self.item(item)).sum(-1)


def encoder_mean() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return _history(EncoderMean())


class AttentionPadded(Encoder):
    """Attention alone; with its weights asked for, torch answers NaN for a history of padding alone."""

    def forward(self, history: Tensor, item: Tensor) -> Tensor:
        vectors = self.item(history)
        pooled, _ = self.attention(self.item(item)[:, None], vectors, vectors, key_padding_mask=history == 0)
        return (pooled[:, 0] * self.item(item)).sum(-1)


def attention_padded() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return _history(AttentionPadded())


class LenOfTensor(nn.Module):
    """INT64 histories [batch, 6], their lengths and items [batch]; the batch's size is len(vectors)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.item, self.gru = nn.Embedding(42, 8), nn.GRU(8, 8, batch_first=True)

    def forward(self, history: Tensor, length: Tensor, item: Tensor) -> Tensor:
        vectors, _ = self.gru(self.item(history))
        return (vectors[torch.arange(len(vectors)), length - 1] * self.item(item)).sum(-1)


def len_of_tensor() -> tuple[nn.Module, tuple[Tensor, Tensor, Tensor]]:
    return LenOfTensor(), (torch.arange(24).reshape(4, 6), torch.tensor([1, 6, 3, 2]), torch.tensor([0, 41, 7, 9]))


class ItemMajor(nn.Module):
    """INT64 ids [tables, batch]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tables, self.out = nn.ModuleList(nn.Embedding(rows, 8) for rows in (30, 40)), nn.Linear(16, 1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(torch.cat([table(column) for table, column in zip(self.tables, ids, strict=True)], -1))


def item_major() -> tuple[nn.Module, tuple[Tensor], dict[str, dict[int, Any]]]:
    return ItemMajor(), (torch.tensor([[0, 29, 7, 8], [39, 0, 3, 4]]),), {"ids": {1: torch.export.Dim.AUTO}}


class DenseMajor(nn.Module):
    """FP32 features [8, batch] beside ids [batch]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.out = nn.Embedding(30, 8), nn.Linear(8, 1)

    def forward(self, ids: Tensor, features: Tensor) -> Tensor:
        return self.out(self.table(ids) + features.T)


def dense_major() -> tuple[nn.Module, tuple[Tensor, Tensor], dict[str, dict[int, Any]]]:
    auto = torch.export.Dim.AUTO
    return DenseMajor(), (torch.tensor([0, 29, 7, 8]), torch.rand(8, 4)), {"ids": {0: auto}, "features": {1: auto}}


class CriteoStacked(nn.Module):
    """INT64 ids and offsets [tables, batch], as facebookresearch/dlrm's loader stacks them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tables = nn.ModuleList(nn.EmbeddingBag(rows, 8, mode="sum") for rows in (30, 40, 50))
        self.out = nn.Linear(27, 1)

    def forward(self, dense: Tensor, offsets: Tensor, ids: Tensor) -> Tensor:
        return self.out(torch.cat([dense, *[self.tables[n](values, offsets[n]) for n, values in enumerate(ids)]], 1))


def criteo_stacked() -> tuple[nn.Module, tuple[Tensor, Tensor, Tensor], dict[str, dict[int, Any]]]:
    auto = torch.export.Dim.AUTO
    inputs = torch.rand(4, 3), torch.arange(4).repeat(3, 1), torch.arange(12).reshape(3, 4)
    return CriteoStacked(), inputs, {"dense": {0: auto}, "offsets": {1: auto}, "ids": {1: auto}}


def facebook_of_many(features: int = 9) -> zoo.Model:
    """facebookresearch/dlrm with nine features, each with bags of its own lengths."""
    examples = zoo.Examples(5)
    values, offsets = zip(*(examples.bags(bags.ROWS, 6, 1 + number) for number in range(features)), strict=True)
    varies = zoo.VARIES, {1: torch.export.Dim.AUTO}, [zoo.VARIES] * features
    return zoo.seeded(bags.FacebookDLRM(features)), (examples.dense(6, bags.DENSE), torch.stack(offsets), list(values)), varies


class Scores(nn.Module):
    """INT64 ids [batch, 3]; what their vectors are looked up in is up to who builds it."""

    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.table, self.out = table, nn.Linear(8, 1)

    def forward(self, ids: Tensor) -> Tensor:
        vectors = self.table(ids)
        return torch.sigmoid(self.out(vectors.mean(1) if vectors.dim() == 3 else vectors))


class Autocast(Scores):
    """The layers in bfloat16."""

    def forward(self, ids: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(ids).float()


def _three_ids(module: nn.Module) -> tuple[nn.Module, tuple[Tensor]]:
    return module, (torch.tensor([[1, 2, 3], [4, 5, 6]]),)


def autocast() -> tuple[nn.Module, tuple[Tensor]]:
    return _three_ids(Autocast(nn.Embedding(100, 8)))


def quantized_bag() -> tuple[nn.Module, tuple[Tensor]]:
    module = Scores(nn.EmbeddingBag(100, 8, mode="sum")).eval()
    module.table.qconfig = torch.ao.quantization.float_qparams_weight_only_qconfig  # type: ignore[assignment]
    torch.ao.quantization.prepare(module, inplace=True)
    torch.ao.quantization.convert(module, inplace=True)
    return _three_ids(module)


class Renorm(Scores):
    """Rows clipped as they are read, by the function and not by nn.Embedding."""

    def forward(self, ids: Tensor) -> Tensor:
        return torch.sigmoid(self.out(nn.functional.embedding(ids, self.table.weight, max_norm=1.0).mean(1)))  # type: ignore[arg-type]


def renorm() -> tuple[nn.Module, tuple[Tensor]]:
    return _three_ids(Renorm(nn.Embedding(100, 8)))


class Neighbours(Scores):
    """A sparse matrix among the buffers, which forward doesn't read."""

    def __init__(self) -> None:
        super().__init__(nn.Embedding(100, 8))
        self.register_buffer("neighbours", torch.eye(100).to_sparse())


class Propagated(Neighbours):
    """The same, read."""

    def forward(self, ids: Tensor) -> Tensor:
        table = torch.sparse.mm(self.get_buffer("neighbours"), self.table.get_parameter("weight"))
        return super().forward(ids) + table[ids].mean((1, 2))[:, None]


def sparse_buffer() -> tuple[nn.Module, tuple[Tensor]]:
    return _three_ids(Propagated())


def unread_sparse_buffer() -> tuple[nn.Module, tuple[Tensor]]:
    return _three_ids(Neighbours())


def sparse_input() -> tuple[nn.Module, tuple[Tensor]]:
    return Scores(nn.Embedding(100, 8)), (torch.tensor([[1, 2, 3], [4, 5, 6]]).to_sparse(),)


def sparse_gradients() -> tuple[nn.Module, tuple[Tensor]]:
    torch.manual_seed(0)
    return _three_ids(Scores(nn.Embedding(100, 8, sparse=True)))
