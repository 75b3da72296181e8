"""What the published models share: bags in tables of scaled rows, the DLRM in both interactions, seeded weights, examples."""

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

from recsplit.zoo.catalogue.catalogue import CATALOGUE
from recsplit.zoo.catalogue.shapes import Published, refuse_memory, scale_of, scaled
from recsplit.zoo.layers import DotInteraction, Examples, Model, mlp, seeded

#: A factory of a published model: takes rows_scale, batch and seed by keyword.
Factory = Callable[..., Model]


class Bags(nn.Module):
    """INT64 ids [batch, lookups], one table's after the other -> sums of bags, one FP32 [batch, dim] a table."""

    def __init__(self, model: Published, scale: float) -> None:
        super().__init__()
        self.lengths = [group.lookups for group in model.tables for _ in range(group.count)]
        rows = [scaled(group.rows, scale) for group in model.tables for _ in range(group.count)]
        self.tables = nn.ModuleList(
            (nn.EmbeddingBag(count, model.dim, mode="sum", device="meta") if length > 1 else nn.Embedding(count, model.dim, device="meta"))
            for count, length in zip(rows, self.lengths, strict=True)
        ).to_empty(device="cpu")  # they are filled once, by `made`

    def forward(self, ids: Tensor) -> list[Tensor]:
        pieces = zip(self.tables, ids.split(self.lengths, dim=1), strict=True)  # one Split, where a slice a table exports slowly
        return [table(piece if piece.shape[1] > 1 else piece.squeeze(1)) for table, piece in pieces]


class GroupedLinear(nn.Module):
    """`groups` linear layers side by side, each with weights of its own: FP32 [groups, batch, n] -> [groups, batch, m]."""

    def __init__(self, groups: int, width_in: int, width_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(groups, width_in, width_out))
        self.bias = nn.Parameter(torch.empty(groups, 1, width_out))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.weight + self.bias


class PublishedDLRM(nn.Module):
    """FP32 dense [batch, dense], INT64 ids [batch, lookups] -> probability of a click, FP32 [batch, 1].

    The interaction is dot products of all pairs beside what comes out of the bottom, or plain concatenation ("cat").
    """

    def __init__(self, model: Published, scale: float, interaction: str) -> None:
        super().__init__()
        self.bags = Bags(model, scale)
        self.bottom = mlp(*model.stack("bottom").widths)
        self.interaction = DotInteraction(model.table_count + 1) if interaction == "dot" else None
        self.top = mlp(*model.stack("top").widths)

    def forward(self, dense: Tensor, ids: Tensor) -> Tensor:
        vectors = [torch.relu(self.bottom(dense)), *self.bags(ids)]
        if self.interaction is not None:
            vectors = [vectors[0], self.interaction(torch.stack(vectors, dim=1))]
        return torch.sigmoid(self.top(torch.cat(vectors, dim=1)))


def published_model(name: str, module: Callable[[Published, float], nn.Module], rows_scale: float | None, batch: int, seed: int) -> Model:
    """The published model of that name with its weights, and example inputs: (dense, ids), or (ids,).

    Raises InputError where the scale is not in (0, 1], or the tables don't fit the machine's memory.
    """
    model = CATALOGUE[name]
    scale = scale_of(model, rows_scale)
    refuse_memory(model, scale, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    built = seeded(module(model, scale))
    _shorten_sums(built)
    return built, inputs(model, scale, batch, seed)


def inputs(model: Published, scale: float, batch: int, seed: int) -> tuple[Tensor, ...]:
    """FP32 dense [batch, dense] where the model takes any, and INT64 ids [batch, lookups]."""
    examples = Examples(seed)
    dense = (examples.dense(batch, model.dense),) if model.dense else ()
    groups = [examples.ids(scaled(group.rows, scale), batch, group.count * group.lookups) for group in model.tables]
    return *dense, torch.cat(groups, dim=1)


def _shorten_sums(module: nn.Module) -> None:
    """Sums of many vectors get about unit length: else they would drown the other features, and saturate the last layer.

    A bag of different rows grows with the root of its length, one of the same row over and over with its length: the
    power lies between, so that neither is lost to rounding when the dot products are taken.
    """
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, Bags):
                for table, length in zip(part.tables.parameters(), part.lengths, strict=True):
                    table.mul_(length**-0.75)
            elif isinstance(part, GroupedLinear):
                for parameter in part.parameters():
                    parameter.mul_(len(part.weight) ** -0.5)
