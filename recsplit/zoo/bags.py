"""Every form of nn.EmbeddingBag, one small model each: fixed length or offsets, pooling, padding, per-sample weights.

Every model ends in the same head: a linear layer over four dense features and what was looked up.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from recsplit.zoo.layers import VARIES, Examples, Head, Model, seeded

ROWS, DIM, DENSE = 500, 8, 4
LONGEST = 6


class FixedBag(nn.Module):
    """INT64 ids [batch, length]."""

    def __init__(self, mode: str, padding: int | None, width: int = DIM) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(ROWS, width, mode=mode, padding_idx=padding)
        self.head = Head(width)

    def forward(self, dense: Tensor, ids: Tensor) -> Tensor:
        logit: Tensor = self.head(dense, self.bag(ids))
        return logit


class WeightedFixedBag(FixedBag):
    """INT64 ids and FP32 weights, both [batch, length]."""

    def forward(self, dense: Tensor, ids: Tensor, weights: Tensor) -> Tensor:  # type: ignore[override]
        logit: Tensor = self.head(dense, self.bag(ids, per_sample_weights=weights))
        return logit


class OffsetsBag(nn.Module):
    """INT64 values [nnz] and offsets [batch], or [batch + 1] with `last_offset`."""

    def __init__(self, mode: str, padding: int | None, last_offset: bool) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(ROWS, DIM, mode=mode, padding_idx=padding, include_last_offset=last_offset)
        self.head = Head(DIM)

    def forward(self, dense: Tensor, values: Tensor, offsets: Tensor) -> Tensor:
        logit: Tensor = self.head(dense, self.bag(values, offsets))
        return logit


class WeightedOffsetsBag(OffsetsBag):
    """As OffsetsBag, with FP32 weights [nnz]."""

    def forward(self, dense: Tensor, values: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:  # type: ignore[override]
        logit: Tensor = self.head(dense, self.bag(values, offsets, per_sample_weights=weights))
        return logit


def _fixed(mode: str, *, padding: int | None = None, weighted: bool = False, batch: int = 4, seed: int = 0) -> Model:
    examples = Examples(seed)
    ids = examples.ids(ROWS, batch, LONGEST) if padding is None else examples.padded(ROWS, batch, LONGEST, padding)
    dense = examples.dense(batch, DENSE)
    if weighted:
        return seeded(WeightedFixedBag(mode, padding)), (dense, ids, examples.dense(batch, LONGEST))
    return seeded(FixedBag(mode, padding)), (dense, ids)


def _offsets(
    mode: str, *, padding: int | None = None, last_offset: bool = False, weighted: bool = False, batch: int = 4, seed: int = 0
) -> Model:
    examples = Examples(seed)
    values, offsets = examples.bags(ROWS, batch, LONGEST, last_offset=last_offset)
    if padding is not None:
        values[::2] = padding
    dense = examples.dense(batch, DENSE)
    if weighted:
        inputs = (dense, values, offsets, examples.dense(len(values)))
        return seeded(WeightedOffsetsBag(mode, padding, last_offset)), inputs, (VARIES,) * 4
    return seeded(OffsetsBag(mode, padding, last_offset)), (dense, values, offsets), (VARIES,) * 3


Factory = Callable[..., Model]

sum_fixed: Factory = partial(_fixed, "sum")
mean_fixed: Factory = partial(_fixed, "mean")
max_fixed: Factory = partial(_fixed, "max")
sum_fixed_padding: Factory = partial(_fixed, "sum", padding=0)
mean_fixed_padding: Factory = partial(_fixed, "mean", padding=0)
max_fixed_padding: Factory = partial(_fixed, "max", padding=ROWS - 1)
sum_fixed_weights: Factory = partial(_fixed, "sum", weighted=True)
sum_fixed_padding_weights: Factory = partial(_fixed, "sum", padding=0, weighted=True)
sum_offsets: Factory = partial(_offsets, "sum")
mean_offsets: Factory = partial(_offsets, "mean")
max_offsets: Factory = partial(_offsets, "max")
sum_last_offset: Factory = partial(_offsets, "sum", last_offset=True)
mean_last_offset: Factory = partial(_offsets, "mean", last_offset=True)
max_last_offset: Factory = partial(_offsets, "max", last_offset=True)
sum_offsets_padding: Factory = partial(_offsets, "sum", padding=7)
mean_offsets_padding: Factory = partial(_offsets, "mean", padding=7)
max_offsets_padding: Factory = partial(_offsets, "max", padding=7)
sum_offsets_weights: Factory = partial(_offsets, "sum", weighted=True)
sum_last_offset_weights: Factory = partial(_offsets, "sum", last_offset=True, weighted=True)


class FacebookDLRM(nn.Module):
    """The input form of facebookresearch/dlrm: dense, offsets [features, batch], and one tensor of values a feature."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(ROWS, DIM, mode="sum") for _ in range(features))
        self.head = Head(features * DIM)

    def forward(self, dense_x: Tensor, lS_o: Tensor, lS_i: list[Tensor]) -> Tensor:  # noqa: N803 (facebook's names)
        logit: Tensor = self.head(dense_x, *(bag(lS_i[n], lS_o[n]) for n, bag in enumerate(self.bags)))
        return logit


def facebook(*, batch: int = 4, seed: int = 0) -> Model:
    """Three features; the batch is the second dimension of the offsets."""
    examples = Examples(seed)
    values, offsets = zip(*(examples.bags(ROWS, batch, longest) for longest in (3, 5, LONGEST)), strict=True)
    inputs = (examples.dense(batch, DENSE), torch.stack(offsets), list(values))
    return seeded(FacebookDLRM(3)), inputs, (VARIES, {1: torch.export.Dim.AUTO}, [VARIES] * 3)
