"""InfAdapter's loop, and MS+: the same with one variant at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from recsplit.capacity.variants import Choice, Objective, choose
from recsplit_controller.forecast import named
from recsplit_controller.simulated.plant import Plant
from recsplit_perf.benchmarks.infadapter.deployments import Deployments, part
from recsplit_perf.benchmarks.infadapter.inputs import CORES, Line, Slice, maxima
from recsplit_perf.benchmarks.infadapter.player import Player

#: The paper's (adapter/main.py): a decision every 30 s, forecasts raised by a tenth, up to four decisions held before less is asked for.
DECIDE_S, RAISED, HELD = 30, 1.1, 4


@dataclass
class _Adapter:
    lines: Sequence[Line]
    objective: Objective
    forecaster: str
    minutes: list[float]
    next_s: float
    deployments: Deployments = field(default_factory=Deployments)
    carried: float = 0.0
    held: int = 0
    seconds: list[float] = field(default_factory=list)

    def forecast(self) -> float:
        return RAISED * named(self.forecaster)(self.minutes)

    def choice(self, rate: float) -> Choice:
        variants = [replace(line.variant(), present=float(self.deployments.cores(line.name))) for line in self.lines]
        return choose(variants, rate, CORES, self.objective)

    def rule(self, plant: Plant, at_s: float) -> None:
        """Every second."""
        self.seconds.append(plant.came(1.0))
        if len(self.seconds) == 60:
            self.minutes.append(max(self.seconds))
            self.seconds.clear()
        self.deployments.step(plant, at_s)
        if at_s < self.next_s or not self.deployments.settled:
            return
        self.next_s, rate = at_s + DECIDE_S, self.forecast()
        if rate <= self.carried and self.held < HELD:
            self.held += 1
            return
        self.held, self.carried, choice = 0, rate, self.choice(rate)
        chosen = dict(zip([line.name for line in self.lines], choice.chosen, strict=True))
        cores = {name: int(each.size.cores) for name, each in chosen.items() if each.size is not None}
        self.deployments.begin(plant, cores, {name: each.share for name, each in chosen.items()}, at_s)


def adapter(name: str, lines: Sequence[Line], part_of_trace: Slice, objective: Objective, forecaster: str) -> Player:
    """The paper's rule, which begins with what it chooses for the minutes before."""
    loop = _Adapter(lines, objective, forecaster, maxima(part_of_trace.before), part_of_trace.start_s + DECIDE_S)
    loop.carried = loop.forecast()
    parts = []
    for line, each in zip(lines, loop.choice(loop.carried).chosen, strict=True):
        count = 0 if each.size is None else int(each.size.cores)
        if count:
            loop.deployments.running[line.name] = (0, count)
        parts.append(part(f"{line.name}/a", line, count, each.share, in_place=False))
        parts.append(part(f"{line.name}/b", line, 0, 0.0, in_place=False))
    return Player(name, loop.rule, tuple(parts), 1)
