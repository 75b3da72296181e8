"""A small data set in RecBole's atomic files, drawn from a seed, and what its interactions are made of."""

import functools
import importlib
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsplit.zoo.layers import Examples

NAME = "drawn"
USERS, ITEMS, CLASSES, GENRES, CLICKS, LENGTH, ENTITIES, RELATIONS = 30, 50, 7, 9, 12, 6, 70, 4
EMBEDDING = 64
SETTINGS: dict[str, Any] = {
    "load_col": {
        "inter": ["user_id", "item_id", "rating", "timestamp"],
        "user": ["user_id", "age", "gender"],
        "item": ["item_id", "class", "genre", "price"],
    },
    "MAX_ITEM_LIST_LENGTH": LENGTH,
    "threshold": {"rating": 3},
    "numerical_features": ["price"],
    "normalize_all": False,
    "use_gpu": False,
    "state": "ERROR",
    "show_progress": False,
    "train_neg_sample_args": None,
    "train_batch_size": 64,
    "eval_args": {"split": {"RS": [8, 1, 1]}, "order": "TO", "group_by": "user", "mode": "full"},
    "metrics": ["Recall"],
    "valid_metric": "Recall@10",
}
KNOWLEDGE = {
    "load_col": {**SETTINGS["load_col"], "kg": ["head_id", "relation_id", "tail_id"], "link": ["item_id", "entity_id"]},
}
PRELOADED = {
    **KNOWLEDGE,
    "additional_feat_suffix": ["ent"],
    "load_col": {**KNOWLEDGE["load_col"], "ent": ["ent_id", "ent_emb"]},
    "preload_weight": {"ent_id": "ent_emb"},
    "alias_of_entity_id": ["ent_id"],
}


@dataclass(frozen=True)
class Field:
    """A field of an interaction: its shape without the batch, and the rows of its table, None for a float."""

    shape: tuple[int, ...]
    rows: int | None


@functools.cache
def folder() -> Path:
    """A temporary folder with the data set, one for each process."""
    root = Path(tempfile.mkdtemp(prefix="recsplit-recbole-"))
    path = root / NAME
    path.mkdir()
    draw = np.random.default_rng(5)

    def write(suffix: str, head: str, rows: list[str]) -> None:
        (path / f"{NAME}.{suffix}").write_text("\n".join([head, *rows]) + "\n")

    clicks = [
        f"u{user}\ti{item}\t{draw.integers(1, 6)}\t{1000 * user + at}"
        for user in range(USERS)
        for at, item in enumerate(draw.choice(ITEMS, CLICKS, replace=False))
    ]
    write("inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float", clicks)
    users = [f"u{user}\t{draw.integers(18, 70)}\t{'fm'[user % 2]}" for user in range(USERS)]
    write("user", "user_id:token\tage:token\tgender:token", users)
    classes = [" ".join(f"c{name}" for name in draw.choice(CLASSES, draw.integers(1, 4), replace=False)) for _ in range(ITEMS)]
    items = [f"i{item}\t{classes[item]}\tg{item % GENRES}\t{draw.random():.3f}" for item in range(ITEMS)]
    write("item", "item_id:token\tclass:token_seq\tgenre:token\tprice:float", items)
    triples = {(draw.integers(ENTITIES), draw.integers(RELATIONS), draw.integers(ENTITIES)) for _ in range(400)}
    write("kg", "head_id:token\trelation_id:token\ttail_id:token", [f"e{head}\tr{how}\te{tail}" for head, how, tail in sorted(triples)])
    write("link", "item_id:token\tentity_id:token", [f"i{item}\te{item}" for item in range(ITEMS)])
    vectors = [f"e{entity}\t{' '.join(f'{value:.3f}' for value in draw.normal(size=EMBEDDING))}" for entity in range(ENTITIES)]
    write("ent", "ent_id:token\tent_emb:float_seq", vectors)
    return root


def prepared(model: str, settings: dict[str, Any]) -> tuple[Any, Any]:
    """The Config of a model by its name, with these settings over ours, and RecBole's loader of its training data."""
    # RecBole's graph models fill scipy's dok_matrix by a method that scipy 1.13 dropped.
    sparse = importlib.import_module("scipy.sparse")
    sparse.dok_matrix._update = lambda matrix, values: matrix._dict.update(values)
    config = importlib.import_module("recbole.config").Config(
        model=model, dataset=NAME, config_dict={"data_path": str(folder()), **SETTINGS, **settings}
    )
    logging.getLogger().setLevel(logging.ERROR)
    data = importlib.import_module("recbole.data")
    train, _, _ = data.data_preparation(config, data.create_dataset(config))
    return config, train


def fields(dataset: Any) -> dict[str, Field]:
    """What an interaction of this data set may hold."""
    rows = dataset.join(dataset.inter_feat)
    known = {
        name: Field(tuple(rows[name].shape[1:]), None if rows[name].is_floating_point() else _rows(dataset, name)) for name in rows.columns
    }
    if "item_id_list" in known:  # what SHAN's own transform of a batch adds
        known["Inverse_item_id_list"] = known["item_id_list"]
    return known


def _rows(dataset: Any, name: str) -> int:
    return LENGTH + 1 if name == "item_length" else int(dataset.num(name.removeprefix("neg_").removesuffix("_list")))


def drawn(fields: dict[str, Field], batch: int, seed: int) -> dict[str, Tensor]:
    """A value for every field: sequences of 1 to LENGTH ids and zeros after them, as RecBole pads them."""
    examples = Examples(seed)
    lengths = examples.lengths(batch, LENGTH).clamp(min=1)
    values = dict[str, Tensor]()
    for name, field in fields.items():
        if name == "item_length":
            values[name] = lengths
        elif field.rows is None:
            values[name] = examples.dense(batch, *field.shape)
            if field.shape[-1:] == (2,):  # a numerical feature: its value, and the row of its table of two
                values[name][..., 1] = examples.ids(2, batch, *field.shape[:-1])
        elif field.shape:
            filled = lengths if name.endswith("_list") else examples.lengths(batch, field.shape[0]).clamp(min=1)
            ids = examples.ids(field.rows - 1, batch, *field.shape) + 1
            present = (torch.arange(field.shape[0]) < filled[:, None]).view(batch, field.shape[0], *(1 for _ in field.shape[1:]))
            values[name] = torch.where(present, ids, 0)
        else:
            first = int(name == "user_id")  # user 0 is padding, and RippleNet and NAIS have no answer for it
            values[name] = examples.ids(field.rows - first, batch) + first
    return values
