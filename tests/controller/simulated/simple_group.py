"""Two steps served by fluid queues, so that a policy's decisions have their consequences: enough for properties, not for numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from recsplit_controller.core.decide import decide
from recsplit_controller.core.memory import Memory
from recsplit_controller.forecast import named
from recsplit_controller.values.decision import Decision
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Settings, Target

TICK_S = 5.0


@dataclass
class Plant:
    """A step for each target, one after the other; `service_s` by target; counts are what was decided a tick ago."""

    settings: Settings
    targets: Sequence[Target]
    service_s: Mapping[str, float]
    counts: dict[str, int]
    memory: Memory = field(default_factory=Memory)
    at_s: float = 1_000_000.0
    pending: dict[str, float] = field(default_factory=dict)

    def tick(self, rate: float) -> tuple[Decision, ...]:
        """Serve `rate` queries a second for a tick, decide, and obey."""
        self.at_s += TICK_S
        flow, mean_ms = rate, 0.0
        models = {}
        for target in self.targets:
            service_s, count = self.service_s[target.name], self.counts[target.name]
            queue = self.pending.get(target.name, 0.0)
            done = min(count / service_s, flow + queue / TICK_S)
            queue = max(0.0, queue + (flow - done) * TICK_S)
            self.pending[target.name] = queue
            mean_ms += 1000 * (service_s + (queue / done if done else 0.0))
            models[target.model] = Series(requests=done, busy=done * service_s, waiting=queue, pending=queue)
            flow = done
        models["shop"] = Series(requests=flow, mean_ms=mean_ms, p50_ms=mean_ms, p95_ms=mean_ms, p99_ms=mean_ms)
        seen = Observation(self.at_s, self.at_s - 1, "shop", models, {name: Count.steady(count) for name, count in self.counts.items()})
        self.memory, decisions = decide(self.settings, named(self.settings.forecaster), self.targets, self.memory, seen)
        self.counts = {decision.target: decision.wanted or 1 for decision in decisions}
        return decisions

    def run(self, ticks: int, rate: Callable[[int], float]) -> list[tuple[int, ...]]:
        """The counts after each of so many ticks."""
        counts = []
        for tick in range(ticks):
            self.tick(rate(tick))
            counts.append(tuple(self.counts.values()))
        return counts
