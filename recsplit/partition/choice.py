"""A model's partition by its access profile: rows in order of heat, the cheapest shards, and what every algorithm's would cost."""

from dataclasses import dataclass

from recsplit.errors import InputError
from recsplit.partition import algorithms
from recsplit.partition.access.frequencies import AccessProfile
from recsplit.partition.cost import CostSettings
from recsplit.partition.heat import Heat, from_counts, vectors_per_row
from recsplit.partition.partition_file import Partition
from recsplit.plan.plan import Plan
from recsplit.rendering.progress import Progress, in_silence, step


@dataclass(frozen=True)
class Choice:
    """`partition`: the chosen algorithm's. `compared`: that of every algorithm which keeps the bound, where they were asked for."""

    partition: Partition
    compared: tuple[Partition, ...] = ()


def choose(
    plan: Plan,
    profile: AccessProfile,
    settings: CostSettings,
    algorithm: str = "joint",
    *,
    access: str | None = None,
    compare: bool = False,
    progress: Progress = in_silence,
) -> Choice:
    """The partition of the plan's tables that an algorithm finds; with `compare` also that of every one which can be asked.

    `access`: the digest of the access profile's file. Raises InputError as `algorithms.partition` does of the chosen one.
    """
    heats = by_heat(plan, profile, progress)
    progress("Looking for the cheapest partition", 0, 0)
    chosen = algorithms.partition(plan.name, heats, settings, algorithm, access=access)
    compared = []
    for name in algorithms.ALGORITHMS if compare else ():
        if name == "front" and settings.front is None:
            continue
        try:
            compared.append(algorithms.partition(plan.name, heats, settings, name, access=access))
        except InputError:  # its calls can't keep the bound; the chosen algorithm's can
            continue
    return Choice(chosen, tuple(compared))


def by_heat(plan: Plan, profile: AccessProfile, progress: Progress = in_silence) -> list[Heat]:
    """The heat of each of the plan's tables, in their order: counts of one table in memory at a time."""
    vectors = vectors_per_query(plan, profile)
    advance = step(progress, "Ordering rows by heat", sum(table.rows for table in plan.tables))
    heats = []
    for table in plan.tables:
        heats.append(from_counts(table, profile.tables[table.name], profile.queries, vectors[table.name]))
        advance(table.rows)
    return heats


def vectors_per_query(plan: Plan, profile: AccessProfile) -> dict[str, float]:
    """Vectors of each table that one of the profile's queries gets, in the mean."""
    return {name: count * profile.query_size for name, count in vectors_per_row(plan).items()}
