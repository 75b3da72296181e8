"""Models whose tables tests store in fewer bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import recsplit
from recsplit.building.build import Built
from recsplit.zoo import tiny
from tests.graph.small import Array, table

#: Pooled in every way, and read as they are; dims that fill no vector, and one that is odd.
ARRAYS: dict[str, Array] = {"a": table(50, 7), "b": table(60, 16, seed=1), "c": table(70, 33, seed=2), "one": np.array([1])}
TEXT = (
    "(int64[N,3] i, int64[N,4] j, int64[N,2] k) => (float[N,7] x, float[N,16] y, float[N,16] z, float[N,2,33] v) {"
    " r=Gather(a,i) x=ReduceSum<keepdims=0>(r,one) s=Gather(b,j) y=ReduceMean<axes=[1],keepdims=0>(s)"
    " t=Gather(b,j) z=ReduceMax<axes=[1],keepdims=0>(t) u=Gather(c,k) v=Neg(u) }"
)


def dlrm(out: Path, **settings: Any) -> Built:
    return recsplit.build(tiny.dlrm, out=out, name="shop", search_s=0.2, **settings)


class Parts(torch.nn.Module):
    """Whatever a function makes of an embedding and ids [batch, 4]."""

    def __init__(self, make: Callable[[Any, torch.Tensor], torch.Tensor], rows: int = 50) -> None:
        super().__init__()
        self.emb, self.other, self.make = torch.nn.Embedding(rows, 8), torch.nn.Embedding(rows, 8), make
        self.other.load_state_dict(self.emb.state_dict())
        self.w = torch.nn.Parameter(torch.randn(rows, 8, generator=torch.Generator().manual_seed(1)))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.make(self, ids)


def parts_of(make: Callable[[Any, torch.Tensor], torch.Tensor], out: Path, **settings: Any) -> Built:
    torch.manual_seed(0)
    return recsplit.build(Parts(make).eval(), (torch.arange(12).reshape(3, 4),), out=out, name="parts", search_s=0.2, **settings)
