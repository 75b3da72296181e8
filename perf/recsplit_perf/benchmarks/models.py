"""The models under measurement, as factories that `recsplit build` takes."""

import torch
from torch import Tensor, nn

from recsplit.zoo.dlrm import dlrm as zoo_dlrm
from recsplit.zoo.layers import VARIES, Examples, Model, seeded


def dlrm() -> Model:
    """8 tables of 100,000 x 32 FP32 (102 MB), bags of 20 ids, 13 dense features; bottom 512-256-32, top 512-256-1.

    Ids are one input [batch, 160], a table's 20 after another's: both exporters make its batch dynamic, and with one
    tensor in place of eight the number of inputs favours nobody.
    """
    return zoo_dlrm(tables=8, rows=100_000, dim=32, bag=20, dense=13, bottom=(512, 256), top=(512, 256))


class HundredBags(nn.Module):
    """A hundred features whose bags vary in length, each a tensor of values and one of offsets, and a dense net on what they give."""

    FEATURES, ROWS, DIM, LONGEST = 100, 20_000, 16, 8

    def __init__(self) -> None:
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(self.ROWS, self.DIM, mode="sum") for _ in range(self.FEATURES))
        width = self.FEATURES * self.DIM
        self.net = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, offsets: Tensor, values: list[Tensor]) -> Tensor:
        """Logits of rows."""
        score: Tensor = self.net(torch.cat([bag(values[number], offsets[number]) for number, bag in enumerate(self.bags)], dim=1))
        return score


def hundred_bags(*, batch: int = 4, seed: int = 0) -> Model:
    """The shape of server #7492; the batch is the second dimension of the offsets."""
    examples = Examples(seed)
    values, offsets = zip(*(examples.bags(HundredBags.ROWS, batch, HundredBags.LONGEST) for _ in range(HundredBags.FEATURES)), strict=True)
    return seeded(HundredBags()), (torch.stack(offsets), list(values)), ({1: torch.export.Dim.AUTO}, [VARIES] * HundredBags.FEATURES)
