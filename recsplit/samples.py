"""Inputs for the ensemble, made from the plan: valid ids, and the edge cases that a parity check wants.

Pure: plan and random generator in, arrays out. `references` (inputs known to be valid, such as the source's own
example) lend their values to whatever isn't an id, so that dense features look like the real ones.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from recsplit.plan import Bags, Plan, Tensor

Array = NDArray[np.generic]

#: numpy's name of each Triton dtype that a model input can have.
NUMPY = {
    "BOOL": "bool", "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64", "UINT8": "uint8", "UINT16": "uint16",
    "UINT32": "uint32", "UINT64": "uint64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
Draw = Callable[[int, tuple[int, ...]], Array]
Pick = Callable[[int], int]
Lengths = Callable[[tuple[int, int]], NDArray[np.int64]]

_ANY_ID = 10_000  # hashed ids may be anything: draw below this
_VARYING = 8  # size of a varying dimension that no reference tells
_BAG = 6  # mean bag length that no reference tells


def rows(plan: Plan, batch: int, rng: np.random.Generator, *, references: Mapping[str, Array] | None = None) -> dict[str, Array]:
    """Random valid inputs of the ensemble, `batch` rows: ids uniform over their tables, the rest as in `references`."""
    bags = {name: item for item in plan.bags for name in (item.values, item.lengths, item.weights) if name is not None}
    made: dict[str, Array] = {}
    for item in plan.bags:
        made.update(_bags(plan, item, batch, rng, references or {}))
    for tensor in plan.inputs:
        if tensor.name not in bags:
            made[tensor.name] = _tensor(plan, tensor, batch, rng, references or {})
    return {tensor.name: made[tensor.name] for tensor in plan.inputs}


def cases(plan: Plan, rng: np.random.Generator, *, references: Mapping[str, Array] | None = None) -> Iterator[tuple[str, dict[str, Array]]]:
    """Named inputs for a parity check: one row, an odd batch, the largest batch, first and last rows, duplicates, empty and long bags."""
    if references is not None and next(iter(references.values()), np.zeros(0)).shape[:1] not in ((), (0,)):
        yield "example", {name: data.copy() for name, data in references.items()}
    yield "one row", rows(plan, 1, rng, references=references)
    yield "odd batch", rows(plan, min(7, plan.max_batch_size), rng, references=references)
    few = min(4, plan.max_batch_size)
    yield "first rows", _with_ids(plan, rows(plan, few, rng, references=references), last=False)
    yield "last rows", _with_ids(plan, rows(plan, few, rng, references=references), last=True)
    yield "duplicates", {name: np.repeat(data, few, axis=0) for name, data in rows(plan, 1, rng, references=references).items()}
    if plan.bags:
        yield "empty bags", _lengths(plan, few, rng, references or {}, lambda shape: np.zeros(shape, dtype=np.int64))
        yield "some empty bags", _lengths(plan, few, rng, references or {}, lambda shape: rng.integers(0, 2, shape) * 3)
        yield "one long bag", _lengths(plan, few, rng, references or {}, _one_long)
    if plan.max_batch_size > 7:
        # A few rows over and over: 2048 different ones would touch, and so map, most pages of a 10 GB table.
        size = plan.max_batch_size
        yield (
            "largest batch",
            {name: np.resize(data, (size, *data.shape[1:])) for name, data in rows(plan, min(8, size), rng, references=references).items()},
        )


def id_columns(plan: Plan, name: str) -> list[tuple[tuple[int, int] | None, int]]:
    """The id columns of an input: (columns or None for all, exclusive limit of its ids), the smallest limit where lookups share them."""
    limits: dict[tuple[int, int] | None, int] = {}
    for lookup in plan.lookups:
        if name in lookup.input.split(", "):
            limit = lookup.limit if lookup.limit is not None else _ANY_ID
            limits[lookup.columns] = min(limits.get(lookup.columns, limit), limit)
    return list(limits.items())


def _tensor(plan: Plan, tensor: Tensor, batch: int, rng: np.random.Generator, references: Mapping[str, Array]) -> Array:
    dtype = np.dtype(NUMPY[tensor.dtype])
    reference = references.get(tensor.name)
    shape = [batch, *(_dim(size, reference, axis + 1) for axis, size in enumerate(tensor.dims))]
    if reference is not None and len(reference):
        data = reference[rng.integers(0, len(reference), batch)].astype(dtype)
    elif dtype.kind == "f":
        data = rng.standard_normal(shape).astype(dtype)
    elif dtype.kind == "b":
        data = rng.integers(0, 2, shape).astype(dtype)
    else:
        data = rng.integers(0, 2, shape).astype(dtype)
    return _fill_ids(plan, tensor.name, data, lambda limit, size: rng.integers(0, max(limit, 1), size))


def _fill_ids(plan: Plan, name: str, data: Array, draw: Draw) -> Array:
    """Write ids into the id columns of an input, broadest columns first so that the narrower limits win."""
    data = data.copy()
    for columns, limit in sorted(id_columns(plan, name), key=lambda item: (item[0] is not None, -item[1])):
        limit = min(limit, 2**24) if data.dtype.kind == "f" else limit  # whole numbers that a float32 holds
        target = data if columns is None or data.ndim < 2 else data[:, columns[0] : columns[1]]
        target[...] = draw(limit, target.shape).astype(data.dtype)
    return data


def _with_ids(plan: Plan, inputs: dict[str, Array], *, last: bool) -> dict[str, Array]:
    """The same inputs with every id the first, or the last, of its table."""
    values = {bags.values for bags in plan.bags}
    filled = {}
    for name, data in inputs.items():
        if name in values:
            filled[name] = _bag_ids(
                plan, next(bags for bags in plan.bags if bags.values == name), inputs, lambda limit: limit - 1 if last else 0
            )
        else:
            filled[name] = _fill_ids(plan, name, data, lambda limit, size: np.full(size, limit - 1 if last else 0))
    return filled


def _bags(plan: Plan, bags: Bags, batch: int, rng: np.random.Generator, references: Mapping[str, Array]) -> dict[str, Array]:
    reference = references.get(bags.lengths)
    shape = (batch, len(bags.features))
    if reference is not None and len(reference):
        lengths = reference[rng.integers(0, len(reference), batch)].astype(np.int64)
    else:
        lengths = rng.integers(0, 2 * _BAG + 1, shape)
    return _with_lengths(plan, bags, lengths, rng)


def _with_lengths(plan: Plan, bags: Bags, lengths: NDArray[np.int64], rng: np.random.Generator) -> dict[str, Array]:
    slots = max(int(lengths.sum(axis=1).max(initial=0)), 1)
    tensors = {tensor.name: tensor for tensor in plan.inputs}
    made: dict[str, Array] = {bags.lengths: lengths}
    made[bags.values] = np.zeros((len(lengths), slots), dtype=NUMPY[tensors[bags.values].dtype])
    made[bags.values] = _bag_ids(plan, bags, made, lambda limit: int(rng.integers(0, limit)), rng=rng)
    if bags.weights is not None:
        made[bags.weights] = rng.random((len(lengths), slots)).astype(NUMPY[tensors[bags.weights].dtype])
    return made


def _bag_ids(plan: Plan, bags: Bags, inputs: Mapping[str, Array], pick: Pick, *, rng: np.random.Generator | None = None) -> Array:
    """Ids for every slot of the bags: feature by feature, each below its own limit."""
    limits = [_ANY_ID] * len(bags.features)
    for columns, limit in id_columns(plan, bags.values):
        for feature in range(*columns) if columns is not None else range(len(limits)):
            limits[feature] = min(limits[feature], limit)
    lengths = np.asarray(inputs[bags.lengths]).astype(np.int64)
    data = np.zeros_like(np.asarray(inputs[bags.values]))
    ends = np.cumsum(lengths, axis=1)
    slot = np.arange(data.shape[1])
    for feature, limit in enumerate(limits):
        inside = (slot >= (ends - lengths)[:, feature : feature + 1]) & (slot < ends[:, feature : feature + 1])
        drawn = rng.integers(0, max(limit, 1), data.shape) if rng is not None else np.full(data.shape, pick(max(limit, 1)))
        data = np.where(inside, drawn, data).astype(data.dtype)
    return data


def _lengths(
    plan: Plan, batch: int, rng: np.random.Generator, references: Mapping[str, Array], shape_to_lengths: Lengths
) -> dict[str, Array]:
    """Random inputs whose bags have the lengths that a function of the shape gives."""
    made = rows(plan, batch, rng, references=references)
    for bags in plan.bags:
        made.update(_with_lengths(plan, bags, np.asarray(shape_to_lengths((batch, len(bags.features)))), rng))
    return made


def _one_long(shape: tuple[int, int]) -> NDArray[np.int64]:
    lengths = np.ones(shape, dtype=np.int64)
    lengths[-1, -1] = 200
    return lengths


def _dim(size: int, reference: Array | None, axis: int) -> int:
    if size != -1:
        return size
    return reference.shape[axis] if reference is not None else _VARYING
