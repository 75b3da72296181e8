"""From a source to its cut: loaded, loops collapsed, exporters' known faults refused, taken apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsplit.errors import InputError
from recsplit.graph.cut import Cut, cut
from recsplit.graph.find.candidates import Candidate, find
from recsplit.graph.loops.prepare import prepare
from recsplit.graph.lower.ragged_bags import BagForm
from recsplit.load import Example, Loaded, ModelSource, batch_first, load, unserved
from recsplit.load.arrays import Array
from recsplit.plan import ragged
from recsplit.plan.dtypes import NUMPY
from recsplit.plan.plan import Bags, Tensor
from recsplit.plan.triton_releases import Release


@dataclass(frozen=True)
class CutSource:
    """A source that was loaded and cut.

    `example`: valid inputs of the ensemble, None where the source has none; `dtypes`: of the source's own inputs.
    """

    loaded: Loaded
    cut: Cut
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
) -> CutSource:
    """Load and cut; the settings are those of `load` and `cut`. Raises InputError, MissingExtra, RecsplitError as load and cut do.

    InputError too where the export is faulty.
    """
    loaded = load(source, weights=weights, example=example, release=release)
    loops = prepare(loaded.model)
    batch_first.refuse_across(loaded.model)
    unserved.refuse_bfloat16(loaded.model)
    dtypes = {value.name or "": np.dtype(value.dtype.numpy()) for value in loaded.model.graph.inputs if value.dtype is not None}
    parts = cut(
        loaded.model,
        unknown_ids=unknown_ids,
        int32_ids=int32_ids,
        bag_form=bag_form,
        adding_up=adding_up,
        example=loaded.example,
        loops=loops,
    )
    return CutSource(loaded, parts, None if loaded.example is None else as_rows(parts.bags, loaded.example), dtypes)


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
