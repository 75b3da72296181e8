"""A simulated server, which the controller sees and moves as it does a real one: Observer and Actuator in one.

Queries come when they are told to (`advance`), and run the steps one after the other. A step is one target, or the targets of a group,
among which a router shares the queries out by weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recsplit_controller.core.groups import groups_of
from recsplit_controller.simulated.station import Floats, Piece, Pieces, Station, Units
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count, Observation
from recsplit_controller.values.settings import Target


@dataclass(frozen=True)
class Part:
    """A target, the units that it has, and how many at first; `weight` in its group's router, where it has a group."""

    target: Target
    units: Units = field(default_factory=Units)
    count: int = 1
    weight: float = 1.0


class Plant:
    """`parts` in the order of their steps; those of one group are one step. Queries enter by an ensemble of the name `ensemble`.

    `served` queries ended, of which `misses` took longer than `bound_ms`.
    """

    def __init__(self, parts: Sequence[Part], *, bound_ms: float, at_s: float = 0.0, ensemble: str = "whole") -> None:
        self._parts = {part.target.name: part for part in parts}
        self._ensemble, self._bound_ms, self._now = ensemble, bound_ms, at_s
        self._steps = [[target.name for target in group] for group in groups_of([part.target for part in parts])]
        #: Of a query that is drawn: two for each step.
        self.rows = 2 * len(self._steps)
        self._stations = {name: Station(part.units, part.count, at_s, 2 + self.rows) for name, part in self._parts.items()}
        self._weights = {name: part.weight for name, part in self._parts.items()}
        self._pieces = Pieces(parts[0].units.window_s)
        self._actions: list[tuple[Action, float]] = []
        self.served, self.misses = 0, 0

    @property
    def unit_s(self) -> float:
        """Seconds of units, from when each was asked for until it was let go."""
        return sum(station.unit_s for station in self._stations.values())

    @property
    def served_by(self) -> Mapping[str, int]:
        """Queries that ended at each target."""
        return {name: station.served for name, station in self._stations.items()}

    def idle(self, name: str) -> bool:
        """Whether no query waits or runs at a target."""
        return self._stations[name].left().shape[1] == 0

    def busy_s(self, name: str) -> float:
        """Seconds that a target's units have served queries that ended."""
        return self._stations[name].busy_s

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        """What `advance` takes of so many queries: float64 [2 * steps, count], for each step how much work it is and a place in [0, 1) that
        decides which target of a group does it. The spread is that of the step's first target."""
        rows: list[Floats] = []
        for step in self._steps:
            rows.append(self._parts[step[0]].units.works(count, rng))
            rows.append(rng.random(count) if len(step) > 1 else np.zeros(count))
        return np.stack(rows)

    def advance(self, due_s: Floats, drawn: Floats, at_s: float) -> None:
        """Let time pass until `at_s`. `due_s`, float64 [n] (rising, all before `at_s`): when queries come until then; `drawn`: theirs."""
        queries = np.concatenate([due_s[None], due_s[None], drawn])  # due at a step, entered, and two rows a step
        for number, step in enumerate(self._steps):
            work, place = queries[2 + 2 * number], queries[3 + 2 * number]
            bounds = np.cumsum([self._weights[name] for name in step])
            chosen = np.searchsorted(bounds / bounds[-1], place, side="right") if len(step) > 1 else np.zeros(len(place), dtype=np.int64)
            ended = [
                self._stations[name].advance(queries[:, chosen == index], work[chosen == index] * self._parts[name].units.service_s, at_s)
                for index, name in enumerate(step)
            ]
            queries = np.concatenate(ended, axis=1)
            if len(ended) > 1:
                queries = queries[:, np.argsort(queries[0], kind="stable")]
        latency_ms = 1000 * (queries[0] - queries[1])
        self._pieces.add(Piece(self._now, len(due_s), float(latency_ms.sum()) / 1000, 0.0, latency_ms), at_s)
        self.served += len(latency_ms)
        self.misses += int((latency_ms > self._bound_ms).sum())
        self._now = at_s

    def left(self) -> tuple[int, int]:
        """Queries that have not ended, and how many of them have been there for longer than the bound."""
        entered = np.concatenate([station.left()[1] for station in self._stations.values()])
        return len(entered), int((1000 * (self._now - entered) > self._bound_ms).sum())

    def came(self, window_s: float) -> float:
        """Queries a second that came in the last `window_s`, as something in front would count them; 0 before any tick."""
        return self._pieces.came(window_s, self._now)

    def observe(self, at_s: float) -> Observation:
        """What Triton and Prometheus would tell at `at_s`, which is the time that `advance` went to."""
        whole = self._pieces.series(at_s, None)
        if whole.requests is None:
            return Observation(at_s, None, self._ensemble, problems=("nothing was seen yet",))
        models = {part.target.model: self._stations[name].series(at_s) for name, part in self._parts.items()}
        return Observation(at_s, at_s, self._ensemble, models | {self._ensemble: whole})

    def counts(self) -> Mapping[str, Count]:
        """Units by target; of a group's with the router's weights."""
        counts = {}
        for step in self._steps:
            total = sum(self._weights[name] for name in step)
            for name in step:
                count = self._stations[name].count()
                weight = None if self._parts[name].target.group is None else self._weights[name] / total
                counts[name] = Count(count.serving, count.asked, weight=weight)
        return counts

    def asked(self) -> int:
        """Units of all targets that serve or start."""
        return sum(station.count().asked or 0 for station in self._stations.values())

    def begin(self, action: Action) -> None:
        """Start units, or let some go; or route by other weights from now on."""
        if action.weights is not None:
            self._weights |= action.weights
            self._actions.append((action, self._now))
            return
        station = self._stations[action.target]
        ready_s = station.scale(action.count)
        self._actions.append((action, ready_s if station.units.blocks else self._now))

    def outcomes(self) -> Sequence[Outcome]:
        """The actions that ended by now."""
        ended = [Outcome(action, None, ready_s - action.at_s) for action, ready_s in self._actions if ready_s <= self._now]
        self._actions = [(action, ready_s) for action, ready_s in self._actions if ready_s > self._now]
        return ended

    def ill(self) -> Mapping[str, str]:
        """Nothing dies here."""
        return {}

    def close(self) -> None:
        """Nothing is held."""
