"""What a setting is worth on a real server: for each measurement one of its own, of linked files beside the repository."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from recsplit.capacity.profile import Profile
from recsplit.capacity.search import Throughput, search
from recsplit.capacity.workload import Workload
from recsplit.errors import InputError
from recsplit.plan.plan import Plan
from recsplit.repository.find import Build, find
from recsplit.serving import Server, serve
from recsplit.tuning import retuned
from recsplit.tuning.setting import Setting
from recsplit_perf.processes import kernel
from recsplit_perf.profile import profiling
from recsplit_perf.traffic import live, queries

#: Of a race's searches: rounds make them precise.
PRECISION = 0.1
MOST_TRIALS = 10
_AREA = ".recsplit-tuning-"


@contextlib.contextmanager
def _beside(repository: Path) -> Iterator[Path]:
    """A folder for a repository on the same file system, so that files are linked. Raises InputError where none can be made."""
    parent = repository.resolve().parent
    try:
        area = tempfile.TemporaryDirectory(prefix=_AREA, dir=parent)
    except OSError as error:
        hint = "change its permissions: servers of other settings get their files there, as links"
        raise InputError(f"{parent} can't be written: {error.strerror}", hint=hint) from error
    with area as folder:
        yield Path(folder) / "models"


@contextlib.contextmanager
def _retuned(build: Build, setting: Setting, templates: Path | None) -> Iterator[Build]:
    """A build with other settings, in a repository of its own for the time being."""
    with _beside(build.repository) as repository:
        retuned.publish(build, setting, repository, keep=1, templates=templates, prove=False)
        yield find(repository)


def keep_to(server: Server, cores: int) -> None:
    """Let a server run on the first `cores` cores of this process's only."""
    mine = sorted(os.sched_getaffinity(0))
    if cores < len(mine):
        kernel.pin(kernel.members(server.pid), set(mine[:cores]))


def profile(
    build: Build, *, seconds: float, rounds: int, workload: Workload, advance: Callable[[int], None], templates: Path | None
) -> Profile:
    """The profile that the simulator needs, whatever form and settings the build has: of the ensemble, with one thread an instance."""
    setting = Setting("ensemble", 1, 1, 1, build.plan.max_batch_size, build.plan.queue_delay_us)
    with _retuned(build, setting, templates) as copy:
        return profiling.measure(copy, seconds=seconds, rounds=rounds, law=workload.ids, seed=workload.seed, advance=advance)


def measure(
    build: Build,
    setting: Setting,
    workload: Workload,
    *,
    cores: int,
    seconds: float,
    first: float,
    number: int,
    templates: Path | None = None,
) -> Throughput:
    """The latency-bounded throughput of a setting, on a server of its own on the first `cores` cores; as `searched` has it.

    Raises RecsplitError where the server can't be started or answers nothing.
    """
    with _retuned(build, setting, templates) as copy, serve(copy.repository, models=[copy.plan.name]) as server:
        keep_to(server, cores)
        return searched(server.http_url, copy.plan, workload, seconds=seconds, first=first, number=number)


def searched(url: str, plan: Plan, workload: Workload, *, seconds: float, first: float, number: int) -> Throughput:
    """The latency-bounded throughput of what a server answers, from `first` queries/s on by trials of `seconds` or more.

    `number`: of the round; each draws queries of its own. Raises RecsplitError where nothing is answered.
    """
    with tempfile.TemporaryDirectory(prefix="recsplit-tuning-") as folder:
        pool = queries.pool(plan, workload, np.random.default_rng([workload.seed, number]))
        least = live.least_rate(seconds)
        ask = live.trials_in(Path(folder), url, plan, workload, pool, seconds=seconds, on_trial=lambda _: None)
        return search(ask, workload.latency, first=max(first, least), least=least, precision=PRECISION, repeats=1, max_trials=MOST_TRIALS)
