"""A torch module with nested arguments, seen as a function from flat named tensors to flat named tensors."""

import copy
import enum
import inspect
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from recsplit.errors import InputError, RecsplitError
from recsplit.load import fastpath
from recsplit.load.arrays import Array
from recsplit.load.dynamic import dimensions
from recsplit.load.inputs import Path, leaves, readable, rebuild
from recsplit.load.jagged import JaggedSlot, parts_of
from recsplit.load.refused_modules import refuse_layout

CONSTANTS = (type(None), bool, int, float, str, bytes, torch.dtype, torch.device, enum.Enum)
#: What numpy, ONNX and Triton all know.
DTYPES = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.float32, torch.float64),
)


class Slot:
    """Stands in the tree of arguments where flat input `index` goes. (Not a dataclass: those are containers here.)"""

    def __init__(self, index: int) -> None:
        self.index = index


class Flat(torch.nn.Module):
    """`module` as forward(*tensors) -> tuple of tensors; the examples' structure and constants are kept.

    `names` and `tensors` are the flat example inputs in order, `shapes` their entries for torch.export's
    dynamic_shapes. `output_names` are known after the first call.
    Raises InputError where the example inputs don't fit the module's forward or hold something else than tensors.
    """

    def __init__(self, module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], dynamic_shapes: Any) -> None:
        super().__init__()
        self.module = module
        try:
            self._bound = inspect.signature(module.forward).bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(
                f"the example inputs do not fit {type(module).__name__}.forward: {error}",
                hint="example_inputs is a tuple of arguments, (ids,) for one tensor, or a dict of keyword arguments",
            ) from error
        self.tensors: list[torch.Tensor] = []
        self._paths: list[Path] = []
        self._tree = rebuild(dict(self._bound.arguments), self._take)
        self.names = readable(self._paths, root="input")
        self.shapes = dimensions(self._bound.arguments, dynamic_shapes)
        self._output_paths: list[Path] = []
        for name, tensor in zip(self.names, self.tensors, strict=True):
            _check(f"input {name!r}", tensor)

    @property
    def output_names(self) -> list[str]:
        """Names of the last call's outputs."""
        return readable(self._output_paths, root="output", used_names=self.names)

    def _take(self, path: Path, leaf: Any) -> Any:
        """Put a tensor, or the tensors of a KeyedJaggedTensor, into the flat inputs and a slot in its place."""
        variadic = self._bound.signature.parameters[str(path[0])].kind is inspect.Parameter.VAR_KEYWORD
        path = path[1:] if variadic else path
        if isinstance(leaf, torch.Tensor):
            return Slot(self._add(path, leaf.detach().cpu()))
        parts = parts_of(leaf)
        if parts is not None:
            at = [self._add((*path[:-1], f"{path[-1]}_{suffix}"), tensor.detach().cpu()) for suffix, tensor in parts]
            return JaggedSlot(leaf, at)
        if isinstance(leaf, CONSTANTS):
            return leaf
        name = "_".join(map(str, path))
        raise InputError(
            f"example input {name!r} is a {type(leaf).__name__}, which can't be flattened into tensors",
            hint="inputs are tensors in lists, tuples, dicts, named tuples or dataclasses, or a KeyedJaggedTensor",
        )

    def _add(self, path: Path, tensor: torch.Tensor) -> int:
        self._paths.append(path)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The module's output tensors, flat; a None among its outputs is left out."""

        def fill(_: Path, leaf: Any) -> Any:
            if isinstance(leaf, JaggedSlot):
                return leaf.fill(tensors)
            return tensors[leaf.index] if isinstance(leaf, Slot) else leaf

        bound = inspect.BoundArguments(self._bound.signature, rebuild(self._tree, fill))
        output_leaves = [(path, leaf) for path, leaf in leaves(self.module(*bound.args, **bound.kwargs)) if leaf is not None]
        self._output_paths = [path for path, _ in output_leaves]
        for name, (_, leaf) in zip(self.output_names, output_leaves, strict=True):
            if not isinstance(leaf, torch.Tensor):
                raise InputError(
                    f"output {name!r} is a {type(leaf).__name__}, not a tensor",
                    hint="return tensors, in tuples, dicts or named tuples; a KeyedTensor has .to_dict()",
                )
            _check(f"output {name!r}", leaf)
        return tuple(leaf for _, leaf in output_leaves)


def _check(what: str, tensor: torch.Tensor) -> None:
    """Dense, batch first, and of a dtype that clients can send."""
    refuse_layout(what, tensor)
    if tensor.ndim == 0:
        hint = "the first dimension of every input and output is the batch; x.squeeze() drops a batch of 1, x.squeeze(-1) does not"
        raise InputError(f"{what} has no batch dimension", hint=hint)
    if tensor.dtype not in DTYPES:
        raise InputError(f"{what} is {tensor.dtype}, which can't be served", hint="cast it in forward, to torch.float32 for example")


class Eager:
    """The source itself: numpy arrays in and out by graph names, torch eager in between.

    Transformer layers run as the layers they are, not on torch's fast path: the parts do the same.
    """

    def __init__(self, flat: torch.nn.Module, inputs: Sequence[str], outputs: Sequence[str], *, prefix: str = "") -> None:
        """`prefix`: what `flat` puts before the names of the source's weights."""
        self._flat, self._inputs, self._outputs = flat, list(inputs), list(outputs)
        self._prefix = prefix
        self._has_fast_path = fastpath.is_used(flat)
        self._lock = threading.Lock()
        self._weights: dict[str, torch.Tensor] = {}

    def weight(self, name: str) -> Array | None:
        """As SourceRun has it."""
        tensor = self._state().get(self._prefix + name)
        return None if tensor is None or tensor.dtype not in DTYPES else tensor.detach().numpy()

    def with_weights(self, weights: Mapping[str, Array]) -> "Eager":
        """As SourceRun has it; tied weights stay tied."""
        changed, known = copy.copy(self), self._state()
        changed._weights = {
            self._prefix + name: torch.from_numpy(data).to(known[self._prefix + name].dtype) for name, data in weights.items()
        }
        return changed

    def _state(self) -> dict[str, torch.Tensor]:
        return self._flat.state_dict(keep_vars=True)

    def _answer(self, tensors: Sequence[torch.Tensor]) -> Any:
        if not self._weights:
            return self._flat(*tensors)
        return torch.func.functional_call(self._flat, self._weights, tuple(tensors))

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the module; raises InputError on missing inputs and where torch's fast path answers otherwise than the layers, RecsplitError
        with torch's words where the module fails.
        """
        missing = [name for name in self._inputs if name not in inputs]
        if missing:
            raise InputError(f"inputs {missing} are missing", hint=f"the model takes {self._inputs}")
        tensors = [torch.from_numpy(np.array(inputs[name])) for name in self._inputs]
        try:
            # A module may keep state between calls (caches, Flat's output names): one call at a time.
            with self._lock, torch.no_grad(), fastpath.off():
                results = self._answer(tensors)
        except Exception as error:
            hint = "are all ids inside their tables, and shapes and dtypes those of the example inputs?"
            raise RecsplitError(f"the source model fails: {error}", hint=hint) from error
        if self._has_fast_path:
            self._compare_fast_path(tensors, results)
        return {name: result.numpy() for name, result in zip(self._outputs, results, strict=True)}

    def _compare_fast_path(self, tensors: Sequence[torch.Tensor], results: Sequence[torch.Tensor]) -> None:
        try:
            with self._lock, torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # nested tensors are a prototype
                fast_results = self._answer(tensors)
        except Exception:  # torch's own kinds: it has no fast path for these inputs
            return
        for name, layers, fast in zip(self._outputs, results, fast_results, strict=True):
            if not fastpath.agree(layers, fast):
                raise InputError(
                    f"output {name!r} is another one on torch's fast path for transformers, where padded places are zero",
                    hint="mask the padded places of the encoder's output in forward, or build nn.TransformerEncoder with "
                    "enable_nested_tensor=False, which is what the parts would answer",
                )
