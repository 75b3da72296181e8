"""torch-rechub: its models of ranking, matching and multi_task, and the generative ones that take ids."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recsplit.zoo.layers import Examples
from recsplit_perf.benchmarks.library_models.seeds import WEIGHTS, Factory, Sample, Scores, weighted

LEFT_OUT = {
    "RQVAEModel": "takes vectors, no ids: its codebooks are searched by distance",
    "TIGERModel": "a T5 of the package transformers, which torch-rechub does not install",
}

DIM, LENGTH = 8, 6
ROWS = {"user": 40, "city": 11, "item": 60, "category": 13}
TOWER = {"dims": [16, DIM], "activation": "relu"}
MLP = {"dims": [16, 8], "dropout": 0.1}
#: What a model takes: its inputs by name.
Inputs = dict[str, Tensor]
#: From the classes of torch_rechub.basic.features and the model's own class to the model.
Make = Callable[[Any, Any], nn.Module]


def _sparse(features: Any, *names: str, dim: int = DIM, padding: int | None = None) -> list[Any]:
    return [features.SparseFeature(name, vocab_size=ROWS[name], embed_dim=dim, padding_idx=padding) for name in names]


def _history(features: Any, of: str, name: str = "history", *, pooling: str = "concat", padding: int | None = 0) -> Any:
    return features.SequenceFeature(name, vocab_size=ROWS[of], embed_dim=DIM, pooling=pooling, shared_with=of, padding_idx=padding)


def _dense(features: Any) -> list[Any]:
    return [features.DenseFeature("age"), features.DenseFeature("price")]


def _columns(features: Any) -> list[Any]:
    """What a ranking model reads: two dense values, three ids, and one pooled history."""
    return [*_dense(features), *_sparse(features, "user", "city", "item"), _history(features, "item", pooling="mean")]


def _fields(features: Any) -> list[Any]:
    return _sparse(features, "user", "city", "item", "category")


def _crossed(features: Any) -> list[Any]:
    """Fields of a field-aware model: one row a pair of an id and a field."""
    return [features.SparseFeature(name, vocab_size=ROWS[name] * 3, embed_dim=DIM) for name in ("user", "city", "item")]


def _towers(features: Any, kind: Any, **settings: Any) -> nn.Module:
    """A model of a user with a history, an item and negative items."""
    history, negatives = _history(features, "item"), _history(features, "item", "negatives", padding=None)
    return kind(_sparse(features, "user", "city"), [history], _sparse(features, "item"), [negatives], **settings)


def _two_towers(features: Any, kind: Any) -> nn.Module:
    user = [*_sparse(features, "user", "city"), _history(features, "item", pooling="mean")]
    return kind(user, _sparse(features, "item", "category"), TOWER, TOWER, temperature=0.5)


def _one_history(features: Any, kind: Any) -> nn.Module:
    user = [*_sparse(features, "user"), _history(features, "item", pooling="mean")]
    return kind(user, _sparse(features, "item"), [_history(features, "item", "negatives", padding=None)], TOWER)


def _attended(features: Any, kind: Any, **settings: Any) -> nn.Module:
    """A model that weighs a history by its likeness to the item."""
    histories = [_history(features, "item"), _history(features, "category", "categories")]
    return kind(_sparse(features, "user", "city"), histories, target_features=_sparse(features, "item", "category", padding=0), **settings)


def _evolving(features: Any, kind: Any) -> nn.Module:
    negatives = [_history(features, "item", "negatives"), _history(features, "category", "negative_categories")]
    return _attended(features, kind, neg_history_features=negatives, mlp_params=MLP)


def _session(features: Any) -> Any:
    return features.SequenceFeature("history", vocab_size=ROWS["item"], embed_dim=DIM, pooling="concat", padding_idx=0)


def _next_items(features: Any, kind: Any) -> nn.Module:
    names = [features.SequenceFeature(name, ROWS["item"], DIM, pooling="concat", shared_with=of) for name, of in SEQUENCES]
    return kind(names, max_len=LENGTH, num_heads=2)


SEQUENCES = (("seq", None), ("positives", "seq"), ("negatives", "seq"))
TASKS = ["classification", "regression"]
HISTORY = ("user", "city", "item", "history", "negatives")

_RANKING: dict[str, Make] = {
    "WideDeep": lambda f, kind: kind(_sparse(f, "user", "city"), _columns(f), MLP),
    "DeepFM": lambda f, kind: kind(_columns(f), _sparse(f, "user", "city", "item"), MLP),
    "DCN": lambda f, kind: kind(_columns(f), 2, MLP),
    "DCNv2": lambda f, kind: kind(_columns(f), 2, MLP),
    "EDCN": lambda f, kind: kind(_columns(f), 2, {}),
    "AFM": lambda f, kind: kind(_fields(f), DIM, 4),
    "FiBiNet": lambda f, kind: kind(_fields(f), MLP),
    "DeepFFM": lambda f, kind: kind(_sparse(f, "user", "city", "item", dim=1), _crossed(f), DIM, MLP),
    "FatDeepFFM": lambda f, kind: kind(_sparse(f, "user", "city", "item", dim=1), _crossed(f), DIM, 1, MLP),
    "AutoInt": lambda f, kind: kind(_fields(f), _dense(f), mlp_params=MLP),
    "BST": lambda f, kind: _attended(f, kind, mlp_params=MLP, nhead=2, max_seq_len=LENGTH + 1),
    "DIN": lambda f, kind: _attended(f, kind, mlp_params=MLP, attention_mlp_params={"dims": [8]}),
    "DIEN": _evolving,
}
_MATCHING: dict[str, Make] = {
    "DSSM": _two_towers,
    "DSSM_SENet": _two_towers,
    "FaceBookDSSM": lambda f, kind: kind(_sparse(f, "user", "city"), _sparse(f, "item"), [_renamed(f, "negative", "item")], TOWER, TOWER),
    "YoutubeDNN": _one_history,
    "YoutubeSBC": lambda f, kind: kind(
        _sparse(f, "user", "city"), _sparse(f, "item"), [f.DenseFeature("sample_weight")], TOWER, TOWER, batch_size=5, n_neg=1
    ),
    "MIND": lambda f, kind: _towers(f, kind, max_length=LENGTH),
    "MIND_dynamic": lambda f, kind: _towers(f, kind, max_length=LENGTH, dynamic_interest=True),
    "ComirecSA": _towers,
    "ComirecDR": lambda f, kind: _towers(f, kind, max_length=LENGTH),
    "GRU4Rec": lambda f, kind: _towers(f, kind, user_params=TOWER),
    "SASRec": _next_items,
    "SINE": lambda _, kind: kind(["history"], ["item"], ["negatives"], ROWS["item"], DIM, 8, 5, 2, LENGTH),
    "STAMP": lambda f, kind: kind(_session(f), 0.05, 0.05),
    "NARM": lambda f, kind: kind(_session(f), 8, 0.1, 0.1),
}
_MULTI_TASK: dict[str, Make] = {
    "SharedBottom": lambda f, kind: kind(_columns(f), TASKS, MLP, [MLP, MLP]),
    "ESMM": lambda f, kind: kind(_sparse(f, "user", "city"), _sparse(f, "item", "category"), MLP, MLP),
    "MMOE": lambda f, kind: kind(_columns(f), TASKS, 3, MLP, [MLP, MLP]),
    "PLE": lambda f, kind: kind(_columns(f), TASKS, 2, 2, 1, MLP, [MLP, MLP]),
    "AITM": lambda f, kind: kind(_columns(f), 2, MLP, [MLP, MLP]),
}
_GENERATIVE: dict[str, Make] = {
    "HSTUModel": lambda _, kind: kind(ROWS["item"], d_model=16, n_heads=2, n_layers=1, dqk=8, dv=8, max_seq_len=LENGTH),
    "HLLMModel": lambda _, kind: kind(torch.randn(ROWS["item"], 16), ROWS["item"], d_model=16, n_heads=2, n_layers=1, max_seq_len=LENGTH),
}
#: Where a class is that is named otherwise than its model here.
_CLASSES = {"DSSM_SENet": "matching.dssm_senet:DSSM", "MIND_dynamic": "matching:MIND"}
#: Models of matching that a mode makes a tower, which is what is served: the user's side, and the item's.
_WITH_TOWERS = ("DSSM", "DSSM_SENet", "YoutubeDNN", "YoutubeSBC", "MIND", "ComirecSA", "ComirecDR", "GRU4Rec", "SINE")


def _renamed(features: Any, name: str, of: str) -> Any:
    return features.SparseFeature(name, vocab_size=ROWS[of], embed_dim=DIM, shared_with=of)


def _drawn(batch: int, seed: int) -> Inputs:
    """A value for every name that a model here may read."""
    examples = Examples(seed)
    ids = {name: examples.ids(rows, batch) for name, rows in ROWS.items()}
    present = torch.arange(LENGTH) < examples.lengths(batch, LENGTH).clamp(min=1)[:, None]  # STAMP and NARM fail on an empty history

    def padded(rows: int) -> Tensor:
        return torch.where(present, examples.ids(rows - 1, batch, LENGTH) + 1, 0)

    return {
        **ids,
        "negative": examples.ids(ROWS["item"], batch),
        "history": padded(ROWS["item"]),
        "categories": padded(ROWS["category"]),
        "age": examples.dense(batch),
        "price": examples.dense(batch),
        "sample_weight": examples.dense(batch).abs() + 0.1,
        "seq": padded(ROWS["item"]),
        "positives": padded(ROWS["item"]),
        "negative_categories": padded(ROWS["category"]),
        "negatives": padded(ROWS["item"]),
    }


def _factory(package: str, name: str, make: Make, mode: str | None = None) -> Factory:
    def factory(batch: int, seed: int) -> Sample:
        torch.manual_seed(WEIGHTS)
        where, _, kind = _CLASSES.get(name, f"{package}:{name}").partition(":")
        features = importlib.import_module("torch_rechub.basic.features")
        module = weighted(make(features, getattr(importlib.import_module(f"torch_rechub.models.{where}"), kind)))
        if mode is not None:
            module.mode = mode  # type: ignore[assignment]
        inputs = _drawn(batch, seed)
        if package == "generative":
            return module, (inputs["history"],)
        return Scores(module).eval() if name == "DIEN" else module, (_read(module, inputs),)

    return factory


def _read(module: nn.Module, inputs: Mapping[str, Tensor]) -> Inputs:
    """Those of the inputs that the module reads in one call."""
    reads = _Reads(inputs)
    with torch.no_grad():
        module(reads)
    return {name: value for name, value in inputs.items() if name in reads.names}


class _Reads(dict[str, Tensor]):
    """A dict that remembers which of its items were asked for."""

    def __init__(self, inputs: Mapping[str, Tensor]) -> None:
        super().__init__(inputs)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.names.add(name)
        return super().__getitem__(name)


_PACKAGES = {"ranking": _RANKING, "matching": _MATCHING, "multi_task": _MULTI_TASK, "generative": _GENERATIVE}
MODELS: dict[str, Factory] = {
    **{name: _factory(package, name, make) for package, makes in _PACKAGES.items() for name, make in makes.items()},
    **{f"{name}_{side}": _factory("matching", name, _MATCHING[name], side) for name in _WITH_TOWERS for side in ("user", "item")},
}
