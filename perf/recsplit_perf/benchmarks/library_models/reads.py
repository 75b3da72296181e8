"""Which tables a module reads by ids of its inputs, seen while it runs: no graph and nothing of recsplit."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

#: Operators that read rows, and the place of the ids among their arguments.
_IDS = {"embedding": 1, "_embedding_bag": 1, "_embedding_bag_forward_only": 1, "index_select": 2, "index": 1}


class _Reads(TorchDispatchMode):
    """The reads of tensors that were there before the run, by their storage, with the ids of each."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[int, list[Tensor]]] = []
        self._made = set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        place = _IDS.get(func.overloadpacket.__name__)
        if place is not None and _storage(args[0]) not in self._made:
            ids = [leaf.clone() for leaf in _pytree.tree_leaves(args[place]) if isinstance(leaf, Tensor)]
            self.reads.append((_storage(args[0]), ids))
        results = func(*args, **(kwargs or {}))
        read = {_storage(leaf) for leaf in _pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        # A view shares its storage with what it views, which may have been there before.
        self._made |= {_storage(leaf) for leaf in _pytree.tree_leaves(results) if isinstance(leaf, Tensor)} - (read - self._made)
        return results


def tables_read(module: torch.nn.Module, inputs: tuple[Any, ...], others: tuple[Any, ...]) -> int:
    """How many of its tensors a module reads by ids that differ between two inputs: positions are the same in both."""
    first, second = _reads(module, inputs), _reads(module, others)
    tables = set[int]()
    for (storage, ids), (_, other_ids) in zip(first, second, strict=False):
        same = len(ids) == len(other_ids) and all(torch.equal(a, b) for a, b in zip(ids, other_ids, strict=True))
        if not same:
            tables.add(storage)
    return len(tables)


def _reads(module: torch.nn.Module, inputs: tuple[Any, ...]) -> list[tuple[int, list[Tensor]]]:
    own = {_storage(leaf) for leaf in _pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)}
    with torch.no_grad(), _Reads() as seen:
        module(*inputs)
    return [(storage, ids) for storage, ids in seen.reads if storage not in own]


def _storage(tensor: Any) -> int:
    """Where the numbers of a tensor lie; 0 for one that has no storage, such as a sparse one."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0
