"""pytorch-widedeep: its models of tables (models.tabular) and of recommendation (models.rec), and WideDeep of several.

A tabular model reads one float matrix, ids and continuous values side by side, as the library's TabPreprocessor writes it.
"""

import functools
import importlib
import importlib.machinery
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recsplit.zoo.layers import Examples
from recsplit_perf.benchmarks.library_models.seeds import WEIGHTS, Factory, Sample, Scores, weighted

LEFT_OUT = {
    **dict.fromkeys(("BasicRNN", "AttentiveRNN", "StackedAttentiveRNN"), "models of text: their rows are words, not a recommender's"),
    "HFModel": "a language model, downloaded by name",
    "Vision": "reads images, no ids",
    **dict.fromkeys(("TabMlpDecoder", "TabResnetDecoder", "TabNetDecoder"), "parts of training: they read vectors, no ids"),
}

#: Rows of each column of ids, in the order of the matrix; 0 stands for what training did not see.
ROWS = {"user": 40, "item": 60, "city": 11, "category": 13}
CONTINUOUS = ("age", "price")
COLUMN_IDX = {name: place for place, name in enumerate((*ROWS, *CONTINUOUS))}
DIM, LENGTH, WIDE_ROWS, WIDE_COLUMNS = 8, 5, 80, 4

_PAIRS = [(name, rows - 1) for name, rows in ROWS.items()]  # the library adds row 0 itself
_TRIPLES = [(name, rows, DIM) for name, rows in _PAIRS]
_CONTINUOUS = {"continuous_cols": list(CONTINUOUS), "cont_norm_layer": "batchnorm"}
_CONCAT: dict[str, Any] = {"column_idx": COLUMN_IDX, "cat_embed_input": _TRIPLES, **_CONTINUOUS, "mlp_hidden_dims": [16, 8]}
_FIELDS: dict[str, Any] = {"column_idx": COLUMN_IDX, "cat_embed_input": _PAIRS, "input_dim": DIM, **_CONTINUOUS}
_BLOCKS: dict[str, Any] = {**_FIELDS, "n_heads": 2, "n_blocks": 1}
_IDS_ONLY = {"column_idx": {name: COLUMN_IDX[name] for name in ROWS}, "cat_embed_input": _PAIRS}

Make = Callable[[Any], nn.Module]


def _tabular(name: str, **settings: Any) -> Make:
    return lambda models: getattr(models.tabular, name)(**settings)


def _rec(name: str, **settings: Any) -> Make:
    return lambda models: getattr(models.rec, name)(**settings)


def _interest(models: Any) -> nn.Module:
    """Over ids only: a user, an item, a city, a history of items and one of their ratings."""
    columns = ["user", "target_item", "city", *_history("item"), *_history("rating")]
    return models.rec.DeepInterestNetwork(
        column_idx={name: place for place, name in enumerate(columns)},
        target_item_col="target_item",
        user_behavior_confiq=(_history("item"), ROWS["item"] - 1, DIM),
        action_seq_config=(_history("rating"), 5),
        cat_embed_input=[("user", ROWS["user"] - 1, DIM), ("city", ROWS["city"] - 1, DIM)],
        mlp_hidden_dims=[16, 8],
    )


def _history(name: str) -> list[str]:
    return [f"{name}_{place}" for place in range(1, LENGTH + 1)]


def _wide_deep(make: Make, *, wide: bool = True) -> Make:
    def joined(models: Any) -> nn.Module:
        part = models.tabular.Wide(input_dim=WIDE_ROWS, pred_dim=1) if wide else None
        return models.WideDeep(wide=part, deeptabular=make(models))

    return joined


def _scores(make: Make) -> Make:
    return lambda models: Scores(make(models))


_MATRIX: dict[str, Make] = {
    "TabMlp": _tabular("TabMlp", **_CONCAT),
    "TabMlp_embedded_standard": _tabular("TabMlp", **_CONCAT, embed_continuous_method="standard", cont_embed_dim=4),
    "TabMlp_embedded_piecewise": _tabular(
        "TabMlp",
        **_CONCAT,
        embed_continuous_method="piecewise",
        cont_embed_dim=4,
        quantization_setup={"age": [-2.0, 0.0, 2.0], "price": [-1.0, 0.5, 1.0, 2.0]},
    ),
    "TabMlp_embedded_periodic": _tabular(
        "TabMlp", **_CONCAT, embed_continuous_method="periodic", cont_embed_dim=4, n_frequencies=3, sigma=0.1, share_last_layer=False
    ),
    "TabResnet": _tabular("TabResnet", **_CONCAT, blocks_dims=[16, 16, 8]),
    "TabNet": _tabular("TabNet", **{key: value for key, value in _CONCAT.items() if key != "mlp_hidden_dims"}, step_dim=8, attn_dim=8),
    "TabNet_entmax": _tabular(
        "TabNet", **{key: value for key, value in _CONCAT.items() if key != "mlp_hidden_dims"}, step_dim=8, attn_dim=8, mask_type="entmax"
    ),
    "ContextAttentionMLP": _tabular("ContextAttentionMLP", **_FIELDS, n_blocks=1),
    "SelfAttentionMLP": _tabular("SelfAttentionMLP", **_BLOCKS),
    "TabTransformer": _tabular("TabTransformer", **_BLOCKS),
    "TabTransformer_shared": _tabular("TabTransformer", **_BLOCKS, shared_embed=True, frac_shared_embed=0.25),
    "SAINT": _tabular("SAINT", **_BLOCKS),
    "FTTransformer": _tabular("FTTransformer", **_BLOCKS),
    "TabFastFormer": _tabular("TabFastFormer", **_BLOCKS),
    "TabPerceiver": _tabular(
        "TabPerceiver",
        **_FIELDS,
        n_cross_attn_heads=2,
        n_latents=3,
        latent_dim=8,
        n_latent_heads=2,
        n_latent_blocks=1,
        n_perceiver_blocks=1,
    ),
    "DeepCrossNetwork": _rec("DeepCrossNetwork", **_CONCAT),
    "DeepCrossNetworkV2": _rec("DeepCrossNetworkV2", **_CONCAT),
    "DeepCrossNetworkV2_low_rank": _rec("DeepCrossNetworkV2", **_CONCAT, low_rank=4, structure="stacked"),
    "GatedDeepCrossNetwork": _rec("GatedDeepCrossNetwork", **_CONCAT),
    "AutoInt": _rec("AutoInt", **_FIELDS, num_heads=2, embed_continuous_method="standard"),
    "AutoIntPlus": _rec("AutoIntPlus", **_FIELDS, num_heads=2, embed_continuous_method="standard", mlp_hidden_dims=[16, 8]),
    "DeepFactorizationMachine": _rec(
        "DeepFactorizationMachine",
        **{key: value for key, value in _FIELDS.items() if key != "input_dim"},
        num_factors=DIM,
        mlp_hidden_dims=[16, 8],
    ),
    "DeepFieldAwareFactorizationMachine": _rec("DeepFieldAwareFactorizationMachine", **_IDS_ONLY, num_factors=DIM, mlp_hidden_dims=[16, 8]),
    "ExtremeDeepFactorizationMachine": _rec("ExtremeDeepFactorizationMachine", **_FIELDS, cin_layer_dims=[6, 4], mlp_hidden_dims=[16, 8]),
}
_JOINED = ("TabMlp", "TabResnet", "TabTransformer", "FTTransformer", "SAINT", "ExtremeDeepFactorizationMachine")


def _matrix(examples: Examples, batch: int) -> Tensor:
    """FP32 [batch, ids and continuous values], the ids of every column over all its rows."""
    ids = [examples.ids(rows, batch).to(torch.float32) for rows in ROWS.values()]
    return torch.stack([*ids, *(examples.dense(batch) for _ in CONTINUOUS)], dim=1)


def _ids_matrix(examples: Examples, batch: int) -> Tensor:
    columns = [examples.ids(ROWS["user"], batch), examples.ids(ROWS["item"], batch), examples.ids(ROWS["city"], batch)]
    filled = torch.arange(LENGTH) < examples.lengths(batch, LENGTH)[:, None]
    items, ratings = examples.ids(ROWS["item"] - 1, batch, LENGTH) + 1, examples.ids(5, batch, LENGTH) + 1
    return torch.cat([torch.stack(columns, dim=1), torch.where(filled, items, 0), torch.where(filled, ratings, 0)], dim=1)


def _wide(examples: Examples, batch: int) -> Tensor:
    return examples.ids(WIDE_ROWS + 1, batch, WIDE_COLUMNS)


def _both(examples: Examples, batch: int) -> dict[str, Tensor]:
    return {"wide": _wide(examples, batch), "deeptabular": _matrix(examples, batch)}


def _factory(make: Make, draw: Callable[[Examples, int], Any]) -> Factory:
    def factory(batch: int, seed: int) -> Sample:
        torch.manual_seed(WEIGHTS)
        return weighted(make(_library())), (draw(Examples(seed), batch),)

    return factory


_TORCHVISION = ("transforms", "transforms.functional", "transforms.v2", "models", "models._api")


@functools.cache
def _library() -> Any:
    """pytorch_widedeep.models, with its packages.

    torchvision's wheel on PyPI is built for CUDA and does not import beside a torch for CPUs, and the library imports it for Vision only:
    what stands for it here is empty.
    """
    sys.modules["torchvision"] = None  # type: ignore[assignment]  # how Python says that there is none: transformers then does without
    getattr(importlib.import_module("transformers"), "BertModel")  # noqa: B009  its lazy import
    for name in ("torchvision", *(f"torchvision.{part}" for part in _TORCHVISION)):
        sys.modules[name] = _Nothing(name)
    models = importlib.import_module("pytorch_widedeep.models")
    importlib.import_module("pytorch_widedeep.models.rec")
    return models


class _Nothing(types.ModuleType):
    """A package in which every name is an empty class."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []
        self.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


MODELS: dict[str, Factory] = {
    "Wide": _factory(lambda models: models.tabular.Wide(input_dim=WIDE_ROWS, pred_dim=1), _wide),
    **{name: _factory(_scores(make) if name.startswith("TabNet") else make, _matrix) for name, make in _MATRIX.items()},
    "DeepInterestNetwork": _factory(_interest, _ids_matrix),
    "Transformer": _factory(
        lambda models: models.rec.Transformer(vocab_size=ROWS["item"], seq_length=LENGTH, input_dim=DIM, n_heads=2, n_blocks=1),
        lambda examples, batch: examples.padded(ROWS["item"], batch, LENGTH),
    ),
    **{f"WideDeep_{name}": _factory(_wide_deep(_MATRIX[name]), _both) for name in _JOINED},
    "WideDeep_DeepInterestNetwork": _factory(
        _wide_deep(_interest, wide=False), lambda examples, batch: {"deeptabular": _ids_matrix(examples, batch)}
    ),
}
