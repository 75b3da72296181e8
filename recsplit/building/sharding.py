"""A sharded build: the partition as the user gave it, checked against the model, and what the plan says of the shards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import InputError
from recsplit.graph.cut import Cut
from recsplit.graph.shards.shards import Sharded, ShardTable, shard
from recsplit.partition import layout
from recsplit.partition.access import frequencies
from recsplit.plan.plan import Range, Reading, Shard, Submodel, Table
from recsplit.write import submodels

#: The rows of a table, by its name, the most read first: INT32 [rows].
Order = Callable[[str], NDArray[np.int32]]


@dataclass(frozen=True)
class Wanted:
    """What the user asked for: the partition, and the order that its ranks follow; None where a rank is a row's number."""

    partition: layout.Partition
    profile: frequencies.AccessProfile | None

    @property
    def order(self) -> Order | None:
        """The rows of a table by heat; made when asked for."""
        profile = self.profile
        return None if profile is None else lambda table: frequencies.order(profile.tables[table])


def read(partition: Path, profile: Path | None) -> Wanted:
    """Read the two files. Raises InputError where one can't be read, or they don't belong together."""
    wanted = layout.read(partition)
    if wanted.access is None:
        if profile is not None:
            raise InputError(f"{partition} was made without an access profile", hint="leave --access out, or partition again with it")
        return Wanted(wanted, None)
    if profile is None:
        raise InputError(f"{partition} counts rows in the order of an access profile", hint="give that profile with --access")
    found = frequencies.digest(profile)
    if found != wanted.access:
        raise InputError(
            f"{profile} is not the access profile that {partition} was made with: SHA-256 {found[:12]}..., not {wanted.access[:12]}...",
            hint="give the profile that recsplit partition was given, or partition again",
        )
    return Wanted(wanted, frequencies.read(profile))


def cut(wanted: Wanted, made: Cut, tables: Sequence[Table]) -> Sharded:
    """Cut the model's tables into the partition's shards. Raises InputError where they don't fit."""
    rows = {table.name: table.rows for table in tables}
    layout.check(wanted.partition, rows)
    if wanted.profile is not None:
        frequencies.check(wanted.profile, wanted.profile.about.model, rows, origin="the access profile")
    return shard(made, [item.segments for item in wanted.partition.shards], by_heat=wanted.profile is not None)


def described(
    wanted: Wanted, sharded: Sharded, tables: Sequence[Table], submodel: Callable[[int, submodels.Interface], Submodel]
) -> tuple[Shard, ...]:
    """The shards as the plan has them; `submodel` makes a shard's model from its number and its inputs and outputs."""
    by_name = {table.name: table for table in tables}
    found = []
    for number, (given, part) in enumerate(zip(wanted.partition.shards, sharded.shards, strict=True)):
        size = sum((item.last - item.first) * by_name[item.table].size_bytes // by_name[item.table].rows for item in given.segments)
        found.append(
            Shard(
                model=submodel(number, submodels.interface(part.model)),
                segments=given.segments,
                ranges=_ranges(part.places, by_name),
                place=given.place,
                replicas=given.replicas,
                size_bytes=size,
            )
        )
    return tuple(found)


def readings(sharded: Sharded, unknown_ids: str) -> tuple[Reading, ...]:
    """The plan's readings: none where a maximum takes in the zeros that an unknown id reads, which are no shard's rows."""
    maxima = any("max" in reading.poolings for reading in sharded.readings)
    return () if maxima and unknown_ids == "zero" else sharded.readings


def _ranges(places: Mapping[str, ShardTable], tables: Mapping[str, Table]) -> tuple[Range, ...]:
    found = []
    for name, held in places.items():
        table = tables[held.layout.names()[0]]
        found.append(Range(name, held.first, held.last, table.dim, table.dtype))
    return tuple(found)
