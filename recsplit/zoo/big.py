"""A DLRM with tables of 1 GB each on the meta device, to see that building never holds a table in memory.

`python -m recsplit_perf.benchmarks.big_model` writes its weights as safetensors, and the same model as .onnx.
"""

import torch

from recsplit.zoo.dlrm import DLRM
from recsplit.zoo.layers import Examples, Model, seeded

DIM = 64
ROWS = 1_000_000_000 // (4 * DIM)
BAG = 5
DENSE = 13


def module(tables: int, rows: int = ROWS) -> DLRM:
    """The module with tables of this many rows, on whatever device is the default."""
    return DLRM(tables, rows, DIM, BAG, DENSE, "sum", bottom=(256,), top=(256,))


def small(tables: int) -> DLRM:
    """The same module with 16 rows a table: its other weights are the big one's, and so is its graph."""
    small_model = seeded(module(tables, 16))
    assert isinstance(small_model, DLRM)
    return small_model


def inputs(tables: int, rows: int, batch: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """FP32 dense [batch, 13] and INT64 ids [batch, tables * 5]."""
    examples = Examples(seed)
    return examples.dense(batch, DENSE), examples.ids(rows, batch, tables * BAG)


def dlrm(*, tables: int = 10, rows: int = ROWS, batch: int = 4, seed: int = 0) -> Model:
    """`tables` GB of tables; the weights come with --weights."""
    with torch.device("meta"):
        big_model = module(tables, rows).eval()
    return big_model, inputs(tables, rows, batch, seed)
