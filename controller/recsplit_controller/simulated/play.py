"""A trace of requests per second played to simulated servers, under the controller or any other rule: misses, and what they cost.

The controller's own `decide` and `reconcile` run unchanged, tick by tick; only the clock and the servers are simulated. Every rule meets
the same queries.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsplit_controller.core.decide import decide
from recsplit_controller.core.memory import Memory
from recsplit_controller.core.reconcile import State, reconcile
from recsplit_controller.forecast.forecaster import Forecaster
from recsplit_controller.simulated.plant import Part, Plant
from recsplit_controller.values.settings import Settings, Target

Floats = NDArray[np.float64]
#: Queries are drawn for so many seconds at once, whatever the interval of ticks.
BLOCK_S = 60
#: Sizes the servers, at a tick; `at_s` is the time.
Acting = Callable[[Plant, float], None]


@dataclass(frozen=True, eq=False)
class Played:
    """What became of the queries of a trace. `misses`: those that took longer than the bound, or had waited longer at the end.

    `unit_s`: seconds of units, those that start among them; `units`, int64 [ticks]: how many there were after each tick, of all targets,
    and `by_target` of each; `missed`, int64 [ticks]: misses until then. `served_by`: queries that ended at each target.
    """

    queries: int
    misses: int
    unit_s: float
    seconds: float
    units: NDArray[np.int64]
    by_target: Mapping[str, NDArray[np.int64]]
    missed: NDArray[np.int64]
    served_by: Mapping[str, int]

    @property
    def mean_units(self) -> float:
        """Units in the mean."""
        return self.unit_s / self.seconds

    @property
    def miss_share(self) -> float:
        """Misses by queries."""
        return self.misses / max(1, self.queries)


def controlled(settings: Settings, forecaster: Forecaster, targets: Sequence[Target], memory: Memory = Memory()) -> Acting:  # noqa: B008  (frozen)
    """The controller, as its loop would act: observe, decide, reconcile, act. `memory`: what it knows when it begins."""
    state = State()

    def rule(plant: Plant, at_s: float) -> None:
        nonlocal memory, state
        observation = dataclasses.replace(plant.observe(at_s), counts=plant.counts())
        memory, decisions = decide(settings, forecaster, targets, memory, observation)
        state, actions = reconcile(state, targets, decisions, plant.outcomes(), plant.ill(), at_s)
        for action in actions:
            plant.begin(action)

    return rule


def fixed(plant: Plant, at_s: float) -> None:
    """The rule that changes nothing."""


def play(
    rates: Floats,
    parts: Sequence[Part],
    rule: Acting,
    *,
    bound_ms: float,
    interval_s: int = 5,
    start_s: int = 0,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> Played:
    """Play `rates`, requests in each second, [seconds], to these parts of a server.

    The first second is at `start_s`, and a tick is every `interval_s`. A rate that is no whole number is rounded by chance. `advance` is
    told of every second that is done. Queries and their work depend on `rates`, `start_s`, `seed` and the steps only, not on rule or
    interval.
    """
    plant = Plant(parts, bound_ms=bound_ms, at_s=float(start_s))
    blocks = _blocks(rates, plant, start_s, np.random.default_rng((seed, start_s)))
    coming: Floats = np.zeros((1 + plant.rows, 0))
    ticks = math.ceil(len(rates) / interval_s)
    missed = np.zeros(ticks, dtype=np.int64)
    by_target = {part.target.name: np.zeros(ticks, dtype=np.int64) for part in parts}
    known_s = at_s = start_s
    for tick in range(ticks):
        before_s, at_s = at_s, min(start_s + (tick + 1) * interval_s, start_s + len(rates))
        while known_s < at_s:
            coming, known_s = np.concatenate([coming, next(blocks)], axis=1), known_s + BLOCK_S
        count = int(np.searchsorted(coming[0], at_s))
        plant.advance(coming[0, :count], coming[1:, :count], float(at_s))
        coming = coming[:, count:]
        rule(plant, float(at_s))
        missed[tick] = plant.misses
        for name, count_now in plant.counts().items():
            by_target[name][tick] = count_now.asked
        if advance is not None:
            advance(at_s - before_s)
    left, late = plant.left()
    units = np.sum(list(by_target.values()), axis=0)
    return Played(plant.served + left, plant.misses + late, plant.unit_s, float(len(rates)), units, by_target, missed, plant.served_by)


def _blocks(rates: Floats, plant: Plant, start_s: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Queries in blocks of BLOCK_S seconds: float64 [rows, queries], when each comes, rising, and what is drawn of it."""
    for first in range(0, len(rates), BLOCK_S):
        block = rates[first : first + BLOCK_S]
        counts = np.floor(block + rng.random(len(block))).astype(np.int64)
        seconds = np.repeat(np.arange(len(block), dtype=np.float64), counts)
        due_s = np.sort(start_s + first + seconds + rng.random(len(seconds)))
        yield np.concatenate([due_s[None], plant.draw(len(due_s), rng)])
