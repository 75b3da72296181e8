"""Inputs for the ensemble, made from the plan: valid ids, and the edge cases that a parity check wants.

Pure: plan and random generator in, arrays out. `references` (inputs known to be valid, such as the source's own
example) lend their values to whatever isn't an id, so that dense features look like the real ones.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from recsplit.capacity import ids
from recsplit.capacity.ids import Skew
from recsplit.plan.dtypes import NUMPY, SIZE_BYTES
from recsplit.plan.plan import Bags, Lookup, Plan, Tensor

Array = NDArray[np.generic]

#: Ids of a shape from the smallest valid one up to a limit.
Draw = Callable[[int, int, tuple[int, ...]], Array]
#: Bag lengths [batch, features] of a shape.
DrawLengths = Callable[[tuple[int, int]], Array]

#: The limit that stands for "any id".
ANY = 2**31

#: Names of cases: the one that the source brought along, the smallest batch, and the one that the largest repeats.
EXAMPLE = "example"
ONE_ROW = "one row"
ODD_BATCH = "odd batch"

_ANY_ID = 10_000  # hashed ids may be anything: draw below this
_VARYING = 8  # size of a varying dimension that no reference tells
_BAG = 6  # mean bag length that no reference tells
_ODD = 7
_PLACES = 8
_LARGE_TABLE = 1_000_000  # rows
_LARGEST_BYTES = 256 << 20  # a proof with the largest batch must not take all memory: then a smaller one is the largest


def rows(
    plan: Plan, batch: int, rng: np.random.Generator, *, references: Mapping[str, Array] | None = None, draw: Draw | None = None
) -> dict[str, Array]:
    """Random valid inputs of the ensemble, `batch` rows: ids from `draw`, else uniform over their tables; the rest as in `references`."""
    draw = draw or rng.integers
    arrays_by_name = _bags(plan, batch, rng, references or {}, lambda shape: rng.integers(0, 2 * _BAG + 1, shape), draw)
    for tensor in plan.inputs:
        if tensor.name not in arrays_by_name:
            arrays_by_name[tensor.name] = _tensor(plan, tensor, batch, rng, references or {}, draw)
    return {tensor.name: arrays_by_name[tensor.name] for tensor in plan.inputs}


def by_law(law: Skew, rng: np.random.Generator) -> Draw:
    """Ids that follow a workload's law, for `rows`: each id column as a table of as many rows as it has valid ids."""

    def draw(low: int, limit: int, shape: tuple[int, ...]) -> Array:
        return low + ids.draw(law, limit - low, math.prod(shape), rng).reshape(shape)

    return draw


def few_places(rng: np.random.Generator) -> Draw:
    """Ids for `rows`: any of a small table, few of a large one. Another row there is another page of the disk, and proves no more."""

    def draw(low: int, limit: int, shape: tuple[int, ...]) -> Array:
        return rng.choice(rng.integers(low, limit, _PLACES), shape) if limit - low > _LARGE_TABLE else rng.integers(low, limit, shape)

    return draw


def cases(plan: Plan, rng: np.random.Generator, *, references: Mapping[str, Array] | None = None) -> Iterator[tuple[str, dict[str, Array]]]:
    """Named inputs for a parity check: one row, an odd batch, the largest batch, first and last rows, duplicates, empty and long bags."""
    if references is not None and next(iter(references.values()), np.zeros(0)).shape[:1] not in ((), (0,)):
        yield EXAMPLE, {name: data.copy() for name, data in references.items()}

    draw = few_places(rng)

    def drawn(batch: int) -> dict[str, Array]:
        return rows(plan, batch, rng, references=references, draw=draw)

    yield ONE_ROW, drawn(1)
    odd = drawn(min(_ODD, plan.max_batch_size))
    yield ODD_BATCH, odd
    few = min(4, plan.max_batch_size)
    yield "first rows", _with_ids(plan, drawn(few), last=False)
    yield "last rows", _with_ids(plan, drawn(few), last=True)
    yield "duplicates", {name: np.repeat(data, few, axis=0) for name, data in drawn(1).items()}
    if plan.bags:
        for name, draw_lengths in _edge_lengths(rng).items():
            yield name, drawn(few) | _bags(plan, few, rng, {}, draw_lengths, draw)
    if plan.max_batch_size > _ODD:
        # The same rows over and over: 2048 different ones would touch, and so map, most pages of a 10 GB table.
        size = min(plan.max_batch_size, max(_ODD + 1, _LARGEST_BYTES // _row_bytes(plan)))
        name = "largest batch" if size == plan.max_batch_size else f"batch of {size}"
        yield name, {key: np.resize(data, (size, *data.shape[1:])) for key, data in odd.items()}


def _row_bytes(plan: Plan) -> int:
    """About how much memory a row takes: what goes in, across and out, and every vector that is looked up for it."""
    tensors = sum(
        math.prod(size if size > 0 else _VARYING for size in tensor.dims) * SIZE_BYTES[tensor.dtype]
        for tensor in (*plan.inputs, *plan.boundary, *plan.outputs)
    )
    vectors = {table.name: table.size_bytes // table.rows for table in plan.tables}
    return tensors + sum(lookup.width * vectors[lookup.table] for lookup in plan.lookups)


def id_columns(lookups: Sequence[Lookup], name: str) -> list[tuple[tuple[int, int] | None, int, int]]:
    """The id columns of an input: (columns or None for all, smallest id, exclusive limit), the narrowest where lookups share them."""
    bounds: dict[tuple[int, int] | None, tuple[int, int]] = {}
    for lookup in lookups:
        if name in lookup.inputs:
            low, limit = max(0, -lookup.shift), lookup.limit if lookup.limit is not None else _ANY_ID
            known = bounds.get(lookup.columns, (low, limit))
            bounds[lookup.columns] = max(known[0], low), min(known[1], limit)
    return [(columns, *span) for columns, span in bounds.items()]


def lowest(lookups: Sequence[Lookup], name: str) -> list[tuple[tuple[int, int] | None, int]]:
    """The smallest ids of an input's columns (None: of all): above 0 where ids are counted from 1."""
    return [(columns, low) for columns, low, _ in id_columns(lookups, name)]


def dtype_of(plan: Plan, name: str) -> np.dtype[np.generic]:
    """The numpy dtype of an input of the ensemble."""
    return np.dtype(next(NUMPY[tensor.dtype] for tensor in plan.inputs if tensor.name == name))


def whole_numbers(dtype: DTypeLike) -> int:
    """How many whole numbers from 0 on a dtype holds without gaps."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return int(2 ** (np.finfo(kind.name).nmant + 1))
    return 2 if kind.kind == "b" else int(np.iinfo(kind.name).max) + 1


def _tensor(plan: Plan, tensor: Tensor, batch: int, rng: np.random.Generator, references: Mapping[str, Array], draw: Draw) -> Array:
    dtype = np.dtype(NUMPY[tensor.dtype])
    reference = references.get(tensor.name)
    shape = [batch, *(_dim(size, reference, axis + 1) for axis, size in enumerate(tensor.dims))]
    columns = id_columns(plan.lookups, tensor.name)
    if reference is not None and len(reference):
        data = reference[rng.integers(0, len(reference), batch)].astype(dtype)
        # Numbers of any size are bucketized or clipped: those of the example mean more than random ones.
        columns = [item for item in columns if item[2] < ANY or dtype.kind != "f"]
    elif dtype.kind == "f":
        data = rng.standard_normal(shape).astype(dtype)
    else:
        data = rng.integers(0, 2, shape).astype(dtype)
    return fill_ids(data, columns, draw)


def fill_ids(data: Array, columns: Sequence[tuple[tuple[int, int] | None, int, int]], draw: Draw, *, within: bool = True) -> Array:
    """Write ids into the id columns of an input, broadest columns first so that the narrower limits win.

    `within`: below what the input's dtype can hold, as ids of a table must be that are to be valid.
    """
    data = np.array(data, order="C")
    by_column = data.reshape(len(data), -1)
    for span, low, limit in sorted(columns, key=lambda item: (item[0] is not None, -item[2])):
        target = data if span is None else by_column[:, span[0] : span[1]]
        if within:
            limit = max(min(limit, whole_numbers(data.dtype)), low + 1)
        target[...] = draw(low, limit, target.shape).astype(data.dtype)
    return data


def _with_ids(plan: Plan, inputs: dict[str, Array], *, last: bool) -> dict[str, Array]:
    """The same inputs with every id the first, or the last, of its table."""

    def pick(low: int, limit: int, size: tuple[int, ...]) -> Array:
        return np.full(size, limit - 1 if last else low)

    values = {bags.values: bags for bags in plan.bags}
    filled = {name: data if name in values else fill_ids(data, id_columns(plan.lookups, name), pick) for name, data in inputs.items()}
    for name, bags in values.items():
        filled[name] = bag_ids(plan, bags, inputs[bags.lengths], inputs[name], pick)
    return filled


def _bags(
    plan: Plan, batch: int, rng: np.random.Generator, references: Mapping[str, Array], draw_lengths: DrawLengths, draw: Draw
) -> dict[str, Array]:
    """All ragged inputs: lengths as in `references`, else as drawn, the same where two groups share them; ids that fit."""
    tensors = {tensor.name: tensor for tensor in plan.inputs}
    ragged_inputs: dict[str, Array] = {}
    for bags in plan.bags:
        reference = references.get(bags.lengths)
        if bags.lengths not in ragged_inputs and reference is not None and len(reference):
            ragged_inputs[bags.lengths] = reference[rng.integers(0, len(reference), batch)].astype(np.int64)
        elif bags.lengths not in ragged_inputs:
            ragged_inputs[bags.lengths] = np.asarray(draw_lengths((batch, len(bags.features)))).astype(np.int64)
        slots = max(int(ragged_inputs[bags.lengths].astype(np.int64).sum(axis=1).max(initial=0)), 1)
        empty = np.zeros((batch, slots), dtype=NUMPY[tensors[bags.values].dtype])
        ragged_inputs[bags.values] = bag_ids(plan, bags, ragged_inputs[bags.lengths], empty, draw)
        if bags.weights is not None:
            ragged_inputs[bags.weights] = rng.random((batch, slots)).astype(NUMPY[tensors[bags.weights].dtype])
    return ragged_inputs


def bag_ids(plan: Plan, bags: Bags, lengths: Array, values: Array, draw: Draw) -> Array:
    """`values` [batch, slots] with ids in every slot that the lengths tell of: feature by feature, each inside its own bounds."""
    bounds = [(0, _ANY_ID)] * len(bags.features)
    for columns, low, limit in sorted(id_columns(plan.lookups, bags.values), key=lambda item: (item[0] is not None, -item[2])):
        for feature in range(*columns) if columns is not None else range(len(bounds)):
            bounds[feature] = low, limit
    counts = lengths.astype(np.int64)
    ends = np.cumsum(counts, axis=1)
    slot = np.arange(values.shape[1])
    for feature, (low, limit) in enumerate(bounds):
        inside = (slot >= (ends - counts)[:, feature : feature + 1]) & (slot < ends[:, feature : feature + 1])
        limit = max(min(limit, whole_numbers(values.dtype)), low + 1)
        values = np.where(inside, draw(low, limit, values.shape), values).astype(values.dtype)
    return values


def _edge_lengths(rng: np.random.Generator) -> dict[str, DrawLengths]:
    """Bag lengths that a parity check wants, by name."""

    def one_long(shape: tuple[int, int]) -> Array:
        lengths = np.ones(shape)
        lengths[-1, -1] = 200
        return lengths

    return {"empty bags": np.zeros, "some empty bags": lambda shape: rng.integers(0, 2, shape) * 3, "one long bag": one_long}


def _dim(size: int, reference: Array | None, axis: int) -> int:
    if size != -1:
        return size
    return reference.shape[axis] if reference is not None else _VARYING
