"""The engine's recipes of a sharded model: from ids to places, and of a shard, its own rows by their places."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from recsplit.graph import border
from recsplit.graph.cut import Cut
from recsplit.graph.shards.models import ShardPart
from recsplit.graph.shards.places import Map, TablePlaces
from recsplit.plan.plan import UNKNOWN_IDS, PlainPooling, Reading, Tensor
from recsplit.plan.recipe import EngineLookup, Recipe, Stored


@dataclass(frozen=True)
class _Run:
    """Vectors of one kind that lie side by side: `bags` of them, each of so many positions; where the first of both stand."""

    width: int
    pooling: PlainPooling
    bags: int
    first: int
    place: int


@dataclass(frozen=True)
class MapFile:
    """A map of places, and where it lies beside the recipe."""

    places: Map
    stored: Stored


def places_recipe(
    cut: Cut, outputs: Sequence[Tensor], layouts: Mapping[str, TablePlaces], readings: Sequence[Reading], maps: Mapping[str, MapFile]
) -> Recipe | None:
    """How the engine turns ids into places, its buffers of `cut` without their places in files, the maps behind them; None where it can't:
    where more crosses than places, or a table that has no map lies in several pieces.

    `outputs`: of the embedding model. `layouts` and `maps` by the fused table's name.
    """
    recipe, by_output = cut.recipe, {reading.output: reading for reading in readings}
    crossing = [tensor for tensor in outputs if tensor.name != UNKNOWN_IDS]
    if recipe is None or [tensor.name for tensor in crossing] != [reading.places for reading in readings]:
        return None
    numbers = {reading.places: number for number, reading in enumerate(readings)}
    lookups, parts = list[EngineLookup](), list[Stored]()
    for lookup in recipe.lookups:
        assert lookup.table is not None
        fused, reading = cut.fused[lookup.table], by_output.get(recipe.outputs[lookup.output].name)
        layout, held = layouts[fused.value.name or ""], maps.get(fused.value.name or "")
        pieces = layout.moves(lookup.base, lookup.base + lookup.rows)
        vectors = lookup.width if lookup.pooling == "none" else lookup.bags
        if reading is None or len(pieces) > 1 or lookup.weights is not None or lookup.group is not None or not lookup.width:
            return None
        if sum(reading.widths[lookup.place : lookup.place + vectors]) != lookup.width:
            return None
        first, order = lookup.base + pieces[0].shift, None
        if pieces[0].mapped:
            assert held is not None
            part = dataclasses.replace(held.stored, offset=held.stored.offset + 4 * first, size=lookup.rows)
            parts += [part] if part not in parts else []
            order = len(cut.buffers) + parts.index(part)
        lookups.append(
            dataclasses.replace(
                lookup,
                table=None,
                base=0 if pieces[0].mapped else first,
                fallback=layout.place_of(lookup.fallback, None if held is None else held.places),
                none=fused.zero_row,
                pooling="none",
                bags=1,
                order=order,
                output=numbers[reading.places],
                place=sum(reading.widths[: lookup.place]),
            )
        )
    return dataclasses.replace(recipe, outputs=tuple(crossing), lookups=tuple(lookups), buffers=tuple(parts))


def shard_recipe(part: ShardPart, readings: Sequence[Reading]) -> Recipe | None:
    """What the engine does for a shard, without the places of `part.tables` in files; None where its pooling isn't plain.

    A foreign place reads the row that the model's graph has for it (`models._local`): it lies in the processor's cache, and costs less
    than a jump around it.
    """
    inputs = tuple(map(border.tensor, part.model.graph.inputs))
    outputs = tuple(map(border.tensor, part.model.graph.outputs))
    input_of = {tensor.name: number for number, tensor in enumerate(inputs)}
    output_of = {item.boundary: [tensor.name for tensor in outputs].index(item.output) for item in part.partials}
    table_of = {table.name: number for number, table in enumerate(part.tables)}
    lookups: list[EngineLookup] = []
    for reading in readings:
        table = part.places.get(reading.places)
        if table is None:
            continue
        for run in _runs(reading):
            foreign = table.lowest_row if run.pooling == "max" else table.zero_row
            assert foreign is not None
            lookups.append(
                EngineLookup(
                    table=table_of[table.name],
                    base=0,
                    rows=table.last - table.first,
                    fallback=foreign,
                    pooling=run.pooling,
                    width=run.width * run.bags,
                    bags=1 if run.pooling == "none" else run.bags,
                    input=input_of[reading.places],
                    first=run.first,
                    shifts=(-table.first,),
                    output=output_of[reading.output],
                    place=run.place,
                )
            )
    read = {reading.places for reading in readings}
    plain = set(input_of) <= read and set(output_of) <= {reading.output for reading in readings}
    if not lookups or not plain or any(len(tensor.dims) != 2 for tensor in outputs):
        return None
    return Recipe(inputs, (), (), (), (), (), outputs, tuple(lookups), (), None)


def _runs(reading: Reading) -> Iterator[_Run]:
    first = place = 0
    for (width, pooling), vectors in itertools.groupby(zip(reading.widths, reading.poolings, strict=True)):
        bags = len(list(vectors))
        yield _Run(width, pooling, bags, first, place)
        first, place = first + width * bags, place + bags
