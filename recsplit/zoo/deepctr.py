"""deepctr-torch's own models over one feature set: sparse, dense, and bags of variable length with a mask or a length.

deepctr-torch takes every feature in one FP32 matrix and casts the ids inside. `clicks` pools over the ids that are not 0,
`tags` over the first `tags_length` ids. DIN has a history instead, which its attention reads unpooled.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from deepctr_torch import models
from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat, build_input_features

from recsplit.zoo.layers import Examples, Model, seeded

DIM, LENGTH = 8, 5
USERS, ITEMS, TAGS = 300, 200, 40


def _columns() -> list[Any]:
    """Three sparse features, two bags, and dense features of widths 1 and 3.

    No table is shared: xDeepFM, AutoInt and FiBiNET take the number of tables for the number of features.
    """
    return [
        SparseFeat("user", USERS, embedding_dim=DIM),
        SparseFeat("item", ITEMS, embedding_dim=DIM),
        SparseFeat("hour", 24, embedding_dim=DIM),
        VarLenSparseFeat(SparseFeat("clicks", ITEMS, embedding_dim=DIM), LENGTH, combiner="mean"),
        VarLenSparseFeat(SparseFeat("tags", TAGS, embedding_dim=DIM), LENGTH, combiner="sum", length_name="tags_length"),
        DenseFeat("age", 1),
        DenseFeat("context", 3),
    ]


def _din_columns() -> list[Any]:
    history = SparseFeat("hist_item", ITEMS, embedding_dim=DIM, embedding_name="item")
    return [
        SparseFeat("user", USERS, embedding_dim=DIM),
        SparseFeat("item", ITEMS, embedding_dim=DIM),
        VarLenSparseFeat(history, LENGTH, length_name="hist_length"),
        DenseFeat("age", 1),
    ]


def _inputs(columns: list[Any], batch: int, seed: int) -> torch.Tensor:
    """FP32 [batch, width] in the order in which deepctr-torch reads it."""
    examples = Examples(seed)
    parts: dict[str, torch.Tensor] = {}
    for column in columns:
        if isinstance(column, SparseFeat):
            parts[column.name] = examples.ids(column.vocabulary_size, batch, 1)
        elif isinstance(column, DenseFeat):
            parts[column.name] = examples.dense(batch, column.dimension)
        elif column.length_name is None:
            parts[column.name] = examples.padded(column.vocabulary_size, batch, column.maxlen)
        else:
            parts[column.name] = examples.ids(column.vocabulary_size, batch, column.maxlen)
            parts[column.length_name] = examples.lengths(batch, column.maxlen)[:, None]
    return torch.cat([parts[name].float() for name in build_input_features(columns)], dim=1)


def _two_sided(model: Any, *, batch: int = 4, seed: int = 0, **settings: Any) -> Model:
    """A model with a linear side (tables of width 1) and a deep side."""
    columns = _columns()
    return seeded(model(columns, columns, **settings)), (_inputs(columns, batch, seed),)


def pnn(*, batch: int = 4, seed: int = 0) -> Model:
    """PNN has a deep side only; inner and outer products."""
    columns = _columns()
    return seeded(models.PNN(columns, use_inner=True, use_outter=True)), (_inputs(columns, batch, seed),)


def din(*, batch: int = 4, seed: int = 0) -> Model:
    """DIN over one history, which shares the items' table."""
    columns = _din_columns()
    return seeded(models.DIN(columns, ["item"])), (_inputs(columns, batch, seed),)


Factory = Callable[..., Model]

wdl: Factory = partial(_two_sided, models.WDL)
deepfm: Factory = partial(_two_sided, models.DeepFM)
xdeepfm: Factory = partial(_two_sided, models.xDeepFM)
dcn: Factory = partial(_two_sided, models.DCN)
dcnmix: Factory = partial(_two_sided, models.DCNMix)
autoint: Factory = partial(_two_sided, models.AutoInt)
fibinet: Factory = partial(_two_sided, models.FiBiNET)
nfm: Factory = partial(_two_sided, models.NFM)
