"""All that is played, as frozen values, and what follows from it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsplit.capacity.variants import Objective, choose
from recsplit_perf.benchmarks.infadapter import adapter, kubernetes, ours
from recsplit_perf.benchmarks.infadapter.inputs import CORES, Line, Slice
from recsplit_perf.benchmarks.infadapter.player import Player, Run, run

#: What all cores are worth in accuracy, from next to nothing to more than the most accurate variant has over the least.
COSTS = (0.0125, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.4)
#: The paper's own, and the controller's default.
COST = 0.05
#: The bound is the 99th percentile's: it is met with so many late.
LATE = 0.01
PAPER, OURS, ONE_AT_A_TIME = "InfAdapter", "recsplit", "MS+"


@dataclass(frozen=True)
class Result:
    """`runs` by slice, in the order of `SLICES`; `example`: what the paper's formula chooses for 110 queries/s on empty machines."""

    provenance: Mapping[str, Any]
    lines: tuple[Line, ...]
    example: Mapping[str, float]
    loads: Mapping[str, tuple[float, float, int]]
    runs: Mapping[str, tuple[Run, ...]]

    def one(self, part_of_trace: str, rule: str) -> Run:
        """The run of that rule."""
        return next(each for each in self.runs[part_of_trace] if each.rule == rule)

    def curve(self, part_of_trace: str, rule: str) -> tuple[Run, ...]:
        """A rule's runs at all costs."""
        return tuple(self.one(part_of_trace, f"{rule}, cost {cost:g}") for cost in COSTS)

    def at_cores(self, part_of_trace: str, cores: float) -> tuple[float, float]:
        """Accuracy that the controller loses and queries that it misses on so many cores: between its own points by a line (one of them for
        a part of the time), beyond them the outermost; inf where it needs more."""
        points = sorted(self.curve(part_of_trace, OURS), key=lambda each: each.cores)
        if cores < points[0].cores:
            return math.inf, math.inf
        at = [each.cores for each in points]
        return float(np.interp(cores, at, [each.lost for each in points])), float(np.interp(cores, at, [each.missed for each in points]))

    def behind(self) -> tuple[Run, ...]:
        """The paper's points, of all slices, that the controller's curve isn't ahead of in accuracy, with no more late or the bound met."""
        worse = []
        for part_of_trace in self.runs:
            for point in self.curve(part_of_trace, PAPER):
                lost, missed = self.at_cores(part_of_trace, point.cores)
                if lost > point.lost - 1e-12 or missed > max(point.missed, LATE):
                    worse.append(point)
        return tuple(worse)


def players(lines: Sequence[Line], part_of_trace: Slice) -> list[Callable[[], Player]]:
    """Everyone who is played; each is made when its turn comes."""
    everyone: list[Callable[[], Player]] = [
        lambda: adapter.adapter(f"{PAPER}, its forecaster", lines, part_of_trace, Objective(COST), "ewm"),
        lambda: adapter.adapter(ONE_AT_A_TIME, lines, part_of_trace, Objective(COST, single=True), "last_max"),
        lambda: ours.controller(lines, part_of_trace, COST, "seasonal"),
        lambda: ours.controller(lines, part_of_trace, COST, in_place=False),
    ]
    for cost in COSTS:
        everyone.append(
            lambda cost=cost: adapter.adapter(f"{PAPER}, cost {cost:g}", lines, part_of_trace, Objective(cost), "last_max")  # type: ignore[misc]
        )
        everyone.append(lambda cost=cost: ours.controller(lines, part_of_trace, cost))  # type: ignore[misc]
    for line in lines:
        everyone += [
            lambda line=line: kubernetes.vertical(line, part_of_trace, reactive=False),  # type: ignore[misc]
            lambda line=line: kubernetes.vertical(line, part_of_trace, reactive=True),  # type: ignore[misc]
            lambda line=line: kubernetes.horizontal(line, part_of_trace),  # type: ignore[misc]
        ]
    return everyone


def play_all(
    lines: Sequence[Line], parts: Sequence[Slice], provenance: Mapping[str, Any], advance: Callable[[int], None] = lambda _: None
) -> Result:
    """Everything; `advance` is told of each run."""
    variants = [line.variant() for line in lines]
    choice = choose(variants, 110, CORES, Objective())
    example = {variant.name: each.size.cores for variant, each in zip(variants, choice.chosen, strict=True) if each.size is not None}
    runs: dict[str, tuple[Run, ...]] = {}
    for part_of_trace in parts:
        played = []
        for player in players(lines, part_of_trace):
            played.append(run(player(), part_of_trace))
            advance(1)
        runs[part_of_trace.name] = tuple(played)
    loads = {each.name: (float(each.rates.mean()), float(each.rates.max()), each.start_s) for each in parts}
    return Result(provenance, tuple(lines), example, loads, runs)
