"""Shards: the embedding model is cut again where it reads its tables.

What computes rows stays in the embedding model, which then gives their places; each Gather and all behind it, up to the boundary,
goes into every shard, over the shard's own rows; the dense model joins the partial results. Follows ElasticRec (ISCA 2024), whose
shards are consecutive ranges of a table sorted by heat.

What crosses besides places (masks, counts, weights) must have a batch dimension; what has none, such as a shape, is computed
again in the shard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from recsplit.errors import RecsplitError
from recsplit.graph import conditions, measure, passes
from recsplit.graph.cut import Cut
from recsplit.graph.shards import beside
from recsplit.graph.shards.beside import Side, free
from recsplit.graph.shards.joins import Followed, follow, join, joined_parts
from recsplit.graph.shards.models import Read, ShardPart, embedding_model, shard_model
from recsplit.graph.shards.places import TablePlaces, lay_out
from recsplit.plan.plan import Reading, Segment


@dataclass(frozen=True)
class Sharded:
    """A cut taken apart once more. Initializers of tables and maps are not on disk yet.

    `cut`: what was taken apart, its dense model changed in place. `layouts`: by the fused table's name; `maps`: those with a map, by the
    name of the embedding model's initializer. `readings` as in the plan.
    """

    cut: Cut
    embedding: ir.Model
    shards: tuple[ShardPart, ...]
    dense: ir.Model
    layouts: Mapping[str, TablePlaces]
    maps: Mapping[str, TablePlaces]
    readings: tuple[Reading, ...]


@dataclass
class Dividing:
    """A cut whose tables are being divided among shards: what was asked for, and what the passes have learnt and made so far."""

    cut: Cut
    segments: Sequence[Sequence[Segment]]
    layouts: Mapping[str, TablePlaces]
    measured: measure.Measured
    gathers: Sequence[ir.Node] = ()
    boundary: Sequence[ir.Value] = ()
    followed: Followed = field(init=False)
    used_names: set[str] = field(default_factory=set)
    reads: list[Read] = field(default_factory=list)
    sides: Sequence[Side] = ()
    sizes: Mapping[str, list[int]] = field(default_factory=dict)
    embedding: ir.Model = field(init=False)
    maps: Mapping[str, TablePlaces] = field(default_factory=dict)
    parts: list[ShardPart] = field(default_factory=list)

    def models(self) -> list[ir.Model]:
        """The cut's own two models, and the shards as soon as there are any."""
        return [self.cut.embedding, self.cut.dense, *(part.model for part in self.parts)]


def shard(cut: Cut, shards: Sequence[Sequence[Segment]], *, by_heat: bool) -> Sharded:
    """Cut the embedding model at its tables; the dense model of `cut` is changed in place.

    `shards`: the segments of each, which cover every row once. `by_heat`: ranks follow an order that is given when the files are
    written; else a rank is a row's number. Raises InputError where partial results can't be joined.
    """
    layouts = {item.value.name or "": lay_out(item, shards, by_heat=by_heat) for item in cut.fused}
    state = Dividing(cut, shards, layouts, measure.Measured(cut.embedding, [item.lengths for item in cut.bags]))
    passes.run(SHARD, state, Dividing.models)
    readings = _readings(cut, state.gathers, state.reads)
    return Sharded(cut, state.embedding, tuple(state.parts), cut.dense, layouts, state.maps, readings)


def _find_reads(state: Dividing) -> None:
    """The Gathers on the fused tables, which nothing else reads, and the boundary."""
    graph = state.cut.embedding.graph
    state.gathers = [
        node for node in graph if node.op_type == "Gather" and node.inputs[0] is not None and node.inputs[0].name in state.layouts
    ]
    readers = sum(len(value.consumers()) for name, value in graph.initializers.items() if name in state.layouts)
    if readers != len(state.gathers):
        raise RecsplitError("a table is read by another operator than Gather", hint="this is a fault of recsplit; please report it")
    state.boundary = [value for value in graph.outputs if value.name in state.cut.boundary]


def _follow(state: Dividing) -> None:
    packed = state.measured.all(joined_parts(state.boundary))
    counts = {value: int(state.measured.dims(value)[1]) for value in packed}
    state.followed = follow(state.cut.embedding.graph, state.gathers, state.boundary, counts)


def _name_places(state: Dividing) -> None:
    """A places tensor for each Gather, and what crosses besides, under names that no model has."""
    models = (state.cut.whole, state.cut.dense)
    state.used_names = {value.name or "" for model in models for value in (*model.graph.inputs, *model.graph.outputs)}
    state.used_names |= {value.name or "" for value in state.boundary}
    for number, gather in enumerate(state.gathers):
        row, table = gather.inputs[1], gather.inputs[0]
        assert row is not None and table is not None
        row.dtype = state.measured.dtype(row)
        places = free(f"places_{number}", state.used_names)
        layout, dims = state.layouts[table.name or ""], state.measured.dims(row)
        state.reads.append(Read(gather.name or "", places, layout, dims, state.followed.gathers[gather]))
    state.sides, state.sizes = beside.sides(state.followed, state.measured, state.used_names)


def _cut_embedding(state: Dividing) -> None:
    state.embedding, state.maps = embedding_model(state.cut.embedding, state.reads, state.sides)


def _cut_shards(state: Dividing) -> None:
    crossing = (state.sides, state.sizes)
    for number in range(len(state.segments)):
        state.parts.append(shard_model(state.cut.embedding, number, state.reads, crossing, state.boundary, state.used_names))


def _join(state: Dividing) -> None:
    kinds = {value.name or "": kind for value, kind in state.followed.boundary.items()}
    join(state.cut.dense, [part.partials for part in state.parts], kinds)


_SERVED = (conditions.SORTED, conditions.UNIQUE_NAMES, conditions.SERVED, conditions.NO_BAGS, conditions.BATCHED_INPUTS)


SHARD: tuple[passes.Pass[Dividing], ...] = (
    passes.Pass("find reads", _find_reads, requires=_SERVED),
    passes.Pass("follow vectors", _follow),
    passes.Pass("name places", _name_places),
    passes.Pass("cut the embedding model", _cut_embedding, ensures=_SERVED),
    passes.Pass("cut the shards", _cut_shards, ensures=_SERVED),
    passes.Pass("join in the dense model", _join, ensures=_SERVED),
)


def _readings(cut: Cut, gathers: Sequence[ir.Node], reads: Sequence[Read]) -> tuple[Reading, ...]:
    """How positions become vectors, where that is plain for every Gather and every boundary tensor; else ()."""
    by_vectors = {gather.outputs[0].name: read for gather, read in zip(gathers, reads, strict=True)}
    readings = []
    for packed in cut.packed:
        sources = {vectors for vectors, _, _ in packed.parts or ()}
        if len(sources) != 1:
            return ()
        read = by_vectors[sources.pop()]
        widths = tuple(width for _, widths, _ in packed.parts or () for width in widths)
        if read.dims[1:] != (sum(widths),):
            return ()
        poolings = tuple(pooling for _, _, poolings in packed.parts or () for pooling in poolings)
        readings.append(Reading(read.places, packed.output, widths, poolings))
    return tuple(readings) if len(readings) == len(reads) else ()
