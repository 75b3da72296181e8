"""Loading: a trained model, whatever its form, becomes one onnx_ir.Model and a way to run the original.

Cutting, lowering and writing do not belong here. torch is imported only when the source needs it.
"""

import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from recsplit.errors import InputError
from recsplit.load.arrays import Array
from recsplit.plan import Source

__all__ = ["Loaded", "load"]


@dataclass(frozen=True)
class Loaded:
    """A loaded model.

    `model`: functions inlined, no Constant nodes, first dimension of every input dynamic; a lookup is one node:
    `Gather` axis 0 on a rank-2 initializer, `recsplit::EmbeddingBag` or `recsplit::JaggedBags`.
    `example`: the factory's example inputs by graph input name, None for an .onnx file.
    `run`: the source itself (torch eager, or onnxruntime on the original file), from graph inputs to graph
    outputs by name; it may be called repeatedly and from several threads.
    """

    model: ir.Model
    source: Source
    example: Mapping[str, Array] | None
    run: Callable[[Mapping[str, Array]], dict[str, Array]]


def load(source: str, *, weights: pathlib.Path | None = None) -> Loaded:
    """Load `x.onnx`, `x.pt2` or `package.module:factory`, the last with the weights of a safetensors file if given.

    Raises InputError where the source can't be used, MissingExtra where torch is needed and absent,
    RecsplitError where torch can't export the module.
    """
    path = pathlib.Path(source)
    suffix = path.suffix.lower()
    if weights is not None and suffix in (".onnx", ".pt2"):
        raise InputError(f"{source} holds its weights itself", hint="--weights goes with a package.module:factory source")
    if suffix == ".onnx":
        from recsplit.load import onnx_file

        model, run = onnx_file.load(path)
        return Loaded(model, Source("onnx", source, None), None, run)
    if suffix == ".pt2":
        from recsplit.load import pt2

        exported = pt2.load(path)
        return Loaded(exported.model, Source("pt2", source, None), exported.example, exported.run)
    if ":" in source:
        from recsplit.load import factory

        exported = factory.load(source, weights)
        return Loaded(exported.model, Source("factory", source, None if weights is None else str(weights)), exported.example, exported.run)
    if suffix in (".pt", ".pth", ".bin", ".pkl", ".ckpt"):
        raise InputError(
            f"{source} is a pickle or TorchScript file, which recsplit does not open: such a file can run any code",
            hint="give the callable that builds the module, package.module:factory, and --weights x.safetensors",
        )
    raise InputError(
        f"{source!r} is not a model",
        hint="a model is x.onnx, x.pt2 (torch.export.save) or package.module:factory",
    )
