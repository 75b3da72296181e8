"""A query on its way to the server: check it, bring ragged inputs into rows, split it. Pure numpy."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from recsplit.client.signature import Signature
from recsplit.errors import InputError
from recsplit.plan.plan import Bags, Tensor
from recsplit.plan.ragged import to_rows

Array = NDArray[Any]

#: Rows of ragged ids are padded to a multiple of this many slots: requests of about the same length then share a shape,
#: and Triton batches only requests that do.
SLOTS_MULTIPLE = 16


def prepare(signature: Signature, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """The tensors to send for a query, in the order of the model's inputs; first dimension = rows of the query.

    Takes the inputs that the server knows, or a ragged model's own. Numbers are converted to the dtype that the model takes where
    that changes no value, floats to whole numbers never. Raises InputError that names the input, what was expected and what was found.
    """
    arrays = {name: _array(name, value) for name, value in inputs.items()}
    for bags in signature.bags:
        if _is_own_form(bags, arrays):
            _check_own_form(bags, arrays)
    rows: dict[str, Array] = {}
    origins: dict[str, str] = {}  # what the user calls a tensor that goes out under another name
    for bags in signature.bags:
        if _is_own_form(bags, arrays):
            rows |= to_rows(bags, arrays, slots_multiple=SLOTS_MULTIPLE)
            origins |= {bags.values: bags.source_values, bags.lengths: bags.source_lengths or bags.source_offsets or bags.lengths}
            if bags.weights is not None and bags.source_weights is not None:
                origins[bags.weights] = bags.source_weights
    model_inputs = {name: array for name, array in arrays.items() if name not in origins.values()} | rows
    _check_names(signature, model_inputs)
    tensors: dict[str, Array] = {}
    for tensor in signature.inputs:
        if tensor.name in model_inputs:
            tensors[tensor.name] = _fit(tensor, model_inputs[tensor.name], signature, origins.get(tensor.name, tensor.name))
    if signature.max_batch_size > 0:
        _check_batch(tensors)
    for bags in signature.bags:
        if tensors[bags.values].shape[-1] == 0:
            raise InputError(
                f"input {bags.values!r}: expected at least one slot, found {_shape(tensors[bags.values].shape)}",
                hint=f"pad the rows to one slot or more; {bags.lengths!r} says that they hold nothing",
            )
    return tensors


@dataclass(frozen=True)
class Subquery:
    """A sub-query: some rows of a query, and the number of the first of them."""

    first_row: int
    tensors: dict[str, Array]


def split(tensors: Mapping[str, Array], max_batch_size: int) -> list[Subquery]:
    """The query as parts of at most `max_batch_size` rows, as even as can be: views, no copies. 0: the query is one part."""
    if max_batch_size == 0:
        return [Subquery(0, dict(tensors))]
    batch = len(next(iter(tensors.values())))
    parts = -(-batch // max_batch_size)
    bounds = [batch * part // parts for part in range(parts + 1)]
    return [Subquery(start, {name: array[start:stop] for name, array in tensors.items()}) for start, stop in itertools.pairwise(bounds)]


def _array(name: str, value: ArrayLike) -> Array:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:  # ragged lists; tensors on a GPU
        raise InputError(f"input {name!r} is not an array: {error}", hint="give a numpy array") from error


def _own_names(bags: Bags) -> list[str]:
    """The names of a ragged model's own inputs."""
    names = (bags.source_values, bags.source_offsets, bags.source_lengths, bags.source_weights)
    return [name for name in names if name is not None]


def _is_own_form(bags: Bags, arrays: Mapping[str, Array]) -> bool:
    """Whether the query holds this group as the model has it: then the ids lie flat, else they lie in rows."""
    return bags.source_values in arrays and arrays[bags.source_values].ndim == 1


def _check_own_form(bags: Bags, arrays: Mapping[str, Array]) -> None:
    """Raise InputError unless to_rows can take this group."""
    missing = [name for name in _own_names(bags) if name not in arrays]
    if missing:
        raise InputError(
            f"input {missing[0]!r} is missing: expected {_names(_own_names(bags))}, found {_names(arrays)}",
            hint=f"or give rows: {bags.values!r} [batch, slots] and {bags.lengths!r} [batch, {len(bags.features)}]",
        )
    for name in (bags.source_offsets, bags.source_lengths):
        if name is not None and arrays[name].dtype.kind not in "iu":
            raise InputError(f"input {name!r}: expected integers, found {_dtype(arrays[name])}", hint="give an integer array")
    weights = bags.source_weights
    if weights is not None and arrays[weights].shape != arrays[bags.source_values].shape:
        raise InputError(
            f"input {weights!r}: expected {_shape(arrays[bags.source_values].shape)}, as {bags.source_values!r} has it, "
            f"found {_shape(arrays[weights].shape)}",
            hint="give one weight for each id",
        )
    if bags.source_offsets is not None:
        _check_offsets(bags, arrays[bags.source_offsets])
    elif bags.source_lengths is not None:
        size, features = arrays[bags.source_lengths].size, len(bags.features)
        if size == 0 or size % features:
            raise InputError(
                f"input {bags.source_lengths!r}: expected [{features} * batch], found {_shape(arrays[bags.source_lengths].shape)}",
                hint="give the length of each bag, all rows of one feature after the other",
            )


def _check_offsets(bags: Bags, offsets: Array) -> None:
    """Raise InputError unless offsets have the rank and size of the model's own: one for each bag, and the end where it has that."""
    features, last = len(bags.features), int(bags.include_last_offset)
    expected: list[int | str] = ["batch + 1" if last else "batch"] if features == 1 else [f"{features} * batch{' + 1' if last else ''}"]
    if bags.source_row is not None:
        expected.insert(0, "features")
    bad = offsets.ndim != len(expected) or (bags.source_row or 0) >= (len(offsets) if offsets.ndim == 2 else 1)
    if bad or offsets.shape[-1] == last or (offsets.shape[-1] - last) % features:
        raise InputError(
            f"input {bags.source_offsets!r}: expected {_shape(expected)}, found {_shape(offsets.shape)}",
            hint="give the start of each bag" + (", and the end of the last one" if last else ""),
        )


def _check_names(signature: Signature, arrays: Mapping[str, Array]) -> None:
    """Raise InputError unless the names are the model's."""
    expected = [tensor.name for tensor in signature.inputs]
    alternatives = [f"{_names(_own_names(bags))} in place of {_names([bags.values, bags.lengths])}" for bags in signature.bags]
    hint = f"model {signature.model!r} takes {_names(expected)}" + (f"; or {'; or '.join(alternatives)}" if alternatives else "")
    for name in arrays:
        if name not in expected:
            raise InputError(f"input {name!r} is unknown: expected {_names(expected)}, found {_names(arrays)}", hint=hint)
    for name in expected:
        if name not in arrays and name not in signature.optional:
            raise InputError(f"input {name!r} is missing: expected {_names(expected)}, found {_names(arrays)}", hint=hint)


def _fit(tensor: Tensor, array: Array, signature: Signature, name: str) -> Array:
    """The array in the dtype that the model takes. Raises InputError, about input `name`, where dtype, shape or a value doesn't fit."""
    if array.ndim == 1 and tensor.dims == (1,) and signature.max_batch_size > 0:
        array = array[:, np.newaxis]  # one value a row, [batch]: Triton has no empty dims, so it is served as [batch, 1]
    dims: list[int | str] = [dim if dim >= 0 else "any" for dim in tensor.dims]
    if signature.max_batch_size > 0:
        dims.insert(0, "batch")
    expected = f"input {name!r}: expected {tensor.dtype} {_shape(dims)}, found {_dtype(array)} {_shape(array.shape)}"
    if len(array.shape) != len(dims) or any(isinstance(dim, int) and dim != size for dim, size in zip(dims, array.shape, strict=True)):
        one = len(array.shape) == len(dims) - 1 and signature.max_batch_size > 0
        raise InputError(expected, hint="the first dimension is the batch: one row is array[None]" if one else "check the shape")
    if 0 in array.shape[:1]:
        raise InputError(f"input {name!r}: expected at least one row, found {_shape(array.shape)}", hint="leave empty queries out")
    dtype = np.dtype(triton_to_np_dtype(tensor.dtype))
    if array.dtype == dtype:
        return array
    if tensor.dtype == "BYTES" and array.dtype.kind in "OSU":
        return array.astype(np.object_)
    if array.dtype.kind in "iu" and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        outside = array[(array < limits.min) | (array > limits.max)]
        if outside.size:
            raise InputError(
                f"input {name!r}: expected {tensor.dtype} ({limits.min} to {limits.max}), found {outside[0]}",
                hint="the model was built with --ids int32; check the ids" if tensor.dtype == "INT32" else "check the values",
            )
        return array.astype(dtype)
    if array.dtype.kind in "iuf" and dtype.kind == "f":
        return _exactly(array, dtype, expected)
    raise InputError(expected, hint=f"convert it: array.astype(numpy.{dtype})")


def _exactly(array: Array, dtype: np.dtype[Any], expected: str) -> Array:
    """The numbers as floats of `dtype`. Raises InputError for the first that isn't one."""
    with np.errstate(over="ignore", invalid="ignore"):
        floats = array.astype(dtype)
        back = floats.astype(array.dtype)
        same = np.isclose(back, array, rtol=0, atol=0, equal_nan=True)
        if array.dtype.kind in "iu":
            same &= floats < 2.0 ** (8 * array.itemsize - (array.dtype.kind == "i"))  # else there is no way back
    if not same.all():
        value = array[~same][0]
        raise InputError(f"{expected}: {value} is no {dtype} number", hint=f"round it where that is meant: array.astype(numpy.{dtype})")
    return floats


def _check_batch(tensors: Mapping[str, Array]) -> None:
    """Raise InputError unless all inputs have the same number of rows."""
    (first, array), *rest = tensors.items()
    for name, other in rest:
        if len(other) != len(array):
            raise InputError(
                f"input {name!r}: expected {len(array)} rows, as {first!r} has, found {len(other)}",
                hint="every input has one row for each row of the query",
            )


def _names(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"


def _dtype(array: Array) -> str:
    return "BYTES" if array.dtype.kind == "U" else str(np_to_triton_dtype(array.dtype) or array.dtype)


def _shape(dims: Iterable[int | str]) -> str:
    return "[" + ", ".join(str(dim) for dim in dims) + "]"
