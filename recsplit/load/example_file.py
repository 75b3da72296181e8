"""Example inputs of an .onnx file, which has none of its own: arrays by input name, from an .npz file or from Python."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from recsplit.disk import archive
from recsplit.errors import InputError
from recsplit.load.arrays import Array

#: A batch is an example; a log is not, and a small file may unpack to a large one.
LIMIT_BYTES = 1 << 28


def example_of(model: ir.Model, example: Any) -> dict[str, Array]:
    """The arrays of `example`, a mapping by input name or the path of an .npz file, checked against the inputs of `model`.

    Raises InputError where the file can't be read without unpickling or is too large, and where a name, dtype or shape isn't the input's.
    """
    arrays = read_npz(Path(example)) if isinstance(example, str | os.PathLike) else example
    if not isinstance(arrays, Mapping):
        raise InputError(
            "the example inputs of an .onnx file go by name", hint="a dict of arrays by input name, or the path of an .npz file"
        )
    names = [value.name or "" for value in model.graph.inputs]
    strange = [name for name in arrays if name not in names]
    missing = [name for name in names if name not in arrays]
    if strange or missing:
        what = f"has {', '.join(map(repr, strange))}, which the model hasn't" if strange else f"lacks {', '.join(map(repr, missing))}"
        raise InputError(f"the example {what}", hint=f"an array for each input: {', '.join(names)}")
    checked: dict[str, Array] = {}
    sizes: dict[str, tuple[int, str]] = {}
    for value in model.graph.inputs:
        name = value.name or ""
        checked[name] = np.asarray(arrays[name])
        _check(value, checked[name], sizes)
    return checked


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file by name. Raises InputError where it is none, is too large, or holds pickled objects."""
    if not path.is_file():
        raise InputError(f"the example {path} is not a file", hint="numpy.savez writes one: numpy.savez('example.npz', ids=ids)")
    hint = "an array of numbers for each input, of a few rows: numpy.savez('example.npz', ids=ids)"
    return archive.arrays(path, "is no .npz file of numbers", LIMIT_BYTES, hint=hint)


def _check(value: ir.Value, array: Array, sizes: dict[str, tuple[int, str]]) -> None:
    """`sizes`: of the dimensions that have a name, as the inputs so far have them, and which input said so."""
    assert value.shape is not None and value.dtype is not None
    if array.dtype != value.dtype.numpy():
        raise InputError(
            f"the example's {value.name!r} is {array.dtype}, and the input is {value.dtype.numpy()}",
            hint=f"{value.name} = {value.name}.astype('{value.dtype.numpy()}')",
        )
    fits = array.ndim == len(value.shape) and all(
        not isinstance(size, int) or size == actual for size, actual in zip(value.shape, array.shape, strict=True)
    )
    if not fits or 0 in array.shape:
        shape = ", ".join(str(size) if isinstance(size, int) or size.value else "?" for size in value.shape)
        raise InputError(
            f"the example's {value.name!r} has the shape {list(array.shape)}, and the input is [{shape}]", hint="a batch of a few rows"
        )
    for size, actual in zip(value.shape, array.shape, strict=True):
        if isinstance(size, ir.SymbolicDim) and size.value is not None:
            known, name = sizes.setdefault(size.value, (actual, value.name or ""))
            if known != actual:
                raise InputError(
                    f"the example has {size.value}={known} in {name!r} and {actual} in {value.name!r}", hint="the same rows in every input"
                )
