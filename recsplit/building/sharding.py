"""A sharded build: the partition as the user gave it, checked against the model, and what the plan says of the shards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import InputError
from recsplit.graph.cut import Cut
from recsplit.graph.shards.models import ShardTable
from recsplit.graph.shards.shards import Sharded, shard
from recsplit.partition import partition_file
from recsplit.partition.access import frequencies
from recsplit.plan.plan import Range, Reading, Shard, Submodel, Table
from recsplit.write import submodels

#: The rows of a table, by its name, the most read first: INT32 [rows].
Order = Callable[[str], NDArray[np.int32]]


@dataclass(frozen=True)
class Request:
    """What the user asked for: the partition, and the access profile whose order its ranks follow; None where a rank is a row's number."""

    partition: partition_file.Partition
    profile: frequencies.AccessProfile | None

    @property
    def order(self) -> Order | None:
        """The rows of a table by heat; made when asked for."""
        profile = self.profile
        return None if profile is None else lambda table: frequencies.order(profile.tables[table])


@dataclass(frozen=True)
class Sharding:
    """A model whose tables are cut into the shards of a partition."""

    request: Request
    cut: Sharded

    def shards(self, tables: Sequence[Table], submodel: Callable[[int, submodels.Interface], Submodel]) -> tuple[Shard, ...]:
        """The shards as the plan has them; `submodel` makes a shard's model from its number and its inputs and outputs."""
        by_name = {table.name: table for table in tables}
        row_bytes = {table.name: table.size_bytes // table.rows for table in tables}
        return tuple(
            Shard(
                model=submodel(number, submodels.interface(part.model)),
                partials=part.partials,
                segments=asked.segments,
                ranges=_ranges(part.places, by_name),
                location=asked.location,
                replicas=asked.replicas,
                size_bytes=sum((item.last - item.first) * row_bytes[item.table] for item in asked.segments),
            )
            for number, (asked, part) in enumerate(zip(self.request.partition.shards, self.cut.shards, strict=True))
        )

    def in_front(self) -> int:
        """Shards that share a server with the dense model."""
        return sum(asked.location == "front" for asked in self.request.partition.shards)

    def readings(self, unknown_ids: str) -> tuple[Reading, ...]:
        """The plan's readings: none where a maximum takes in the zeros that an unknown id reads, which are no shard's rows."""
        maxima = any("max" in reading.poolings for reading in self.cut.readings)
        return () if maxima and unknown_ids == "zero" else self.cut.readings


def read(partition: Path, profile: Path | None) -> Request:
    """Read the two files. Raises InputError where one can't be read, or they don't belong together."""
    asked = partition_file.read(partition)
    if asked.access is None:
        if profile is not None:
            raise InputError(f"{partition} was made without an access profile", hint="leave --access out, or partition again with it")
        return Request(asked, None)
    if profile is None:
        raise InputError(f"{partition} counts rows in the order of an access profile", hint="give that profile with --access")
    digest = frequencies.digest(profile)
    if digest != asked.access:
        raise InputError(
            f"{profile} is not the access profile that {partition} was made with: SHA-256 {digest[:12]}..., not {asked.access[:12]}...",
            hint="give the profile that recsplit partition was given, or partition again",
        )
    return Request(asked, frequencies.read(profile))


def cut(request: Request, whole: Cut, tables: Sequence[Table]) -> Sharding:
    """Cut the model's tables into the partition's shards. Raises InputError where they don't fit."""
    partition_file.refuse_quantized(tables)
    rows = {table.name: table.rows for table in tables}
    partition_file.check(request.partition, rows)
    if request.profile is not None:
        frequencies.check(request.profile, request.profile.about.model, rows, origin="the access profile")
    segments = [item.segments for item in request.partition.shards]
    return Sharding(request, shard(whole, segments, by_heat=request.profile is not None))


def _ranges(places: Mapping[str, ShardTable], tables: Mapping[str, Table]) -> tuple[Range, ...]:
    first_tables = {name: tables[held.layout.names()[0]] for name, held in places.items()}
    return tuple(Range(name, held.first, held.last, first_tables[name].dim, first_tables[name].dtype) for name, held in places.items())
