"""Kubernetes with one variant: its vertical autoscaler (VPA), which makes deployments larger, and its horizontal one (HPA)."""

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from recsplit.capacity.autoscale import ScalingRule, replicas_asked, step
from recsplit_controller.simulated.plant import Plant
from recsplit_controller.values.decision import Action
from recsplit_perf.benchmarks.infadapter.deployments import GENERATIONS, Deployments, part
from recsplit_perf.benchmarks.infadapter.inputs import CAPACITY_SHARE, CORES, Line, Slice
from recsplit_perf.benchmarks.infadapter.player import Player

#: The recommender's: the 90th percentile of use and 15 % more, of samples of a minute whose weight halves in a day.
SHARE, MARGIN, SAMPLE_S, HALF_LIFE_S = 0.9, 1.15, 60, 86_400
#: A recommender that forgets faster, and is told what the load asks for where a full deployment only uses what it has.
REACTIVE_HALF_LIFE_S = 300
#: HPA looks every 15 s, and keeps the most that it wanted in five minutes.
SYNC_S, KEPT_S = 15, 300


@dataclass
class _Vertical:
    line: Line
    use: list[float]
    next_s: float
    half_life_s: float
    sees_demand: bool
    deployments: Deployments = field(default_factory=Deployments)
    busy_s: float = 0.0

    def recommended(self) -> int:
        weights = 0.5 ** (np.arange(len(self.use))[::-1] * SAMPLE_S / self.half_life_s)
        order = np.argsort(self.use)
        reached = np.cumsum(weights[order]) >= SHARE * weights.sum() - 1e-12
        return min(CORES, max(1, math.ceil(MARGIN * self.use[order[int(np.argmax(reached))]])))

    def rule(self, plant: Plant, at_s: float) -> None:
        """Every second."""
        self.deployments.step(plant, at_s)
        if at_s < self.next_s:
            return
        self.next_s = at_s + SAMPLE_S
        busy_s = sum(plant.busy_s(f"{self.line.name}/{generation}") for generation in GENERATIONS)
        used, self.busy_s = (busy_s - self.busy_s) / SAMPLE_S, busy_s
        self.use.append(plant.came(SAMPLE_S) * self.line.service_s if self.sees_demand else used)
        cores = self.recommended()
        if self.deployments.settled and cores != self.deployments.cores(self.line.name):
            self.deployments.begin(plant, {self.line.name: cores}, {self.line.name: 1.0}, at_s)


def vertical(line: Line, part_of_trace: Slice, *, reactive: bool) -> Player:
    """VPA, which knows the day before."""
    use = [line.service_s * float(minute.mean()) for minute in part_of_trace.before.reshape(-1, SAMPLE_S)]
    half_life_s = REACTIVE_HALF_LIFE_S if reactive else HALF_LIFE_S
    loop = _Vertical(line, use, part_of_trace.start_s + SAMPLE_S, half_life_s, reactive)
    count = loop.recommended()
    loop.deployments.running[line.name] = (0, count)
    parts = (part(f"{line.name}/a", line, count, 1.0, in_place=False), part(f"{line.name}/b", line, 0, 0.0, in_place=False))
    return Player(f"VPA {'reactive ' if reactive else ''}{line.name}", loop.rule, parts, 1)


def horizontal(line: Line, part_of_trace: Slice) -> Player:
    """HPA on queries a second: replicas of a core, each for as much as the paper plans a core with."""
    rule = ScalingRule("qps", CAPACITY_SHARE * line.slope, most=CORES, settle_s=KEPT_S)
    recommended: deque[int] = deque(maxlen=KEPT_S // SYNC_S)
    start = min(CORES, max(1, math.ceil(float(part_of_trace.before[-SAMPLE_S:].mean()) / rule.target)))

    def act(plant: Plant, at_s: float) -> None:
        count = plant.counts()[line.name]
        present = count.asked or 0
        recommended.append(replicas_asked(present, count.serving or 0, plant.came(rule.window_s), rule))
        replicas = step(present, list(recommended), rule)
        if replicas != present:
            plant.begin(Action("scale", line.name, replicas, at_s, "hpa"))

    return Player(f"HPA {line.name}", act, (part(line.name, line, start, 1.0, in_place=False),), SYNC_S)
