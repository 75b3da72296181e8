"""Inputs that break models, row by row: each input of a row is filled in one of the ways of FILLS.

Pure: plan and random generator in, arrays out. What the cases of `samples` leave out: masks of zeros and of ones, zeros, negative, tiny and
huge numbers, NaN, ids at and beyond every border, bags of all lengths and lengths that can't be, garbage in slots that hold no id.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from recsplit.plan.plan import Bags, Plan
from recsplit.proof import samples
from recsplit.proof.samples import Array

#: How one row is filled: the fill of each input by its name; the others are as usual.
Fills = Mapping[str, str]

USUAL, NAN, HUGE, WRONG = "usual", "NaN", "huge", ("negative lengths", "lengths beyond the slots", "lengths of 2**62")

#: Numbers that are no ids. Whole numbers are only filled with those that no model takes for a size of gigabytes.
_PLACE = "a thousand"
_NUMBERS = {
    "zeros": 0.0, "ones": 1.0, "minus ones": -1.0, "tiny": 1e-9, _PLACE: 1e3, "large": 1e4, "large and negative": -1e4, HUGE: 1e30,
    NAN: np.nan,
}  # fmt: skip
_WHOLE = ("zeros", "ones", "minus ones", "zeros and ones", _PLACE)
_IDS = {
    "id -1": -1, "id -2**31": -(2**31), "id -2**63": -(2**63), "id 2**31 - 1": 2**31 - 1, "id 2**31": 2**31, "id 2**31 + 5": 2**31 + 5,
    "id 3 * 10**9": 3 * 10**9, "id 2**32 + 3": 2**32 + 3, "id 2**62": 2**62, "id 2**63 - 1": 2**63 - 1,
}  # fmt: skip
_BORDERS = ("first ids", "last ids", "ids just beyond", "ids of any size")
_LENGTHS = ("empty bags", "bags of one", "uneven bags", "a long bag", *WRONG)
_MOST_ALONE = 512  # of models with hundreds of inputs
_LONG = 70  # more than a chunk of ragged_bags


def fills_of(plan: Plan, name: str) -> tuple[str, ...]:
    """The fills that an input can have besides the usual one."""
    dtype = samples.dtype_of(plan, name)
    if any(name == bags.lengths for bags in plan.bags):
        return _LENGTHS
    if samples.id_columns(plan.lookups, name):
        most, least = samples.whole_numbers(dtype), 0 if dtype.kind in "ub" else -samples.whole_numbers(dtype)
        numbers = tuple(text for text, number in _IDS.items() if least <= number < most)
        return (*_BORDERS, *numbers, NAN) if dtype.kind == "f" else (*_BORDERS, *numbers)
    if dtype.kind == "f":
        return (*_NUMBERS, "zeros and ones", "negative")
    return ("zeros", "ones", "zeros and ones") if dtype.kind in "bu" else _WHOLE


def systematic(plan: Plan) -> list[Fills]:
    """Rows in which all inputs of a kind are filled alike, then rows in which one input alone is: all of them, or _MOST_ALONE."""
    by_input = {tensor.name: fills_of(plan, tensor.name) for tensor in plan.inputs}
    together = [{name: fill for name, fills in by_input.items() if fill in fills} for fill in dict.fromkeys(sum(by_input.values(), ()))]
    alone = [{name: fill} for name, fills in by_input.items() for fill in fills] if len(by_input) > 1 else []
    chosen = (
        sorted(np.random.default_rng(0).choice(len(alone), _MOST_ALONE, replace=False)) if len(alone) > _MOST_ALONE else range(len(alone))
    )
    return [*together, *(alone[index] for index in chosen)]


def drawn(plan: Plan, rng: np.random.Generator) -> Fills:
    """A row in which each input is filled at random, half of them as usual."""
    return {
        tensor.name: str(rng.choice(_mixed(plan, tensor.name))) for tensor in plan.inputs if rng.random() < 1 / 2 or len(plan.inputs) == 1
    }


def changed(plan: Plan, fills: Fills, rng: np.random.Generator) -> Fills:
    """`fills` with another fill, or the usual one, in one input."""
    name = str(rng.choice([tensor.name for tensor in plan.inputs]))
    return {**fills, name: str(rng.choice([USUAL, *_mixed(plan, name)]))}


def _mixed(plan: Plan, name: str) -> list[str]:
    """The fills that go with any others: not a place that may be outside of what it is read from, for of a row that holds an unknown id
    as well the source can't be asked whether it can answer."""
    return [fill for fill in fills_of(plan, name) if fill != _PLACE or samples.dtype_of(plan, name).kind == "f"]


def batch(
    plan: Plan, rows: Sequence[Fills], rng: np.random.Generator, *, references: Mapping[str, Array] | None, draw: samples.Draw | None
) -> dict[str, Array]:
    """Inputs of the ensemble with a row for each of `rows`; what isn't filled, and dimensions that vary, as in `samples.rows`."""
    inputs = samples.rows(plan, len(rows), rng, references=references, draw=draw)
    shared: dict[str, tuple[Array, int]] = {}  # groups of the same offsets have the same lengths, and as many slots
    for bags in plan.bags:
        if bags.lengths not in shared:
            shared[bags.lengths] = _lengths(rows, bags.lengths, inputs[bags.lengths].astype(np.int64), rng)
        counts, slots = shared[bags.lengths]
        inputs |= _slots(plan, bags, rows, counts, slots, inputs, rng, draw or rng.integers)
    for name, (counts, slots) in shared.items():
        inputs[name] = _wrong(rows, name, counts, slots, rng).astype(inputs[name].dtype)
    for tensor in plan.inputs:
        name = tensor.name
        if any(name in (bags.lengths, bags.values) for bags in plan.bags):
            continue
        inputs[name] = inputs[name].copy()
        for index, fills in enumerate(rows):
            fill = fills.get(name, USUAL)
            if fill != USUAL:
                with np.errstate(over="ignore", invalid="ignore"):  # numbers beyond the dtype are among what is tried
                    inputs[name][index] = _filled(plan, name, inputs[name][index : index + 1], fill, rng)[0]
    return inputs


def resized(plan: Plan, inputs: Mapping[str, Array], variant: int) -> dict[str, Array]:
    """`inputs` with other sizes where a dimension may vary: as they are, all 1, or another size for each input, by `variant` modulo 3."""
    ragged = {name for bags in plan.bags for name in (bags.values, bags.lengths, bags.weights)}
    resized_inputs, size = dict(inputs), 2
    for tensor in plan.inputs:
        for axis in (axis for axis, dim in enumerate(tensor.dims, 1) if dim == -1 and tensor.name not in ragged and variant % 3):
            size += 3
            data = resized_inputs[tensor.name]
            new_size = 1 if variant % 3 == 1 else size
            resized_inputs[tensor.name] = np.take(data, np.arange(new_size) % data.shape[axis], axis=axis)
    return resized_inputs


def _filled(plan: Plan, name: str, row: Array, fill: str, rng: np.random.Generator) -> Array:
    """One row [1, ...] of an input, filled."""
    columns = samples.id_columns(plan.lookups, name)
    if not columns:
        if fill == "zeros and ones":
            return rng.integers(0, 2, row.shape).astype(row.dtype)
        if fill == "negative":
            return -(np.abs(row.astype(np.float64)) + 0.5).astype(row.dtype)
        return np.full_like(row, _NUMBERS[fill])

    return samples.fill_ids(row, columns, _ids(fill, rng), within=False)


def _ids(fill: str, rng: np.random.Generator) -> samples.Draw:
    """Ids by their fill."""

    def draw(low: int, limit: int, shape: tuple[int, ...]) -> Array:
        if fill == "ids of any size":
            return rng.choice(np.array([*_IDS.values(), low, limit - 1, limit], dtype=np.int64), shape)
        ids = {"first ids": low, "last ids": limit - 1, "ids just beyond": limit, NAN: np.nan, **_IDS}
        return np.full(shape, ids[fill])

    return draw


def _lengths(rows: Sequence[Fills], name: str, counts: Array, rng: np.random.Generator) -> tuple[Array, int]:
    """One lengths input [batch, features] as filled, without the wrong ones; and the slots of its values, some more than are needed."""
    for index, fills in enumerate(rows):
        fill, features = fills.get(name, USUAL), counts.shape[1]
        if fill == "empty bags":
            counts[index] = 0
        elif fill == "bags of one":
            counts[index] = 1
        elif fill == "uneven bags":
            counts[index] = rng.permutation(features + 3)[:features]
        elif fill == "a long bag":
            counts[index, rng.integers(features)] = _LONG
    return counts, int(counts.sum(axis=1).max(initial=0)) + 1 + int(rng.integers(0, 4))


def _slots(
    plan: Plan,
    bags: Bags,
    rows: Sequence[Fills],
    counts: Array,
    slots: int,
    inputs: Mapping[str, Array],
    rng: np.random.Generator,
    draw: samples.Draw,
) -> dict[str, Array]:
    """One group's ids [batch, slots], and its weights, with garbage in every slot that holds no id."""
    empty = np.zeros((len(rows), slots), inputs[bags.values].dtype)
    ids = samples.bag_ids(plan, bags, counts, empty, draw)
    for index, fills in enumerate(rows):
        fill = fills.get(bags.values, USUAL)
        if fill != USUAL:
            ids[index] = samples.bag_ids(plan, bags, counts[index : index + 1], empty[index : index + 1], _ids(fill, rng))[0]
    unused = np.arange(slots) >= counts.sum(axis=1, keepdims=True)
    filled: dict[str, Array] = {bags.values: np.where(unused, np.iinfo(ids.dtype.name).max if ids.dtype.kind in "iu" else 1, ids)}
    if bags.weights is not None:
        filled[bags.weights] = np.where(unused, np.nan, rng.random(empty.shape)).astype(inputs[bags.weights].dtype)
    return filled


def _wrong(rows: Sequence[Fills], name: str, counts: Array, slots: int, rng: np.random.Generator) -> Array:
    """The lengths with those that can't be read."""
    wrong = {WRONG[0]: -1, WRONG[1]: slots + 1, WRONG[2]: 2**62}
    for index, fills in enumerate(rows):
        if fills.get(name) in wrong:
            counts[index, rng.integers(counts.shape[1])] = wrong[fills[name]]
    return counts
