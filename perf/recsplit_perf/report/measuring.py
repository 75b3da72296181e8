"""What a report measures itself: a profile with the workload's ids, the workload at rising rates, and what the simulator expects there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recsplit.capacity import arrivals, drive, served
from recsplit.capacity.profile import Profile
from recsplit.capacity.workload import Workload
from recsplit.plan.plan import Plan
from recsplit.rendering.progress import Progress, in_silence, step
from recsplit.repository.find import Build
from recsplit_perf.profile import profile_points, profiling
from recsplit_perf.report.figures import Point
from recsplit_perf.traffic import live, queries, runs
from recsplit_perf.traffic.runs import Run

#: Where a sweep measures, in parts of the rate that the profile promises.
SHARES = (0.2, 0.5, 0.7, 0.85, 0.95)
#: Where the simulation draws its line, in the same parts.
LINE = tuple(float(share) for share in np.linspace(0.1, 1.0, 19))
#: Queries of each simulation.
QUERIES = 20_000
PROFILE_S, ROUNDS = 20.0, 3


def capacity(profile: Profile, workload: Workload) -> float:
    """The rate that the profile promises, in the workload's queries per second."""
    return drive.capacity(served.pools(profile, {}), workload.sizes, split_rows=profile.max_batch_size, cores=served.cores(profile))


def profiled(build: Build, workload: Workload, progress: Progress = in_silence) -> Profile:
    """Measure a short profile with the workload's id law. Raises RecsplitError as `profiling.measure` does."""
    advance = step(progress, f"Profiling {build.plan.name}", ROUNDS * len(profile_points.sizes(build.plan.max_batch_size)))
    return profiling.measure(build, seconds=PROFILE_S, rounds=ROUNDS, law=workload.ids, advance=advance)


def rates(profile: Profile, workload: Workload) -> list[float]:
    """Where a sweep measures, in queries per second, rising. Raises InputError as `served.pools` does."""
    most = capacity(profile, workload)
    return [float(f"{share * most:.3g}") for share in SHARES]


def sweep(
    url: str,
    plan: Plan,
    workload: Workload,
    rising: Sequence[float],
    folder: Path,
    *,
    seconds: float,
    progress: Progress = in_silence,
) -> list[Run]:
    """Offer the workload at these rates, queries per second, for `seconds` each, to the server with the HTTP address `url`.

    Each run is in `folder`, which is there, as soon as it ends. Raises InputError and RecsplitError as `live.measure` does, and
    KeyboardInterrupt for a run that Ctrl-C broke off, which isn't kept.
    """
    progress("Preparing queries", 0, 0)
    pool = queries.pool(plan, workload, np.random.default_rng(workload.seed))
    measured: list[Run] = []
    for number, rate in enumerate(rising):
        progress(f"Offering {workload.name}, {rate:g} queries/s for {seconds:g} s", 0, 0)
        rng = np.random.default_rng([workload.seed, number])
        run = live.measure(url, plan, live.at_rate(workload, rate), pool, rng, seconds=seconds)
        if run.interrupted:
            raise KeyboardInterrupt
        runs.save(run, folder / f"rate-{rate:g}.npz")
        measured.append(run)
    return measured


def simulated(profile: Profile, workload: Workload) -> list[Point]:
    """What the simulator expects at rates up to the capacity that the profile promises."""
    pools, cores = served.pools(profile, {}), served.cores(profile)
    most = capacity(profile, workload)
    points = []
    for share in LINE:
        law = arrivals.at_rate(workload.arrivals, share * most)
        split = profile.max_batch_size
        run = drive.run(pools, workload.sizes, law, QUERIES / (share * most), split_rows=split, cores=cores, seed=workload.seed)
        points.append(Point(share * most, *(float(value) for value in np.percentile(run.latency_ms, (50, 95, 99)))))
    return points
