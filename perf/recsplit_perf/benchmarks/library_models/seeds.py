"""Seeds of the libraries' models: weights and inputs that depend on them only."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

#: What a factory returns: the module in eval mode, and its positional example inputs, batch first.
Sample: TypeAlias = tuple[nn.Module, tuple[Any, ...]]
#: factory(batch, seed): weights are the same in every call.
Factory: TypeAlias = Callable[[int, int], Sample]

WEIGHTS = 7


def weighted(module: nn.Module) -> nn.Module:
    """The module in eval mode, its weights and its statistics of batches seeded, of about unit gain in every layer.

    The libraries start tables near zero and statistics at none: a wrong row would not show in an answer.
    """
    generator = torch.Generator().manual_seed(WEIGHTS)
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            width = parameter[0].numel() if parameter.ndim else 1
            parameter.normal_(std=min(0.5, max(width, 1) ** -0.5), generator=generator)
        for _, part in sorted(module.named_modules()):
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None and part.running_var is not None:
                part.running_mean.normal_(std=0.1, generator=generator)
                part.running_var.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


class Scores(nn.Module):
    """The first answer of a module whose second is a loss, of use in training only."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Any) -> Tensor:
        """The scores of these inputs."""
        scores: Tensor = self.module(inputs)[0]
        return scores
