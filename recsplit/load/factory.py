"""package.module:factory: the user's own callable, imported, called, and exported."""

import contextlib
import dataclasses
import importlib
import pathlib
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any

import torch

from recsplit.errors import InputError, RecsplitError
from recsplit.load import drawn, fastpath
from recsplit.load.export import Exported, export, quiet, to_ir
from recsplit.load.flat import Eager, Flat
from recsplit.load.jagged import collections_as_nodes
from recsplit.load.refused_modules import refuse_modules, refuse_sparse
from recsplit.load.weights import Weights, assign, open_weights, refer, refuse_meta, without_prefix

#: The module in eval mode, its positional and keyword example inputs, and its dynamic_shapes or None.
Returned = tuple[torch.nn.Module, tuple[Any, ...], Mapping[str, Any], Any]

#: Flat's attribute, not the user's.
_PREFIX = "module."
SHAPE = "a factory returns (module, example_inputs) or (module, example_inputs, dynamic_shapes)"


def load(spec: str, weights: pathlib.Path | None) -> Exported:
    """Import the factory, call it, fill its module from `weights` if given, export it."""
    mapped = None if weights is None else open_weights(weights)  # first: a mistake here shows before minutes of importing
    return _called(resolve(spec), spec, mapped)


def exported(factory: Any, origin: str, weights: pathlib.Path | None) -> Exported:
    """Call a factory, fill its module from `weights` if given, export it; `origin` is what texts call it."""
    mapped = None if weights is None else open_weights(weights)
    return _called(factory, origin, mapped)


def _called(factory: Any, spec: str, mapped: Weights | None) -> Exported:
    began = time.perf_counter()
    returned = call(factory, spec)
    warnings: tuple[str, ...] = ()
    if mapped is None:
        with quiet():
            warnings = drawn.warnings(factory, returned[0], time.perf_counter() - began)
    return dataclasses.replace(_export(returned, spec, mapped), warnings=warnings)


def _export(returned: Returned, spec: str, mapped: Weights | None) -> Exported:
    module, args, kwargs, dynamic_shapes = returned
    refuse_modules(module)
    notes: tuple[str, ...] = ()
    if mapped is not None:
        mapped, notes = without_prefix(module, mapped)
        assign(module, mapped)
    refuse_meta(module, weighted=mapped is not None)
    module.cpu()
    flat = Flat(module, args, kwargs, dynamic_shapes)
    try:
        with torch.no_grad(), fastpath.off():
            flat(*flat.tensors)
    except RecsplitError:
        raise
    except Exception as error:
        raise InputError(
            f"{type(module).__name__} fails on its own example inputs: {error}",
            hint=f"call it as the factory's user would: module, inputs = {spec.partition(':')[2]}(); module(*inputs)",
            detail=last_frame(error),
        ) from error
    names, outputs = flat.names, flat.output_names
    try:
        with collections_as_nodes(module):
            program = export(flat, flat.tensors, flat.shapes)
        model = to_ir(program, names, outputs, spec, prefix=_PREFIX)
    except RecsplitError:
        refuse_sparse(module)  # the true cause, where there is one; a sparse tensor that forward doesn't read is none
        raise
    if mapped is not None:
        refer(model, mapped)
    example = {name: tensor.numpy() for name, tensor in zip(names, flat.tensors, strict=True)}
    return Exported(model, example, Eager(flat, names, outputs, prefix=_PREFIX), notes)


def call(factory: Any, spec: str) -> Returned:
    """The factory's module in eval mode, its positional and keyword example inputs, and its dynamic_shapes or None.

    Raises InputError for every mistake on the way, with the innermost frame of the user's code as detail.
    """
    try:
        with quiet(), contextlib.redirect_stdout(sys.stderr):  # what users print must not mix with what recsplit answers
            returned = factory()
    except RecsplitError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{spec}() failed: {type(error).__name__}: {error}", hint="a factory is called without arguments", detail=last_frame(error)
        ) from error
    if not isinstance(returned, list | tuple) or len(returned) not in (2, 3):
        count = f" of {len(returned)}" if isinstance(returned, list | tuple) else ""
        raise InputError(f"{spec}() returned a {type(returned).__name__}{count}", hint=SHAPE)
    module, inputs, *rest = returned
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"{spec}() returned a {type(module).__name__} first, not a torch.nn.Module", hint=SHAPE)
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError(f"{spec}() returned a TorchScript module", hint="return the nn.Module that it was scripted from")
    dynamic_shapes = rest[0] if rest else None
    if isinstance(inputs, Mapping):
        return module.eval(), (), inputs, dynamic_shapes
    if isinstance(inputs, list | tuple):
        return module.eval(), tuple(inputs), {}, dynamic_shapes
    raise InputError(
        f"{spec}() returned a {type(inputs).__name__} as example_inputs",
        hint="example_inputs is a tuple of arguments, (ids,) for one tensor, or a dict of keyword arguments",
    )


def resolve(spec: str) -> Any:
    """The callable that `spec` names; the working directory is importable."""
    name, _, attribute = spec.partition(":")
    if not name or not attribute:
        raise InputError(f"{spec!r} is not package.module:factory", hint="for example shop.models:ranker")
    if name.endswith(".py") or "/" in name:
        module = ".".join(pathlib.PurePath(name).with_suffix("").parts)
        raise InputError(f"{name} is a file, and recsplit imports a module", hint=f"write {module}:{attribute}")
    here = str(pathlib.Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        with quiet(), contextlib.redirect_stdout(sys.stderr):
            named: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise InputError(f"there is no module {error.name!r}", hint=f"the working directory is importable: {here}") from error
        raise InputError(f"importing {name} failed: {error}", hint="install what it imports", detail=last_frame(error)) from error
    except (Exception, SystemExit) as error:
        raise InputError(
            f"importing {name} failed: {type(error).__name__}: {error}", hint=f"try: python -c 'import {name}'", detail=last_frame(error)
        ) from error
    for part in attribute.split("."):
        if not hasattr(named, part):
            raise InputError(f"module {name} has no {attribute!r}", hint="the part after the colon names a callable of that module")
        named = getattr(named, part)
    if not callable(named):
        raise InputError(f"{spec} is a {type(named).__name__}, not a callable", hint=SHAPE)
    return named


def last_frame(error: BaseException) -> str:
    """Where the user's code failed: the innermost frame and the error."""
    frames = traceback.extract_tb(error.__traceback__)[-1:]
    return "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)]).strip()
