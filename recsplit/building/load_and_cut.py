"""From a source to its cut: loaded, loops collapsed, exporters' known faults refused, taken apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsplit.errors import InputError
from recsplit.graph.cut import Cut, cut
from recsplit.graph.find.candidates import Candidate, find
from recsplit.graph.loops import collapse_loops, faults
from recsplit.graph.loops.branches import settle_branches
from recsplit.graph.lower.ragged_bags import BagForm
from recsplit.load import Loaded, load
from recsplit.load.arrays import Array
from recsplit.plan import ragged
from recsplit.plan.plan import Bags


@dataclass(frozen=True)
class Taken:
    """A source taken apart.

    `example`: valid inputs of the ensemble, None where the source has none; `dtypes`: of the source's own inputs.
    """

    loaded: Loaded
    cut: Cut
    example: Mapping[str, Array] | None
    dtypes: Mapping[str, np.dtype[np.generic]]


def take(
    source: str, *, weights: Path | None, unknown_ids: str, int32_ids: bool, bag_form: BagForm | None, adding_up: bool = False
) -> Taken:
    """Load and cut; the settings are those of `cut`. Raises InputError, MissingExtra, RecsplitError as load and cut do.

    InputError too where the export is faulty.
    """
    loaded, loops = _load(source, weights)
    faulty = faults(loaded.model)
    if faulty:
        raise InputError(
            f"the export is faulty: {faulty[0].what}",
            hint=faulty[0].hint,
            detail="\n".join(f"{fault.node}: {fault.what}" for fault in faulty),
        )
    dtypes = {value.name or "": np.dtype(value.dtype.numpy()) for value in loaded.model.graph.inputs if value.dtype is not None}
    made = cut(
        loaded.model,
        unknown_ids=unknown_ids,
        int32_ids=int32_ids,
        bag_form=bag_form,
        adding_up=adding_up,
        example=loaded.example,
        loops=loops,
    )
    example = None if loaded.example is None else as_rows(made.bags, loaded.example)
    return Taken(loaded, made, example, dtypes)


def candidates(source: str, *, weights: Path | None) -> tuple[Candidate, ...]:
    """Every candidate for a lookup, and the reason why it is one or not, as far as the cut would get."""
    loaded, loops = _load(source, weights)
    found = find(loaded.model, loops=loops)
    try:
        return cut(loaded.model, loops=loops).candidates
    except InputError:
        return found


def as_rows(groups: tuple[Bags, ...], example: Mapping[str, Array]) -> dict[str, Array]:
    """A source's own inputs as the ensemble's."""
    ragged_names = {
        name
        for bags in groups
        for name in (bags.source_values, bags.source_offsets, bags.source_lengths, bags.source_weights)
        if name is not None
    }
    rows = {name: data for name, data in example.items() if name not in ragged_names}
    for bags in groups:
        rows.update(ragged.to_rows(bags, example))
    return rows


def _load(source: str, weights: Path | None) -> tuple[Loaded, dict[str, str]]:
    loaded = load(source, weights=weights)
    collapsed = collapse_loops(loaded.model)
    settle_branches(loaded.model)
    return loaded, {item.name: item.reason for item in collapsed if item.reason}
