"""A router's settings on a real server: one server for all of them, for they change without a reload."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsplit.capacity import sizes
from recsplit.capacity.search import Throughput, Trial, search
from recsplit.capacity.workload import Workload
from recsplit.configs.router import MOST_ROWS
from recsplit.plan.plan import Plan
from recsplit.plan.routing import Routing
from recsplit.serving import notes, serve, workers
from recsplit_perf.traffic import live, queries
from recsplit_perf.tuned import MOST_TRIALS, PRECISION, keep_to

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
        yield Served(server.http_url, notes.own_folder(server.grpc_url), plan)


def measure(
    at: Served,
    routing: Routing,
    workload: Workload,
    *,
    seconds: float,
    first: float,
    number: int,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> Throughput:
    """The latency-bounded throughput with these settings, as recsplit_perf.tuned.measure has it of a build's."""
    workers.route(at.folder, at.plan.name, routing)
    with tempfile.TemporaryDirectory(prefix="recsplit-tuning-") as folder:
        pool = queries.pool(at.plan, workload, np.random.default_rng([workload.seed, number]))
        least = live.least_rate(seconds)
        ask = live.trials_in(Path(folder), at.http_url, at.plan, workload, pool, seconds=seconds, on_trial=on_trial)
        return search(ask, workload.latency, first=max(first, least), least=least, precision=PRECISION, repeats=1, max_trials=MOST_TRIALS)


def largest(workload: Workload) -> int:
    """Of the workload's queries, in rows."""
    return int(sizes.draw(workload.sizes, _DRAWN, np.random.default_rng(workload.seed)).max())
