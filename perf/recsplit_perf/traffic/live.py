"""A workload against a live server: one run, or the trials of a search, each on disk as soon as it ends."""

import dataclasses
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from recsplit.capacity import arrivals
from recsplit.capacity.search import Measure, Trial, percentile_ms
from recsplit.capacity.workload import Workload
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.plan import Plan
from recsplit_perf.machine import provenance
from recsplit_perf.traffic import open_loop, runs
from recsplit_perf.traffic.queries import Ready
from recsplit_perf.traffic.runs import Run

WARMUP_S = 1.0
#: A trial of a search is made longer, up to so many times, until it has so many queries: few say little about a tail.
QUERIES = 200
LONGER = 4
#: At rates where even the longest trial holds fewer queries than this on average, nothing is measured.
FEWEST = 20


def least_rate(seconds: float) -> float:
    """The smallest rate, in queries per second, at which trials of `seconds` (or LONGER times that) hold enough queries."""
    return FEWEST / (LONGER * seconds)


def at_rate(workload: Workload, rate: float) -> Workload:
    """The workload at another mean rate, in queries per second."""
    return dataclasses.replace(workload, arrivals=arrivals.at_rate(workload.arrivals, rate))


def measure(
    url: str,
    plan: Plan,
    workload: Workload,
    pool: Sequence[Ready],
    rng: np.random.Generator,
    *,
    seconds: float,
    warmup_s: float = WARMUP_S,
    timeout_s: float = 10.0,
    stop: threading.Event | None = None,
) -> Run:
    """Offer the workload for `warmup_s`, which is cut off, and `seconds`. `pool` holds its queries, of which each arrival takes any.

    Raises RecsplitError as open_loop.send does, and where no query came or ended.
    """
    times_s = arrivals.draw(workload.arrivals, warmup_s + seconds, rng)
    choice = rng.integers(0, len(pool), len(times_s))
    origin = provenance()  # first: the load average is the one that the measurement meets
    sent = open_loop.send(url, pool, times_s, choice, warmup_s=warmup_s, seconds=seconds, timeout_s=timeout_s, stop=stop)
    if not len(sent.due_s):
        if sent.interrupted:
            raise KeyboardInterrupt
        raise InputError(
            f"no query came within {seconds:g} s at {arrivals.rate(workload.arrivals):g} queries/s",
            hint="measure for longer, or at a larger rate",
        )
    return Run(
        provenance=origin,
        workload=workload.describe(),
        model=plan.name,
        version=plan.version,
        rate=arrivals.rate(workload.arrivals),
        seconds=sent.seconds,
        sent_s=sent.due_s,
        late_ms=sent.late_ms,
        latency_ms=sent.latency_ms,
        query_rows=sent.query_rows,
        errors=dict(sent.errors),
        interrupted=sent.interrupted,
    )


def trial(run: Run) -> Trial:
    """A run as one trial of a search. One that met the bound counts even where the generator was late: the server was no slower."""
    bound = run.workload["latency"]
    found_ms = percentile_ms(run.latency_ms, bound["percentile"])
    return Trial(run.rate, found_ms, len(run.latency_ms), run.kept_up or found_ms <= bound["bound_ms"])


def kept(folder: Path, plan: Plan, workload: Workload) -> list[Trial]:
    """The trials that an interrupted search left in `folder`. Raises InputError where they are another search's."""
    kept_runs = [runs.read(path) for path in _files(folder)]
    mine = at_rate(workload, 1.0).describe()
    for run, path in zip(kept_runs, _files(folder), strict=True):
        theirs = {**run.workload, "arrivals": {**run.workload["arrivals"], "rate": 1.0}}
        if (run.model, run.version, theirs) != (plan.name, plan.version, mine):
            raise InputError(
                f"{path} is of another search: {run.model}, version {run.version}, workload {run.workload['name']!r}",
                hint="resume with the same model and workload, or give a new folder",
            )
    return [trial(run) for run in kept_runs]


def trials_in(
    folder: Path, url: str, plan: Plan, workload: Workload, pool: Sequence[Ready], *, seconds: float, on_trial: Callable[[Trial], None]
) -> Measure:
    """What a search calls: measures at a rate for `seconds` or more, keeps the run in `folder`, then passes the trial to `on_trial`.

    An interrupted run is not kept: a search could not tell it from a whole one. Raises KeyboardInterrupt for it.
    """

    def one(rate: float) -> Trial:
        number = len(_files(folder)) + 1
        rng = np.random.default_rng([workload.seed, number])
        longer_s = min(max(seconds, QUERIES / rate), LONGER * seconds)
        run = measure(url, plan, at_rate(workload, rate), pool, rng, seconds=longer_s)
        if run.interrupted:
            raise KeyboardInterrupt
        if not run.answered.any():
            raise RecsplitError(f"no query was answered at {rate:g} queries/s: {next(iter(run.errors))}", hint="does the server still run?")
        runs.save(run, folder / f"trial-{number:03d}.npz")
        new_trial = trial(run)
        on_trial(new_trial)
        return new_trial

    return one


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("trial-*.npz"))
