"""A torch module with nested arguments, seen as a function from flat named tensors to flat named tensors."""

import inspect
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from recsplit.errors import InputError, RecsplitError
from recsplit.load.arrays import Array
from recsplit.load.inputs import Path, leaves, readable, rebuild


class Slot:
    """Stands in the tree of arguments where flat input `index` goes. (Not a dataclass: those are containers here.)"""

    def __init__(self, index: int) -> None:
        self.index = index


class Flat(torch.nn.Module):
    """`module` as forward(*tensors) -> tuple of tensors; the examples' structure and constants are kept.

    `names` and `tensors` are the flat example inputs in order, `output_paths` the outputs' paths after a call.
    """

    def __init__(self, module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.module = module
        try:
            bound = inspect.signature(module.forward).bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(
                f"the example inputs do not fit {type(module).__name__}.forward: {error}",
                hint="the factory returns (module, example_inputs), with a tuple of arguments or a dict of keyword arguments",
            ) from error
        self._bound = bound
        self.tensors: list[torch.Tensor] = []
        paths: list[Path] = []
        variadic = {p.name for p in bound.signature.parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD}

        def take(path: Path, leaf: Any) -> Any:
            if not isinstance(leaf, torch.Tensor):
                return leaf
            paths.append(path[1:] if path[0] in variadic else path)
            self.tensors.append(leaf)
            return Slot(len(paths) - 1)

        self._tree = rebuild(dict(bound.arguments), take)
        self.names = readable(paths)
        self.output_paths: list[Path] = []

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The module's tensors, flat; None among its outputs is left out."""
        arguments = rebuild(self._tree, lambda _, leaf: tensors[leaf.index] if isinstance(leaf, Slot) else leaf)
        bound = inspect.BoundArguments(self._bound.signature, arguments)
        found = [(path, leaf) for path, leaf in leaves(self.module(*bound.args, **bound.kwargs)) if leaf is not None]
        self.output_paths = [path for path, _ in found]
        return tuple(leaf for _, leaf in found)


class Eager:
    """The source itself: numpy arrays in and out by graph names, torch eager in between."""

    def __init__(self, flat: torch.nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._flat, self._inputs, self._outputs = flat, list(inputs), list(outputs)
        self._lock = threading.Lock()

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the module; raises InputError on missing inputs, RecsplitError with torch's words where it fails."""
        missing = [name for name in self._inputs if name not in inputs]
        if missing:
            raise InputError(f"inputs {missing} are missing", hint=f"the model takes {self._inputs}")
        try:
            # A module may keep state between calls (caches, output_paths above): one call at a time.
            with self._lock, torch.no_grad():
                results = self._flat(*(torch.from_numpy(np.array(inputs[name])) for name in self._inputs))
        except Exception as error:
            raise RecsplitError(f"the source model fails: {error}", hint="are ids inside their tables, and shapes as in training?") from error
        return {name: result.numpy() for name, result in zip(self._outputs, results, strict=True)}
