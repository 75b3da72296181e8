"""Ragged inputs, from a model's own (values, offsets | lengths) to rows that Triton can batch, and back.

numpy in, numpy out; nothing here knows Triton or ONNX. The two forms are described at plan.Bags.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import InputError
from recsplit.plan.plan import Bags

Array = NDArray[np.generic]


def to_rows(bags: Bags, source: Mapping[str, Array], *, slots_multiple: int = 1) -> dict[str, Array]:
    """The ensemble's inputs for one ragged group, from the model's own inputs.

    Rows are padded with zeros to the longest row, rounded up to `slots_multiple` so that requests of about
    the same length share a shape and Triton can batch them. Raises InputError where lengths and values disagree.
    """
    values = np.asarray(source[bags.source_values])
    features = len(bags.features)
    lengths = bag_lengths(bags, source, len(values)).reshape(features, -1).T  # [batch, features]
    # Each for itself, too: the sum of lengths near 2**62 is any number.
    if lengths.min(initial=0) < 0 or lengths.max(initial=0) > len(values) or int(lengths.sum()) != len(values):
        name = bags.source_offsets or bags.source_lengths
        shortest = int(lengths.min(initial=0))
        negative = f", and a bag has length {shortest}" if shortest < 0 else ""
        described = sum(int(length) for length in lengths.reshape(-1))
        raise InputError(
            f"input {name!r} describes {described} ids and input {bags.source_values!r} holds {len(values)}{negative}",
            hint="offsets start at 0, never fall, and end at the number of values; lengths add up to it",
        )
    batch, per_row = len(lengths), lengths.sum(axis=1)
    slots = -(-max(int(per_row.max(initial=0)), 1) // slots_multiple) * slots_multiple
    # values lie key-major (all rows of feature 0, then of feature 1, ...): where does each id go?
    flat = lengths.T.reshape(-1)  # key-major lengths
    row = np.tile(np.arange(batch), features).repeat(flat)
    start_in_row = (np.cumsum(lengths, axis=1) - lengths).T.reshape(-1).repeat(flat)
    within = np.arange(len(values)) - (np.cumsum(flat) - flat).repeat(flat)
    place = row * slots + start_in_row + within
    rows: dict[str, Array] = {bags.lengths: lengths.astype(np.int64)}
    for name, origin in ((bags.values, bags.source_values), (bags.weights, bags.source_weights)):
        if name is not None and origin is not None:
            padded = np.zeros(batch * slots, dtype=np.asarray(source[origin]).dtype)
            padded[place] = source[origin]
            rows[name] = padded.reshape(batch, slots)
    return rows


def from_rows(bags: Bags, rows: Mapping[str, Array]) -> dict[str, Array]:
    """The model's own inputs from the ensemble's: the inverse of `to_rows`.

    With `source_row` set, the offsets hold that one feature; `source_inputs` stacks them.
    """
    lengths = np.asarray(rows[bags.lengths]).astype(np.int64)  # [batch, features]
    slots = np.asarray(rows[bags.values]).shape[1]
    flat = lengths.T.reshape(-1)
    row = np.tile(np.arange(len(lengths)), lengths.shape[1]).repeat(flat)
    start_in_row = (np.cumsum(lengths, axis=1) - lengths).T.reshape(-1).repeat(flat)
    within = np.arange(int(flat.sum())) - (np.cumsum(flat) - flat).repeat(flat)
    place = row * slots + start_in_row + within
    source: dict[str, Array] = {}
    for name, origin in ((bags.values, bags.source_values), (bags.weights, bags.source_weights)):
        if name is not None and origin is not None:
            source[origin] = np.asarray(rows[name]).reshape(-1)[place]
    if bags.source_lengths is not None:
        source[bags.source_lengths] = flat
    if bags.source_offsets is not None:
        ends = np.cumsum(flat)
        source[bags.source_offsets] = np.concatenate([[0], ends if bags.include_last_offset else ends[:-1]])
    return source


def source_inputs(groups: Sequence[Bags], rows: Mapping[str, Array]) -> dict[str, Array]:
    """All of the model's own inputs from the ensemble's: ragged groups converted, offsets of stacked groups stacked."""
    ragged = {name for bags in groups for name in (bags.values, bags.lengths, bags.weights) if name is not None}
    source = {name: data for name, data in rows.items() if name not in ragged}
    stacked: dict[str, dict[int, Array]] = {}
    for bags in groups:
        group_inputs = from_rows(bags, rows)
        if bags.source_row is not None and bags.source_offsets is not None:
            stacked.setdefault(bags.source_offsets, {})[bags.source_row] = group_inputs.pop(bags.source_offsets)
        source.update(group_inputs)
    source.update({name: np.stack([offsets[row] for row in sorted(offsets)]) for name, offsets in stacked.items()})
    return source


def bag_lengths(bags: Bags, source: Mapping[str, Array], values: int) -> NDArray[np.int64]:
    """Bag lengths INT64 [features * batch], key-major, whichever way the model has them; `values` is the number of ids."""
    if bags.source_lengths is not None:
        return np.asarray(source[bags.source_lengths]).astype(np.int64).reshape(-1)
    assert bags.source_offsets is not None
    offsets = np.asarray(source[bags.source_offsets]).astype(np.int64)
    if bags.source_row is not None:
        offsets = offsets[bags.source_row]
    ends = offsets if bags.include_last_offset else np.concatenate([offsets, [values]])
    return np.diff(ends)
