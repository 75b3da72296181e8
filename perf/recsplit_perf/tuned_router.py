"""A router's settings on a real server: one server for all of them, for they change without a reload."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsplit.capacity import sizes
from recsplit.capacity.search import Throughput
from recsplit.capacity.workload import Workload
from recsplit.configs.router import MOST_ROWS
from recsplit.plan.plan import Plan
from recsplit.plan.routing import Routing
from recsplit.serving import serve, workers
from recsplit_perf.tuned import keep_to, searched

_DRAWN = 100_000


@dataclass(frozen=True)
class Served:
    """A router on a server. `plan`: of a model behind it, as clients ask the router."""

    http_url: str
    folder: Path
    plan: Plan


@contextlib.contextmanager
def served(repository: Path, router: str, behind: Plan, cores: int) -> Iterator[Served]:
    """A server of a router and of the models behind it, on the first `cores` cores of this process's."""
    with serve(repository, models=[router]) as server:
        keep_to(server, cores)
        plan = dataclasses.replace(behind, name=router, max_batch_size=MOST_ROWS)  # clients send it whole queries
        yield Served(server.http_url, server.running.folder, plan)


def measure(at: Served, routing: Routing, workload: Workload, *, seconds: float, first: float, number: int) -> Throughput:
    """The latency-bounded throughput with these settings, as recsplit_perf.tuned.searched has it."""
    workers.route(at.folder, at.plan.name, routing)
    return searched(at.http_url, at.plan, workload, seconds=seconds, first=first, number=number)


def largest(workload: Workload) -> int:
    """Of the workload's queries, in rows."""
    return int(sizes.draw(workload.sizes, _DRAWN, np.random.default_rng(workload.seed)).max())
