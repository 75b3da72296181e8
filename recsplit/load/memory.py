"""Models in memory: an nn.Module with its example inputs, an exported program, an ONNX proto, or a factory."""

import os
import pathlib
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx

from recsplit.errors import InputError
from recsplit.load import Example, Loaded, onnx_file, origin_of
from recsplit.load.arrays import Array, SourceRun
from recsplit.load.example_file import example_of
from recsplit.plan.files import MODEL_FILE
from recsplit.plan.plan import Source
from recsplit.plan.triton_releases import Release

_KINDS = "a torch.nn.Module with example_inputs, a torch.export.ExportedProgram, an onnx.ModelProto, or a factory"


def load(source: object, *, weights: pathlib.Path | None, example: Example | None, release: Release | None) -> Loaded:
    """Load an object. Raises InputError where it is none of these, or where an nn.Module comes without example inputs.

    The module of the caller stays as it is: it is exported in eval mode, and its own mode is put back. It must lie on the CPU.
    """
    torch: Any = sys.modules.get("torch")  # where torch was never imported, nothing of torch's can be given
    if torch is not None and isinstance(source, torch.nn.Module):
        if example is None:
            raise InputError(f"{type(source).__name__} comes without example inputs", hint="recsplit.build(module, (ids, dense), ...)")
        return _module(source, example, weights)
    if isinstance(source, onnx.ModelProto):
        _refuse_weights(weights)
        return _proto(source, example, release)
    if example is not None:
        raise InputError(
            "example inputs go with a torch.nn.Module or an ONNX model", hint="a program has its own, and a factory returns them"
        )
    if torch is not None and isinstance(source, torch.export.ExportedProgram):
        from recsplit.load import pt2

        _refuse_weights(weights)
        exported = pt2.exported(source, "the program")
        return Loaded(exported.model, Source("pt2", origin_of(source), None), exported.example, exported.run)
    if callable(source):
        from recsplit.load import factory

        exported = factory.exported(source, origin_of(source), weights)
        described = Source("factory", origin_of(source), _text(weights))
        return Loaded(exported.model, described, exported.example, exported.run, exported.notes, exported.warnings)
    raise InputError(f"a {type(source).__name__} is not a model", hint=f"a model is a path, package.module:factory, {_KINDS}")


def _module(module: Any, example: Example, weights: pathlib.Path | None) -> Loaded:
    from recsplit.load import factory

    if isinstance(example, str | os.PathLike):
        raise InputError(
            "the example inputs of a torch.nn.Module are tensors, not a file", hint="recsplit.build(module, (ids, dense), ...)"
        )
    if not isinstance(example, Mapping | tuple | list):
        example = (example,)  # a single tensor
    elsewhere = next((tensor.device for tensor in module.state_dict().values() if tensor.device.type not in ("cpu", "meta")), None)
    if elsewhere is not None:
        raise InputError(f"{type(module).__name__} lies on {elsewhere}", hint="build from a copy on the CPU: copy.deepcopy(module).cpu()")
    modes = [(part, part.training) for part in module.modules()]
    try:
        exported = factory.exported(lambda: (module, example), type(module).__name__, weights)
    except BaseException:
        _put_back(modes)
        raise

    _put_back(modes)
    run = _InEval(exported.run, module, modes, threading.Lock())
    return Loaded(exported.model, Source("module", type(module).__qualname__, _text(weights)), exported.example, run, exported.notes)


@dataclass(frozen=True)
class _InEval:
    """The caller's module, in eval mode while it runs, one call at a time: another one must not put the mode back meanwhile."""

    source: SourceRun
    module: Any
    modes: Sequence[tuple[Any, bool]]
    one_at_a_time: threading.Lock

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with self.one_at_a_time:
            self.module.eval()
            try:
                return self.source(inputs)
            finally:
                _put_back(self.modes)

    def weight(self, name: str) -> Array | None:
        return self.source.weight(name)

    def with_weights(self, weights: Mapping[str, Array]) -> "_InEval":
        return replace(self, source=self.source.with_weights(weights))


def _put_back(modes: Sequence[tuple[Any, bool]]) -> None:
    for part, training in modes:
        part.training = training


def _proto(model: onnx.ModelProto, example: Example | None, release: Release | None) -> Loaded:
    """By way of a file, in a folder that lives as long as the original can be run."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="recsplit-"))
    try:
        _save(model, folder / MODEL_FILE)
        loaded, session, _ = onnx_file.load(folder / MODEL_FILE, release)
    except BaseException:
        shutil.rmtree(folder)
        raise
    weakref.finalize(session, shutil.rmtree, folder)
    checked = None if example is None else example_of(loaded, example)
    return Loaded(loaded, Source("onnx", "ModelProto", None), checked, session)


def _save(model: onnx.ModelProto, path: pathlib.Path) -> None:
    try:
        onnx.save(model, str(path))
    except ValueError as error:  # of protobuf, over 2 GB
        raise InputError(f"the ONNX proto can't be written: {error}", hint="save it with external data, and give the path") from error


def _refuse_weights(weights: pathlib.Path | None) -> None:
    if weights is not None:
        raise InputError("the model holds its weights itself", hint="weights go with a module or a factory")


def _text(path: pathlib.Path | None) -> str | None:
    return None if path is None else str(path)
