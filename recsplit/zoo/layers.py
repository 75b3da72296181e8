"""What the zoo's models share: a perceptron, the dot interaction, seeded weights and seeded example inputs."""

import itertools
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

#: What a factory returns: the module and its example inputs, and torch.export's dynamic_shapes where the batch is not
#: simply the first dimension of every input.
Model: TypeAlias = tuple[nn.Module, tuple[Any, ...]] | tuple[nn.Module, tuple[Any, ...], tuple[Any, ...]]

#: dynamic_shapes of a tensor whose first dimension varies.
VARIES = {0: torch.export.Dim.AUTO}


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers from widths[0] to widths[-1], with a ReLU between them and none at the end."""
    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class DotInteraction(nn.Module):
    """Dot products of all pairs of vectors: [batch, vectors, dim] -> [batch, vectors * (vectors - 1) / 2]."""

    below_diagonal: Tensor

    def __init__(self, vectors: int) -> None:
        super().__init__()
        row, column = torch.tril_indices(vectors, vectors, offset=-1)
        self.register_buffer("below_diagonal", row * vectors + column)  # saved with the weights, for modules on the meta device

    def forward(self, vectors: Tensor) -> Tensor:
        products = vectors @ vectors.transpose(1, 2)
        return products.flatten(1).index_select(1, self.below_diagonal)


class Head(nn.Module):
    """FP32 dense [batch, 4] and looked-up vectors [batch, ...] -> [batch, 1]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(4 + width, 1)

    def forward(self, dense: Tensor, *vectors: Tensor) -> Tensor:
        logit: Tensor = self.linear(torch.cat([dense, *vectors], dim=1))
        return logit


def seeded(module: nn.Module, seed: int = 7) -> nn.Module:
    """The module in eval mode with normal weights that depend on `seed` only, of about unit gain in every layer.

    Padding rows of tables get values too: a lowering that fails to skip them is then seen.
    """
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(module.named_parameters()):
        spread = min(0.5, parameter[0].numel() ** -0.5)  # from a row of a matrix, or of a table, to one of about unit length
        with torch.no_grad():
            parameter.normal_(std=spread, generator=generator)
    return module.eval()


class Examples:
    """Draws example inputs. The smallest and the largest id of a table appear wherever there is room for both."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def dense(self, *shape: int) -> Tensor:
        """Standard normal FP32 features of this shape."""
        return torch.randn(shape, generator=self._generator)

    def ids(self, rows: int, *shape: int) -> Tensor:
        """INT64 ids in 0 .. rows-1 of this shape."""
        ids = torch.randint(rows, shape, generator=self._generator)
        if ids.numel() > 1:
            ids.view(-1)[0], ids.view(-1)[-1] = 0, rows - 1
        return ids

    def padded(self, rows: int, batch: int, length: int, padding: int = 0) -> Tensor:
        """INT64 ids [batch, length], each row padded on the right; one row is empty where there is more than one."""
        ids = self.ids(rows, batch, length)
        filled = self.lengths(batch, length)
        return torch.where(torch.arange(length) < filled[:, None], ids, padding)

    def lengths(self, batch: int, longest: int) -> Tensor:
        """INT64 [batch], each 0 .. longest, never all zero; one is zero where there is more than one."""
        lengths = torch.randint(longest + 1, (batch,), generator=self._generator)
        lengths[0] = longest  # so that the number of values differs from the batch in nearly every draw
        if batch > 1:
            lengths[-1] = 0
        return lengths

    def bags(self, rows: int, batch: int, longest: int, *, last_offset: bool = False) -> tuple[Tensor, Tensor]:
        """(values [nnz], offsets [batch], or [batch + 1] with `last_offset`), both INT64."""
        ends = torch.cumsum(self.lengths(batch, longest), 0)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), ends])
        return self.ids(rows, int(ends[-1])), offsets if last_offset else offsets[:-1]
