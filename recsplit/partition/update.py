"""An older partition under a new access profile: read and checked, its moves weighed, and the order of rows that comes of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from recsplit.errors import InputError
from recsplit.partition import drift, partition_file
from recsplit.partition.access import frequencies
from recsplit.partition.access.frequencies import About, AccessProfile, Counts
from recsplit.partition.choice import vectors_per_query
from recsplit.partition.cost import CostSettings
from recsplit.partition.partition_file import Partition
from recsplit.plan.plan import Plan
from recsplit.rendering.progress import Progress, in_silence


@dataclass(frozen=True, eq=False)
class OldPartition:
    """A partition made earlier, and the counts that its ranks follow: [rows] by table, over so many queries."""

    partition: Partition
    counts: Mapping[str, Counts]
    queries: int


@dataclass(frozen=True, eq=False)
class Updated:
    """`moves`: the new partition and its figures; its `access` is None, as the order that it follows is in no file yet.

    `old`, `profile`: what it was made from. `write_order` writes the order; the digest of that file belongs into the partition.
    """

    moves: drift.Update
    old: OldPartition
    profile: AccessProfile

    @property
    def about(self) -> About:
        """What the order's access profile is of: the new profile's, and in its sources the tables that follow another order."""
        others = tuple(f"{table.table}: {table.order} order" for table in self.moves.tables if table.order != "new")
        return replace(self.profile.about, sources=(*self.profile.about.sources, *others))

    def counts(self) -> Iterator[tuple[str, Counts]]:
        """Each table with the counts [rows] that its ranks follow, in the plan's order: one table in memory at a time."""
        for table in self.moves.tables:
            name, now = table.table, self.profile.tables[table.table]
            if table.order == "mended":
                yield name, drift.mended(self.old.counts[name], now, self.old.queries, self.profile.queries)
            else:
                yield name, now if table.order == "new" else self.old.counts[name]

    def write_order(self, file: BinaryIO) -> None:
        """Write the order that the new partition follows, as an access profile."""
        frequencies.write(file, self.about, self.counts())


def read_old(plan: Plan, path: Path, was: Path | None, queries: int) -> OldPartition:
    """Read a partition of the plan's model and the access profile `was` that it was made with.

    A partition without a profile has each table in its own order, taken for counts over `queries` queries; `was` isn't read then.
    Raises InputError where a file can't be read, is of another model, or where the two don't belong together.
    """
    partition = partition_file.read(path)
    rows = {table.name: table.rows for table in plan.tables}
    if partition.model != plan.name:
        raise InputError(
            f"{path} is a partition of {partition.model!r}, and the model is {plan.name!r}", hint="make one: recsplit partition DIR"
        )
    partition_file.check(partition, rows)
    if partition.access is None:
        return OldPartition(partition, {name: np.arange(size, 0, -1, dtype=np.uint32) for name, size in rows.items()}, queries)
    if was is None:
        raise InputError(f"{path} follows an access profile of its own", hint="give that with --was OLD.npz")
    profile = frequencies.read_for(was, plan)
    if frequencies.digest(was) != partition.access:
        raise InputError(f"{was} is not the access profile that {path} was made with", hint=f"its SHA-256 is {partition.access[:12]}...")
    return OldPartition(partition, profile.tables, profile.queries)


def update(
    plan: Plan,
    old: OldPartition,
    profile: AccessProfile,
    settings: CostSettings,
    pay: drift.Pay,
    *,
    progress: Progress = in_silence,
) -> Updated:
    """Move the old partition's boundaries where that pays under the new profile. Raises InputError as `drift.update` does."""
    progress("Weighing what moves would save and cost", 0, 0)
    moves = drift.update(
        old.partition,
        plan.tables,
        old.counts,
        profile.tables,
        old.queries,
        profile.queries,
        vectors_per_query(plan, profile),
        settings,
        pay,
    )
    return Updated(moves, old, profile)
