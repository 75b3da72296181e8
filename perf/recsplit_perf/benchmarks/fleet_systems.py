"""The systems that the benchmarks of fleets compare: RM1 whole, and in two shards, hot and cold, built as a user does and served."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsplit.capacity import ids
from recsplit.capacity.ids import TwoLevel
from recsplit.errors import RecsplitError
from recsplit.partition import partition_file
from recsplit.partition.access import frequencies
from recsplit.plan.plan import Location, Plan, Segment
from recsplit.serving import Server, serve
from recsplit.serving.fleet.fleet import Fleet, serve_fleet

FACTORY = "recsplit.zoo.elasticrec:rm1"
LAW = TwoLevel(0.9, 0.1)
WHOLE, FLEET, INSIDE = "whole model x2", "fleet", "fleet, hot rows in the fronts"
#: Servers of each part. Where the hot rows lie in the fronts, their shard has no servers of its own.
REPLICAS = {"front": 2, "0": 2, "1": 1}
FLEETS: dict[str, dict[str, int]] = {FLEET: REPLICAS, INSIDE: {"front": 2, "1": 1}}
#: Queries after which ElasticRec looks which rows were read (its section 6.2).
FIRST = 1000


def build(repository: Path, scale: float, *more: str) -> None:
    """`recsplit build`, as a user runs it. Raises RecsplitError with its words."""
    command = [sys.executable, "-m", "recsplit", "build", FACTORY, "-o", str(repository), "--name", "rm1", "--max-batch-size", "256", *more]
    environment = {**os.environ, "RECSPLIT_ZOO_ROWS_SCALE": str(scale)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RecsplitError("recsplit build failed", hint="see its own words above", detail=done.stderr.strip())


def write_partition(folder: Path, plan: Plan, hot: Location) -> None:
    """access.npz and partition.json: each table's rows by the law's own heat, its hottest tenth in shard 0 (placed `hot`)."""
    counts = {}
    for table in plan.tables:
        by_row = np.empty(table.rows, np.uint32)
        by_row[ids.at_rank(np.arange(table.rows), table.rows)] = np.arange(table.rows, 0, -1)
        counts[table.name] = by_row
    with (folder / "access.npz").open("wb") as file:
        frequencies.write(file, frequencies.About(plan.name, FIRST, FIRST, 0, (f"the law {LAW}",)), counts.items())
    bounds = {table.name: (0, round(LAW.hot_rows * table.rows), table.rows) for table in plan.tables}
    shards = tuple(
        partition_file.ShardLayout(
            segments=tuple(Segment(table, bound[part], bound[part + 1]) for table, bound in bounds.items()),
            location="own" if part else hot,
            replicas=REPLICAS[str(part)],
            gathers_per_query=share * sum(lookup.width for lookup in plan.lookups),
            size_bytes=sum(
                table.size_bytes * (bounds[table.name][part + 1] - bounds[table.name][part]) // table.rows for table in plan.tables
            ),
        )
        for part, share in enumerate((LAW.hot_share, 1 - LAW.hot_share))
    )
    partition = partition_file.Partition(
        plan.name, frequencies.digest(folder / "access.npz"), 100.0, "by hand: the law's own two levels", 0.0, "bytes", shards
    )
    (folder / "partition.json").write_text(partition_file.to_json(partition))


@dataclass(frozen=True)
class Running:
    """`asked`: the servers that clients ask; `all`: every one of the system."""

    asked: tuple[Server, ...]
    all: tuple[Server, ...]


@contextmanager
def running(system: str, folder: Path) -> Iterator[Running]:
    """One of the systems, for the time of the context."""
    with ExitStack() as stack:
        if system in FLEETS:
            fleet: Fleet = stack.enter_context(serve_fleet(folder / system, replicas=FLEETS[system]))
            yield Running(fleet.fronts, tuple(member.server for member in fleet.members if member.server is not None))
        else:
            servers = tuple(stack.enter_context(serve(folder / WHOLE)) for _ in range(2))
            yield Running(servers, servers)
