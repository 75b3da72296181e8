"""A partition beside the whole model at the traffic it is for: replicas, memory, utility, servers, by a profile and access counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsplit.capacity.profile import Profile
from recsplit.disk.files import size_text
from recsplit.errors import InputError
from recsplit.partition import measured, partition_file
from recsplit.partition.access.frequencies import AccessProfile, Counts, check
from recsplit.partition.accounting import Account, Container, Node, account, replicas, series_qps, shards
from recsplit.partition.partition_file import Partition
from recsplit.partition.utility import touched_counts
from recsplit.plan.plan import Plan
from recsplit.rendering.progress import Progress, in_silence
from recsplit_perf.report import fleet
from recsplit_perf.report.page import Section, Table

#: Containers in a picture; further shards are left to the table.
DRAWN = 16
#: Memory utility counts what these queries read (ElasticRec, section 6).
UTILITY_QUERIES = 1000


@dataclass(frozen=True)
class Compared:
    """Containers of both ways, and their sums on nodes of one kind."""

    whole: Container
    apart: tuple[Container, ...]
    whole_account: Account
    apart_account: Account


def checked_section(
    plan: Plan,
    profile: Profile,
    partition: Partition,
    access: AccessProfile,
    provenance: Mapping[str, Any],
    progress: Progress = in_silence,
) -> Section:
    """The whole model beside the partition's shards, on servers like the machine that `provenance` (machine.provenance) tells of.

    Raises InputError where the partition or the access profile isn't of this model, where the model is in shards already, and as
    `compare` does.
    """
    rows = {table.name: table.rows for table in plan.tables}
    partition_file.check(partition, rows)
    check(access, plan.name, rows, origin="--access")
    if plan.shards:
        raise InputError(f"{plan.name!r} is cut into shards already", hint="give the build that the partition was made for")
    machine = provenance["machine"]
    node = Node(machine["cpu"], machine["cores"], machine["memory_gib"] * 2**30)
    progress("Counting what the shards take", 0, 0)
    return section(compare(plan, profile, partition, access, node), partition, node)


def compare(plan: Plan, profile: Profile, partition: Partition, access: AccessProfile, node: Node) -> Compared:
    """Count both ways at the partition's own rate.

    A container has the profile's instances of its sub-models, each on a core; the whole's run one after the other. Utility is
    expected: rows read with their share of the counted reads. Raises InputError where a container is larger than a node.
    """
    embedding, dense = profile.part("embedding"), profile.part("dense")
    query_size = access.query_size
    table_bytes = sum(table.size_bytes for table in plan.tables)
    settings = measured.settings(profile, partition.target_qps, query_size, table_bytes)
    assert settings.front is not None
    dense_qps = dense.instances * 1e3 / dense.alone.fit.ms(query_size)
    whole_qps = series_qps(dense_qps, embedding.instances * 1e3 / embedding.alone.fit.ms(query_size))
    utility, utilities = _read(plan, access, partition)
    whole = Container(
        "whole model",
        replicas(partition.target_qps, whole_qps),
        table_bytes + settings.min_bytes + dense.pss_bytes,
        float(max(embedding.instances, dense.instances)),
        utility=utility,
    )
    inside = next((number for number, shard in enumerate(partition.shards) if shard.location == "front"), None)
    front = Container(
        "dense model",
        replicas(partition.target_qps, dense_qps) if inside is None else partition.shards[inside].replicas,
        settings.front.size_bytes + (0 if inside is None else partition.shards[inside].size_bytes),
        float(dense.instances),
        utility=None if inside is None else utilities[inside],
    )
    shard_containers = shards(partition, utilities, overhead_bytes=settings.min_bytes, cores=1.0)
    return Compared(whole, (front, *shard_containers), account([whole], node), account([front, *shard_containers], node))


def _read(plan: Plan, access: AccessProfile, partition: Partition) -> tuple[float, list[float]]:
    """Utility of the whole and of each shard. Counts of one table are in memory at a time."""
    touched, rows = [0.0] * len(partition.shards), [0] * len(partition.shards)
    for table in plan.tables:
        counts: Counts = access.tables[table.name]
        total = int(counts.sum())
        by_rank = np.sort(counts.astype(np.uint64))[::-1]
        for number, shard in enumerate(partition.shards):
            for segment in (segment for segment in shard.segments if segment.table == table.name):
                count = segment.last - segment.first
                touched_share = touched_counts(
                    by_rank[segment.first : segment.last], max(total, 1), UTILITY_QUERIES * total / access.queries
                )
                touched[number] += touched_share * count
                rows[number] += count
    return sum(touched) / sum(rows), [part / count for part, count in zip(touched, rows, strict=True)]


def section(compared: Compared, partition: Partition, node: Node) -> Section:
    """A table of every container, bars of memory and of utility."""
    kinds = (compared.whole, *compared.apart)
    rows = [
        (kind.name, f"{kind.replicas}", size_text(kind.size_bytes), _share(kind.utility), size_text(kind.replicas * kind.size_bytes))
        for kind in kinds
    ]
    for name, total in (("all whole", compared.whole_account), ("all shards and dense", compared.apart_account)):
        rows.append((name, f"{total.replicas}", "", _share(total.utility), size_text(total.memory_bytes)))
    whole, apart = compared.whole_account, compared.apart_account
    lead = (
        f"At {partition.target_qps:,.4g} queries/s, cut by the algorithm {partition.algorithm!r}: {size_text(whole.memory_bytes)} "
        f"model-wise, {size_text(apart.memory_bytes)} in shards; {_servers(whole)} and {_servers(apart)} like this one "
        f"({node.cores:g} cores, {size_text(node.memory_bytes)}). Reckoned from the profile; utility is the share of rows that "
        f"{UTILITY_QUERIES:,} queries read."
    )
    return Section(
        "Whole or in shards", lead, _pictures(compared), Table(("container", "replicas", "each", "utility", "memory"), tuple(rows))
    )


def _pictures(compared: Compared) -> tuple[str, ...]:
    kinds = (compared.whole, *compared.apart[: DRAWN - 1])
    memory = {kind.name: kind.replicas * kind.size_bytes / 1e9 for kind in kinds}
    utility = {kind.name: 100 * kind.utility for kind in kinds if kind.utility is not None}
    return fleet.parts("Memory, all replicas", "GB", memory), fleet.parts("Memory utility", "% of rows read", utility)


def _share(utility: float | None) -> str:
    return "" if utility is None else f"{utility:.1%}"


def _servers(total: Account) -> str:
    return f"{total.packing.servers} server{'' if total.packing.servers == 1 else 's'}"
