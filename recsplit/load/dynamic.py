"""torch.export's dynamic_shapes: the user's, if any, and a dynamic batch for every tensor."""

from collections.abc import Mapping
from typing import Any

import torch

from recsplit.errors import InputError
from recsplit.load.inputs import children
from recsplit.load.jagged import parts_of

AUTO = torch.export.Dim.AUTO


def dimensions(arguments: Mapping[str, Any], given: Any) -> list[dict[int, Any]]:
    """One {dimension: Dim} for every tensor among `arguments` (by parameter name), in order.

    `given` has the form that torch.export takes: by parameter name, or in the parameters' order, each entry nested
    as its argument is. Where it says nothing, dimension 0 varies and all others are fixed.
    """
    found: list[dict[int, Any]] = []
    if given is not None and not isinstance(given, Mapping) and len(given) != len(arguments):
        raise InputError(
            f"the factory's dynamic_shapes has {len(given)} entries, and forward takes {len(arguments)} arguments",
            hint="one entry per argument of forward, as for torch.export.export; None where only the batch varies",
        )
    _walk(dict(arguments), given, "dynamic_shapes", found)
    return found


def _walk(tree: Any, given: Any, where: str, found: list[dict[int, Any]]) -> None:
    """Collect the entries of all tensors in `tree`, depth first."""
    if isinstance(tree, torch.Tensor):
        found.append(_entry(given, where))
        return
    parts = parts_of(tree)
    below = children(tree) if parts is None else [(n, tensor) for n, (_, tensor) in enumerate(parts)]
    for n, (key, value) in enumerate(below or []):
        if given is None:
            entry = None
        elif isinstance(given, Mapping):
            entry = given.get(key)
        elif isinstance(given, list | tuple) and len(given) == len(below or []):
            entry = given[n]
        else:
            raise InputError(f"the factory's {where} does not match its argument", hint="nest it as the example inputs are")
        _walk(value, entry, f"{where}[{key!r}]", found)


def _entry(given: Any, where: str) -> dict[int, Any]:
    if given is None:
        return {0: AUTO}
    if isinstance(given, list | tuple):
        given = dict(enumerate(given))
    if not isinstance(given, Mapping) or not all(isinstance(key, int) for key in given):
        raise InputError(f"the factory's {where} is {given!r}", hint="for a tensor it is {dimension: torch.export.Dim}, a tuple or None")
    rest = {dim: size for dim, size in given.items() if size is not None}
    return {0: AUTO, **rest}
