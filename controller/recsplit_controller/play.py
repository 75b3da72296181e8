"""A trace of requests per second played to a simulated group, under the controller or any other rule: misses, and what they cost.

The controller's own `decide` and `reconcile` run unchanged, tick by tick; only the clock and the servers are simulated. Every rule meets
the same queries.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsplit_controller.core import decide
from recsplit_controller.memory import Memory
from recsplit_controller.plant import Group, Plant
from recsplit_controller.reconcile import State, reconcile
from recsplit_controller.settings import Settings, Target

Floats = NDArray[np.float64]
#: Sizes a plant, at a tick; `at_s` is the time.
Rule = Callable[[Plant, float], None]


@dataclass(frozen=True, eq=False)
class Played:
    """What became of the queries of a trace. `misses`: those that took longer than the bound, or had waited longer at the end.

    `unit_s`: seconds of units, those that start among them; `units`, int64 [ticks]: how many there were after each tick, and
    `missed`, int64 [ticks]: misses until then.
    """

    queries: int
    misses: int
    unit_s: float
    seconds: float
    units: NDArray[np.int64]
    missed: NDArray[np.int64]

    @property
    def mean_units(self) -> float:
        """Units in the mean."""
        return self.unit_s / self.seconds

    @property
    def miss_share(self) -> float:
        """Misses by queries."""
        return self.misses / max(1, self.queries)


def controlled(settings: Settings, target: Target, memory: Memory = Memory()) -> Rule:  # noqa: B008  (frozen)
    """The controller, as its loop would act: observe, decide, reconcile, act. `memory`: what it knows when it begins."""
    state = State()

    def rule(plant: Plant, at_s: float) -> None:
        nonlocal memory, state
        observation = dataclasses.replace(plant.observe(at_s), counts=plant.counts())
        memory, decisions = decide(settings, (target,), memory, observation)
        state, actions = reconcile(state, decisions, plant.outcomes(), plant.ill(), at_s)
        for action in actions:
            plant.begin(action)

    return rule


def fixed(plant: Plant, at_s: float) -> None:
    """The rule that changes nothing."""


def play(
    rates: Floats,
    group: Group,
    target: Target,
    rule: Rule,
    *,
    bound_ms: float,
    units: int = 1,
    interval_s: int = 5,
    start_s: int = 0,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> Played:
    """Play `rates`, requests in each second, [seconds], to a group of `units` units at first.

    The first second is at `start_s`, and a tick is every `interval_s`. A rate that is no whole number is rounded by chance. `advance` is
    told of every second that is done. Queries and service times depend on `rates`, `start_s` and `seed` only, not on the rule.
    """
    rng = np.random.default_rng((seed, start_s))
    plant = Plant(group, target, units, bound_ms=bound_ms, at_s=float(start_s))
    counts = np.floor(rates + rng.random(len(rates))).astype(np.int64)
    ticks = math.ceil(len(rates) / interval_s)
    sizes, missed = np.zeros(ticks, dtype=np.int64), np.zeros(ticks, dtype=np.int64)
    at_s = start_s
    for tick in range(ticks):
        coming = counts[tick * interval_s : (tick + 1) * interval_s]
        seconds = np.repeat(np.arange(at_s, at_s + len(coming), dtype=np.float64), coming)
        due_s = np.sort(seconds + rng.random(len(seconds)))
        at_s += len(coming)
        plant.advance(due_s, group.draw(len(due_s), rng), float(at_s))
        rule(plant, float(at_s))
        sizes[tick], missed[tick] = plant.asked(), plant.misses
        if advance is not None:
            advance(len(coming))
    left, late = plant.left()
    return Played(plant.served + left, plant.misses + late, plant.unit_s, float(len(rates)), sizes, missed)
