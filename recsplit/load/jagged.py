"""TorchRec: KeyedJaggedTensor inputs, and each EmbeddingBagCollection as one recsplit::JaggedBags node.

torchrec is never imported here: if the user's module needs it, it is in sys.modules already.
"""

import contextlib
import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from recsplit.errors import InputError


def _torchrec(module: str, name: str) -> Any:
    """A class of torchrec, or None where torchrec isn't in use."""
    return getattr(sys.modules.get(f"torchrec.{module}"), name, None)


def parts_of(leaf: Any) -> list[tuple[str, torch.Tensor]] | None:
    """The tensors of a KeyedJaggedTensor with the endings of their names; None for anything else."""
    kind = _torchrec("sparse.jagged_tensor", "KeyedJaggedTensor")
    if kind is None or not isinstance(leaf, kind):
        return None
    parts = [("values", leaf.values()), ("lengths", leaf.lengths())]
    weights = leaf.weights_or_none()
    return parts if weights is None else [*parts, ("weights", weights)]


class JaggedSlot:
    """Stands in the tree of arguments where a KeyedJaggedTensor of the flat inputs `at` goes."""

    def __init__(self, example: Any, at: Sequence[int]) -> None:
        self._kind, self._keys, self._at = type(example), list(example.keys()), list(at)
        if example.variable_stride_per_key():
            raise InputError("a KeyedJaggedTensor with a stride per key can't be served", hint="give every key the same batch size")

    def fill(self, tensors: Sequence[torch.Tensor]) -> Any:
        """A KeyedJaggedTensor of the same keys."""
        values, lengths, *weights = (tensors[index] for index in self._at)
        return self._kind(keys=self._keys, values=values, lengths=lengths, weights=weights[0] if weights else None)


@contextlib.contextmanager
def collections_as_nodes(module: torch.nn.Module) -> Iterator[None]:
    """While this lasts, each EmbeddingBagCollection in `module` traces as one node.

    Raises InputError on TorchRec modules that have no such form: unpooled, quantized and sharded collections.
    """
    kind = _torchrec("modules.embedding_modules", "EmbeddingBagCollection")
    patched: list[torch.nn.Module] = []
    if kind is not None:
        for name, submodule in module.named_modules():
            if type(submodule) is kind:
                patched.append(submodule)
            elif type(submodule).__module__.startswith("torchrec.") and type(submodule).__name__.endswith("Collection"):
                raise InputError(
                    f"{name or 'the module'} is a {type(submodule).__module__}.{type(submodule).__name__}, which recsplit does not split",
                    hint="use torchrec.EmbeddingBagCollection, unsharded and unquantized, or nn.Embedding",
                )
    for submodule in patched:
        submodule.forward = functools.partial(_trace, submodule)
    try:
        yield
    finally:
        for submodule in patched:
            del submodule.forward


def _trace(collection: Any, features: Any) -> Any:
    """EmbeddingBagCollection.forward as one symbolic node, with the keys and order of the original's KeyedTensor."""
    configs = collection.embedding_bag_configs()
    weights = [collection.embedding_bags[config.name].weight for config in configs]
    home = [(feature, n) for n, config in enumerate(configs) for feature in config.feature_names]
    keys = list(features.keys())
    table = dict(home)
    if len(table) != len(home) or sorted(keys) != sorted(table):
        raise InputError(
            f"the KeyedJaggedTensor has the keys {keys}, and its EmbeddingBagCollection reads {[feature for feature, _ in home]}",
            hint="give each collection a KeyedJaggedTensor with exactly its features, each read from one table",
        )
    if len({weight.dtype for weight in weights}) > 1:
        raise InputError("an EmbeddingBagCollection has tables of different dtypes", hint="give all its tables one data_type")
    poolings = [config.pooling.name.lower() for config in configs]
    dims = [configs[table[key]].embedding_dim for key in keys]
    pooled = torch.onnx.ops.symbolic(
        "recsplit::JaggedBags",
        (features.values(), features.lengths(), features.weights() if collection.is_weighted() else None, *weights),
        {"features": keys, "feature_table": [table[key] for key in keys], "pooling": [poolings[table[key]] for key in keys]},
        dtype=weights[0].dtype,
        shape=[features.stride(), sum(dims)],
        version=1,
    ).float()
    order = [keys.index(feature) for feature, _ in home]
    if order != sorted(order):
        pieces = torch.split(pooled, dims, dim=1)
        pooled = torch.cat([pieces[n] for n in order], dim=1)
    return _torchrec("sparse.jagged_tensor", "KeyedTensor")(
        keys=[feature for feature, _ in home], values=pooled, length_per_key=[configs[n].embedding_dim for _, n in home]
    )
