"""package.module:factory: the user's own callable, imported and exported."""

import importlib
import pathlib
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from recsplit.errors import InputError, MissingExtra

try:
    import torch
except ImportError as missing:
    raise MissingExtra("torch", "torch", "a package.module:factory source") from missing

from recsplit.load.export import Exported, export, to_ir
from recsplit.load.flat import Eager, Flat
from recsplit.load.inputs import readable

SHAPE = "a factory returns (module, example_inputs) or (module, example_inputs, dynamic_shapes)"


def load(spec: str, weights: pathlib.Path | None) -> Exported:
    """Import the factory, call it, export what it returns."""
    module, args, kwargs, shapes = call(spec)
    flat = Flat(module, args, kwargs)
    with torch.no_grad():
        flat(*flat.tensors)
    outputs = readable(flat.output_paths, taken=flat.names, alone="output")
    program = export(flat, flat.tensors, [{0: torch.export.Dim.AUTO} for _ in flat.tensors])
    model = to_ir(program, flat.names, outputs, spec)
    example = {name: tensor.detach().numpy() for name, tensor in zip(flat.names, flat.tensors, strict=True)}
    return Exported(model, example, Eager(flat, flat.names, outputs))


def call(spec: str) -> tuple[torch.nn.Module, tuple[Any, ...], Mapping[str, Any], Any]:
    """The factory's module in eval mode, its positional and keyword example inputs, and its dynamic_shapes or None."""
    name, _, attribute = spec.partition(":")
    if not name or not attribute:
        raise InputError(f"{spec!r} is not package.module:factory", hint="for example shop.models:ranker")
    here = str(pathlib.Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise InputError(f"there is no module {error.name!r}", hint=f"the working directory is importable; it is {here}") from error
        raise InputError(f"importing {name!r} failed: {error}", hint="install what it imports", detail=last_frame(error)) from error
    except Exception as error:
        raise InputError(f"importing {name!r} failed: {type(error).__name__}: {error}", detail=last_frame(error)) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"module {name!r} has no {attribute!r}", hint="the part after the colon names a callable of that module")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{spec} is not callable", hint=SHAPE)
    try:
        returned = found()
    except Exception as error:
        raise InputError(f"{spec}() failed: {type(error).__name__}: {error}", hint="a factory takes no arguments", detail=last_frame(error)) from error
    if not isinstance(returned, tuple) or len(returned) not in (2, 3):
        raise InputError(f"{spec}() returned {type(returned).__name__}, not a tuple of 2 or 3", hint=SHAPE)
    module, inputs, *rest = returned
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"{spec}() returned a {type(module).__name__} first, not an nn.Module", hint=SHAPE)
    if isinstance(inputs, Mapping):
        return module.eval(), (), inputs, rest[0] if rest else None
    if isinstance(inputs, list | tuple):
        return module.eval(), tuple(inputs), {}, rest[0] if rest else None
    raise InputError(
        f"{spec}() returned a {type(inputs).__name__} as example_inputs",
        hint="example_inputs is a tuple of arguments, (ids,) for one tensor, or a dict of keyword arguments",
    )


def last_frame(error: BaseException) -> str:
    """Where the user's code failed: the innermost frame and the error."""
    frames = traceback.extract_tb(error.__traceback__)[-1:]
    return "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)]).strip()
