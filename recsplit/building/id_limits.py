"""Which ids a client may send: of computed ids, found by asking the part of the cut that checks them.

A traced column tells its own limit. For the others a row of valid ids gets one number in every column that isn't
traced, and is checked: doubling the number, then halving. This assumes that the valid ids of an input are
0 .. limit - 1, perhaps without 0 itself.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import RecsplitError
from recsplit.plan.dtypes import NUMPY
from recsplit.plan.plan import Bags, Lookup, Tensor
from recsplit.proof.samples import ANY, lowest, whole_numbers

Array = NDArray[np.generic]
#: From inputs of the ensemble to BOOL [batch]: whether all ids of a row are inside their tables.
Known = Callable[[Mapping[str, Array]], NDArray[np.bool_]]

_REFERENCES = 4  # rows of the example that limits are probed in, besides one of zeros and one of ones


def probe(
    lookups: Sequence[Lookup],
    inputs: Sequence[Tensor],
    bags: Sequence[Bags],
    known: Known,
    *,
    references: Mapping[str, Array] | None = None,
) -> tuple[Lookup, ...]:
    """The lookups with the limits of computed ids filled in; None stays where no row of valid ids is found.

    `inputs` and `bags` are the ensemble's; `references`: inputs known to be valid.
    """
    unknown = {name for lookup in lookups if lookup.limit is None for name in lookup.inputs}
    if not unknown:
        return tuple(lookups)
    valid = [row for row in _bases(lookups, inputs, bags, references or {}) if _accepted(known, row)]
    tensors = {tensor.name: tensor for tensor in inputs}
    limits = {name: _limit(lookups, tensors[name], valid, known) for name in sorted(unknown) if name in tensors}

    def limit_of(lookup: Lookup) -> int | None:
        return min((limit for name in lookup.inputs if (limit := limits.get(name)) is not None), default=None)

    return tuple(lookup if lookup.limit is not None else dataclasses.replace(lookup, limit=limit_of(lookup)) for lookup in lookups)


def _bases(
    lookups: Sequence[Lookup], inputs: Sequence[Tensor], bags: Sequence[Bags], references: Mapping[str, Array]
) -> list[dict[str, Array]]:
    """Rows to put numbers into: all zeros, all ones (a mask of zeros hides ids), and some of the example."""
    rows = [{tensor.name: _full(lookups, bags, tensor, number) for tensor in inputs} for number in (0, 1)]
    if not bags and all(tensor.name in references for tensor in inputs):
        size = min(len(references[tensor.name]) for tensor in inputs)
        rows += [{tensor.name: references[tensor.name][row : row + 1] for tensor in inputs} for row in range(min(size, _REFERENCES))]
    return rows


def _full(lookups: Sequence[Lookup], bags: Sequence[Bags], tensor: Tensor, number: int) -> Array:
    """One row full of a number, or of the smallest id where that is larger; bags of one id each."""
    lengths = {group.lengths for group in bags}
    slots = {name: len(group.features) for group in bags for name in (group.values, group.weights) if name is not None}
    dims = [slots.get(tensor.name, 2) if size == -1 else size for size in tensor.dims]
    data = np.full([1, *dims], 1 if tensor.name in lengths else number, dtype=NUMPY[tensor.dtype])
    for columns, low in lowest(lookups, tensor.name):
        target = data if columns is None else data.reshape(1, -1)[:, columns[0] : columns[1]]
        np.maximum(target, np.asarray(low).astype(data.dtype), out=target)
    return data


def _limit(lookups: Sequence[Lookup], tensor: Tensor, valid: Sequence[Mapping[str, Array]], known: Known) -> int | None:
    """The smallest id of an input that is unknown in one of the valid rows; ANY if none is, None if nothing is known."""
    largest = min(ANY, whole_numbers(NUMPY[tensor.dtype]))
    traced = [lookup.columns for lookup in lookups if lookup.direct and lookup.inputs == (tensor.name,) and lookup.columns is not None]

    def accepts(base: Mapping[str, Array], number: int) -> bool:
        data, start = np.full(base[tensor.name].shape, number, base[tensor.name].dtype), base[tensor.name]
        for first, last in traced:
            data.reshape(len(data), -1)[:, first:last] = start.reshape(len(start), -1)[:, first:last]
        return _accepted(known, {**base, tensor.name: data})

    limits = []
    for base in valid:
        good = next((number for number in (0, 1) if accepts(base, number)), None)
        if good is None:
            continue
        bad = good + 1
        while bad < largest and accepts(base, bad):
            good, bad = bad, bad * 2
        if bad >= largest:
            good, bad = (largest - 1, largest) if accepts(base, largest - 1) else (good, largest - 1)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if accepts(base, middle) else (good, middle)
        limits.append(ANY if bad == largest else bad)
    return min(limits, default=None)


def _accepted(known: Known, inputs: Mapping[str, Array]) -> bool:
    """Whether all ids are inside their tables. An input may also hold places in a row, and the model fails on a place outside."""
    try:
        return bool(known(inputs).all())
    except RecsplitError:
        return False
