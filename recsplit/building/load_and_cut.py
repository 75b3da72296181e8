"""From a source to its cut: loaded, loops collapsed, exporters' known faults refused, taken apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recsplit.accuracy.labelled import read, scores
from recsplit.accuracy.ranking import Quality, quality
from recsplit.building.budget import choose
from recsplit.building.storing import AS_THEY_ARE, Storing, by_wishes
from recsplit.errors import InputError
from recsplit.graph.cut import Cut, cut
from recsplit.graph.find.candidates import Candidate, find
from recsplit.graph.loops.prepare import prepare
from recsplit.graph.lower.ragged_bags import BagForm
from recsplit.graph.source_tables import SourceTable
from recsplit.load import Example, Loaded, ModelSource, batch_first, load, unserved
from recsplit.load.arrays import Array
from recsplit.load.rounded import rounded
from recsplit.plan import ragged
from recsplit.plan.dtypes import NUMPY
from recsplit.plan.plan import Bags, Loss, Tensor
from recsplit.plan.triton_releases import Release


@dataclass(frozen=True)
class CutSource:
    """A source that was loaded and cut.

    `loaded`: where rows are stored in fewer bits, its `run` is of the source with its rows so rounded; `losses`: what that changed,
    `quality`: what it does to labelled rows, `stored_notes`: what else the user should know of it. `example`: valid inputs of the
    ensemble, None where the source has none; `dtypes`: of the source's own inputs.
    """

    loaded: Loaded
    cut: Cut
    losses: tuple[Loss, ...]
    quality: Quality | None
    stored_notes: tuple[str, ...]
    example: Mapping[str, Array] | None
    dtypes: Mapping[str, np.dtype[np.generic]]

    def example_for(self, inputs: Sequence[Tensor]) -> dict[str, Array] | None:
        """The example in the dtypes of these inputs of the ensemble."""
        dtypes = {tensor.name: NUMPY[tensor.dtype] for tensor in inputs}
        if self.example is None:
            return None
        return {name: data.astype(dtypes[name], copy=False) for name, data in self.example.items() if name in dtypes}


def load_and_cut(
    source: ModelSource,
    *,
    example: Example | None = None,
    weights: Path | None,
    unknown_ids: str,
    int32_ids: bool,
    bag_form: BagForm | None,
    adding_up: bool = False,
    release: Release | None = None,
    storing: Storing = AS_THEY_ARE,
) -> CutSource:
    """Load and cut; the settings are those of `load` and `cut`. Raises InputError, MissingExtra, RecsplitError as load and cut do.

    InputError too where the export is faulty.
    """
    loaded = load(source, weights=weights, example=example, release=release)
    loops = prepare(loaded.model)
    batch_first.refuse_across(loaded.model)
    unserved.refuse_bfloat16(loaded.model)
    dtypes = {value.name or "": np.dtype(value.dtype.numpy()) for value in loaded.model.graph.inputs if value.dtype is not None}
    sizes = {str(value.shape[0]) for value in loaded.model.graph.inputs if value.shape}
    evaluation = None if storing.evaluation is None else read(storing.evaluation, list(dtypes), by_rows=len(sizes) == 1)
    notes: list[str] = []

    def store(tables: Sequence[SourceTable]) -> Sequence[str]:
        if any(table.rows == 0 for table in tables):
            return [table.dtype for table in tables]  # refused in a moment, for being empty
        if storing.budget_bytes is not None:
            return choose(tables, storing.budget_bytes, loaded.run, evaluation, storing.folder, storing.progress)
        return by_wishes(storing.wishes, tables, loaded.run, notes)

    parts = cut(
        loaded.model,
        unknown_ids=unknown_ids,
        int32_ids=int32_ids,
        bag_form=bag_form,
        adding_up=adding_up,
        example=loaded.example,
        loops=loops,
        store=store,
    )
    losses: tuple[Loss, ...] = ()
    quality_of_rounded = None
    narrowed = [(table, stored) for table, stored in parts.stored if stored != table.dtype]
    exact = loaded.run
    if narrowed:
        result = rounded(narrowed, storing.folder, storing.progress)
        losses = result.losses
        loaded = replace(loaded, run=exact.with_weights(result.weights))
    if evaluation is not None:
        quality_of_rounded = quality(evaluation.labels, scores(exact, evaluation), scores(loaded.run, evaluation), evaluation.queries)
    return CutSource(
        loaded,
        parts,
        losses,
        quality_of_rounded,
        tuple(notes),
        None if loaded.example is None else as_rows(parts.bags, loaded.example),
        dtypes,
    )


def examined(
    source: ModelSource, *, weights: Path | None = None, example: Example | None = None
) -> tuple[tuple[Candidate, ...], str | None]:
    """Every candidate for a lookup, and the reason why it is one or not, as far as the cut would get; and why recsplit's engine leaves the
    lookups to ONNX Runtime ("": it does them itself; None: nothing is cut)."""
    loaded = load(source, weights=weights, example=example)
    loops = prepare(loaded.model, refusing=False)
    before_the_cut = find(loaded.model, loops=loops)
    try:
        parts = cut(loaded.model, loops=loops)
    except InputError:
        return before_the_cut, None
    return parts.candidates, parts.no_recipe


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
