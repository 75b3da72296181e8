"""The engine's recipe of a shard: its own rows by their places, a row of zeros (or of the lowest number) in the place of others'."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recsplit.graph import border
from recsplit.graph.shards.models import ShardPart
from recsplit.plan.plan import PlainPooling, Reading
from recsplit.plan.recipe import EngineLookup, Recipe


@dataclass(frozen=True)
class _Run:
    """Vectors of one kind that lie side by side: `bags` of them, each of so many positions; where the first of both stand."""

    width: int
    pooling: PlainPooling
    bags: int
    first: int
    place: int


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
