"""Loading: a trained model, whatever its form, becomes one onnx_ir.Model and a way to run the original.

Cutting, lowering and writing do not belong here. torch is imported only when the source needs it.
"""

import importlib.util
import inspect
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from recsplit.errors import InputError, MissingExtra
from recsplit.load.arrays import Array, SourceRun
from recsplit.plan.plan import Source
from recsplit.plan.triton_releases import Release

__all__ = ["Example", "Loaded", "ModelSource", "load", "origin_of"]

#: A path or package.module:factory; or a torch.nn.Module, a torch.export.ExportedProgram, an onnx.ModelProto, or a factory itself.
ModelSource = str | os.PathLike[str] | object
#: Example inputs: positional arguments of forward, or keyword arguments; of an ONNX model arrays by input name, or an .npz file's path.
Example = Sequence[Any] | Mapping[str, Any] | os.PathLike[str]

_POINTER = b"version https://git-lfs"
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".tar")


@dataclass(frozen=True)
class Loaded:
    """A loaded model.

    `model`: functions inlined, no Constant nodes, first dimension of every input dynamic; a lookup that recsplit recognises is one node:
    `Gather` axis 0 on a rank-2 initializer, `recsplit::EmbeddingBag` or `recsplit::JaggedBags`. Tensors stay where
    they are: an initializer from a file is an onnx_ir.ExternalTensor that points into it.
    `example`: the source's example inputs by graph input name, batch first; None for an .onnx file that came without.
    `run`: the source itself (torch eager, or onnxruntime on the original file), from graph inputs to graph
    outputs by name; it may be called repeatedly and from several threads.
    `notes`: what the user should know of how it was loaded; `warnings`: what is most likely not meant.
    """

    model: ir.Model
    source: Source
    example: Mapping[str, Array] | None
    run: SourceRun
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def load(
    source: ModelSource, *, weights: pathlib.Path | None = None, example: Example | None = None, release: Release | None = None
) -> Loaded:
    """Load `x.onnx`, `x.pt2`, `package.module:factory` or an object in memory (ModelSource).

    `weights`: a safetensors file for the module of a factory; `example`: the example inputs of an nn.Module or of an ONNX model;
    `release`: the Triton whose onnxruntime must read the model.
    Raises InputError where the source can't be used, MissingExtra where it needs torch and torch is absent,
    RecsplitError where torch can't trace or translate the module.
    """
    from recsplit.load import batch_first

    loaded = batch_first.turn(_load(source, weights, example, release))
    if release is not None:
        loaded.model.ir_version = min(loaded.model.ir_version, release.ir_version)
    return loaded


def _load(source: ModelSource, weights: pathlib.Path | None, example: Example | None, release: Release | None) -> Loaded:
    if not isinstance(source, str | os.PathLike):
        from recsplit.load import memory

        return memory.load(source, weights=weights, example=example, release=release)
    return _load_named(str(source), weights, example, release)


def origin_of(source: ModelSource) -> str:
    """What a source is called in texts: as it was given, or after its type or the factory's name."""
    if isinstance(source, str | os.PathLike):
        return str(source)
    if inspect.isroutine(source) or inspect.isclass(source):
        return f"{source.__module__}:{source.__qualname__}"
    return type(source).__name__


def _load_named(source: str, weights: pathlib.Path | None, example: Example | None, release: Release | None) -> Loaded:
    path = pathlib.Path(source)
    if example is not None and path.suffix.lower() != ".onnx":
        raise InputError(
            "example inputs go with a torch.nn.Module or an .onnx file", hint="a .pt2 file has its own, and a factory returns them"
        )
    for file in (path, weights):
        refuse_pointer(file)
    suffix = path.suffix.lower()
    if suffix in (".onnx", ".pt2") and weights is not None:
        raise InputError(f"{source} holds its weights itself", hint="--weights goes with a package.module:factory source")
    if suffix == ".onnx":
        from recsplit.load import onnx_file

        model, run, notes = onnx_file.load(path, release)
        return Loaded(model, Source("onnx", source, None), _example_of(model, example), run, notes)
    if suffix == ".pt2":
        _need_torch("an .pt2 source")
        from recsplit.load import pt2

        exported = pt2.load(path)
        return Loaded(exported.model, Source("pt2", source, None), exported.example, exported.run)
    if suffix in PICKLES:
        raise InputError(
            f"{source} is a pickle or TorchScript file, which recsplit does not open: such a file can run any code",
            hint="give the callable that builds the module, package.module:factory, and --weights x.safetensors",
        )
    if suffix == ".safetensors":
        raise InputError(
            f"{source} holds weights, not a model",
            hint=f"give the callable that builds the module: package.module:factory --weights {source}",
        )
    if ":" in source:
        _need_torch("a package.module:factory source")
        from recsplit.load import factory

        exported = factory.load(source, weights)
        described = Source("factory", source, None if weights is None else str(weights))
        return Loaded(exported.model, described, exported.example, exported.run, exported.notes, exported.warnings)
    hint = "a model is x.onnx, x.pt2 (torch.export.save) or package.module:factory"
    if suffix == ".py":
        hint = f"name the callable in it, as a module: {'.'.join(path.with_suffix('').parts)}:factory"
    raise InputError(f"{source!r} is not a model", hint=hint)


def _example_of(model: ir.Model, example: Example | None) -> Mapping[str, Array] | None:
    if example is None:
        return None
    from recsplit.load import example_file

    return example_file.example_of(model, example)


def refuse_pointer(path: pathlib.Path | None) -> None:
    """Raise InputError for the few lines of text that git-lfs leaves where a large file was not fetched."""
    if path is None or not path.is_file():
        return
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise InputError(f"{path} is a git-lfs pointer: the file itself was not fetched", hint="git lfs pull")


def _need_torch(purpose: str) -> None:
    for package in ("torch", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "torch", purpose)
