"""torch.export's dynamic_shapes: the user's, if any, and a dynamic batch for every tensor."""

from collections.abc import Mapping
from typing import Any

import torch

from recsplit.errors import InputError
from recsplit.load.inputs import children
from recsplit.load.jagged import parts_of

AUTO = torch.export.Dim.AUTO


def dimensions(arguments: Mapping[str, Any], dynamic_shapes: Any) -> list[dict[int, Any]]:
    """One {dimension: Dim} for every tensor among `arguments` (by parameter name), in order.

    `dynamic_shapes` has the form that torch.export takes: by parameter name, or in the parameters' order, each entry nested
    as its argument is. Where it has no entry, dimension 0 varies and all others are fixed. An entry that leaves dimension 0 out
    stays so: the batch may be another dimension.
    """
    tensor_dims: list[dict[int, Any]] = []
    if dynamic_shapes is not None and not isinstance(dynamic_shapes, Mapping) and len(dynamic_shapes) != len(arguments):
        raise InputError(
            f"the factory's dynamic_shapes has {len(dynamic_shapes)} entries, and forward takes {len(arguments)} arguments",
            hint="one entry per argument of forward, as for torch.export.export; None where only the batch varies",
        )
    _walk(dict(arguments), dynamic_shapes, "dynamic_shapes", tensor_dims)
    return tensor_dims


def _walk(tree: Any, dynamic_shapes: Any, where: str, tensor_dims: list[dict[int, Any]]) -> None:
    """Collect the entries of all tensors in `tree`, depth first."""
    if isinstance(tree, torch.Tensor):
        tensor_dims.append(_entry(dynamic_shapes, where))
        return
    parts = parts_of(tree)
    below = children(tree) if parts is None else [(n, tensor) for n, (_, tensor) in enumerate(parts)]
    for n, (key, value) in enumerate(below or []):
        if dynamic_shapes is None:
            entry = None
        elif isinstance(dynamic_shapes, Mapping):
            entry = dynamic_shapes.get(key)
        elif isinstance(dynamic_shapes, list | tuple) and len(dynamic_shapes) == len(below or []):
            entry = dynamic_shapes[n]
        else:
            raise InputError(f"the factory's {where} does not match its argument", hint="nest it as the example inputs are")
        _walk(value, entry, f"{where}[{key!r}]", tensor_dims)


def _entry(dynamic_shape: Any, where: str) -> dict[int, Any]:
    if dynamic_shape is None:
        return {0: AUTO}
    if isinstance(dynamic_shape, list | tuple):
        dynamic_shape = dict(enumerate(dynamic_shape))
    if not isinstance(dynamic_shape, Mapping) or not all(isinstance(key, int) for key in dynamic_shape):
        raise InputError(
            f"the factory's {where} is {dynamic_shape!r}", hint="for a tensor it is {dimension: torch.export.Dim}, a tuple or None"
        )
    rest = {dim: size for dim, size in dynamic_shape.items() if size is not None}
    return rest or {0: AUTO}
