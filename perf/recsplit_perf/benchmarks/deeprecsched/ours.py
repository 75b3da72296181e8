"""The joint tuner: on forty cores by the simulator, and on this machine by real servers, both from a profile of the engine's parts."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import recsplit
from recsplit.capacity.arrivals import Poisson
from recsplit.capacity.batch_size import static_batch
from recsplit.capacity.profile import Profile
from recsplit.capacity.search import Throughput
from recsplit.capacity.sizes import Sizes
from recsplit.capacity.workload import LatencyBound, Workload
from recsplit.repository.find import Build
from recsplit.tuning.climb import Climb, climb
from recsplit.tuning.joint import Tried, joint
from recsplit.tuning.setting import Setting, Space
from recsplit.tuning.simulated import evaluator
from recsplit_perf import tuned

BATCHES = (16, 32, 64, 128, 256, 512, 1024)
TRIALS = 40
#: Repeats of what was chosen.
AGAIN = 5
CORES_HERE = len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True)
class Choice:
    """By the simulator: the static batch, DeepRecSched's climb with all else as it is, and the joint search's best."""

    static: Tried[Setting]
    climb: Climb
    joint: Tried[Setting]
    evaluations: int


def chosen(profile: Profile, workload: Workload, cores: int, present: Setting, space: Space) -> Choice:
    """What each rule takes on so many cores. `present`: what the climb starts from."""
    evaluate = evaluator(profile, workload, cores, queries=10_000)
    static = dataclasses.replace(present, max_batch_size=static_batch(cores))
    climbed = climb(BATCHES, lambda batch: evaluate(dataclasses.replace(present, max_batch_size=batch)))
    start = dataclasses.replace(present, max_batch_size=climbed.best.value)
    tried = joint(space, evaluate, start=[start], trials=TRIALS, seed=1)
    best = max(tried, key=lambda one: one.throughput.rate)
    return Choice(Tried(static, evaluate(static)), climbed, best, len(tried))


def workload_of(name: str, sizes: Sizes, bound_ms: float) -> Workload:
    """Poisson arrivals and uniform ids."""
    return Workload(name, LatencyBound(bound_ms, 95), sizes, Poisson(100.0), seed=1)


def served(
    build: Build, settings: dict[str, Setting], workload: Workload, *, seconds: float, rounds: int, tell: Callable[[str], None]
) -> dict[str, list[Throughput]]:
    """Each setting on real servers of this machine, `rounds` times, in turns."""
    outcomes: dict[str, list[Throughput]] = {name: [] for name in settings}
    heard = 50.0
    for number in range(rounds):
        for name, setting in settings.items():
            last = outcomes[name][-1].rate if outcomes[name] else heard / 2
            outcome = tuned.measure(build, setting, workload, cores=CORES_HERE, seconds=seconds, first=max(last, 5.0), number=number)
            heard = outcome.rate or heard
            outcomes[name].append(outcome)
            tell(f"{name}, {setting}: {outcome.rate:.4g} queries/s")
    return outcomes


def build_of(factory: str, folder: Path) -> Path:
    """The repository of a model, by the engine, with batches up to the largest query."""
    recsplit.build(factory, out=folder / "models", max_batch_size=BATCHES[-1])
    return folder / "models"
