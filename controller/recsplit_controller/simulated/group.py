"""A simulated group of units behind one queue, which the controller sees and moves as it does a server: Observer and Actuator in one.

Queries come when they are told to (`advance`), wait first in, first out, and take a unit for their service time. A unit that is asked for
serves `start_s` later. What is seen of it is what Triton tells: rates over a window of what ended, the mean number of busy units,
percentiles over a sliding minute.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsplit_controller.simulated.fifo import serve
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Target

Floats = NDArray[np.float64]
#: Over which Triton's summaries slide.
SUMMARY_S = 60.0


@dataclass(frozen=True)
class Group:
    """Units that are alike. A query takes `service_s` of one in the mean; `spread` is the standard deviation in parts of the mean (gamma;
    0: always the same). A new unit serves `start_s` after it was asked for; where `blocks`, the action ends only then, as
    Triton's load call does, and else at once, as Kubernetes' does. Rates are over the last `window_s`.
    """

    service_s: float = 0.04
    spread: float = 0.0
    start_s: float = 1.0
    blocks: bool = True
    window_s: float = 10.0

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        """Service times in seconds, float64 [count]."""
        if self.spread <= 0:
            return np.full(count, self.service_s)
        shape = self.spread**-2
        return rng.gamma(shape, self.service_s / shape, count)


@dataclass(frozen=True)
class _Piece:
    """Between two ticks: how many queries came, and of those that ended seconds waited and served in sum, latencies in ms."""

    from_s: float
    came: int
    waited_s: float
    served_s: float
    latency_ms: Floats


class Plant:
    """A group with `count` units at `at_s`, as `target` of the controller; queries enter by an ensemble of the name `ensemble`.

    `served` queries ended, of which `misses` took longer than `bound_ms`; `unit_s`: seconds of units, from when each was asked
    for until it was let go.
    """

    def __init__(self, group: Group, target: Target, count: int, *, bound_ms: float, at_s: float = 0.0, ensemble: str = "whole") -> None:
        self._group, self._target, self._ensemble, self._bound_ms = group, target, ensemble, bound_ms
        self._now = at_s
        self._free = np.full(count, at_s)
        self._ready = np.full(count, at_s)
        self._queue: Floats = np.zeros((2, 0))  # due, service
        self._running: Floats = np.zeros((3, 0))  # due, begun, service
        self._pieces: deque[_Piece] = deque()
        self._actions: list[tuple[Action, float]] = []
        self.served, self.misses, self.unit_s = 0, 0, 0.0

    def advance(self, due_s: Floats, service_s: Floats, at_s: float) -> None:
        """Let time pass until `at_s`. `due_s` (rising, all before `at_s`) and `service_s`: the queries that come until then."""
        queue = np.concatenate([self._queue, np.stack([due_s, service_s])], axis=1)
        begun_s = np.empty(queue.shape[1])
        count = serve(self._free, queue[0], queue[1], at_s, begun_s)
        self._queue = queue[:, count:]
        running = np.concatenate([self._running, np.stack([queue[0, :count], begun_s[:count], queue[1, :count]])], axis=1)
        ended = running[1] + running[2] <= at_s
        self._running, (due, begun, service) = running[:, ~ended], running[:, ended]
        waited = begun - due
        latency_ms = 1000 * (waited + service)
        self._pieces.append(_Piece(self._now, len(due_s), float(waited.sum()), float(service.sum()), latency_ms))
        while len(self._pieces) > 1 and self._pieces[0].from_s < at_s - max(SUMMARY_S, self._group.window_s):
            self._pieces.popleft()
        self.served += len(latency_ms)
        self.misses += int((latency_ms > self._bound_ms).sum())
        self.unit_s += len(self._free) * (at_s - self._now)
        self._now = at_s

    def left(self) -> tuple[int, int]:
        """Queries that have not ended, and how many of them have been there for longer than the bound."""
        due = np.concatenate([self._queue[0], self._running[0]])
        return len(due), int((1000 * (self._now - due) > self._bound_ms).sum())

    def came(self, window_s: float) -> float:
        """Queries a second that came in the last `window_s`, as something in front of the group would count them; 0 before any tick."""
        pieces = self._last(window_s)
        return sum(piece.came for piece in pieces) / (self._now - pieces[0].from_s) if pieces else 0.0

    def observe(self, at_s: float) -> Observation:
        """What Triton and Prometheus would tell at `at_s`, which is the time that `advance` went to."""
        pieces = self._last(self._group.window_s)
        if not pieces:
            return Observation(at_s, None, self._ensemble, problems=("nothing was seen yet",))
        seconds = at_s - pieces[0].from_s
        requests = sum(len(piece.latency_ms) for piece in pieces)
        minute = np.concatenate([piece.latency_ms for piece in self._pieces if piece.from_s >= at_s - SUMMARY_S] or [np.zeros(0)])
        p50_ms, p95_ms, p99_ms = _percentiles(minute)
        waited_s, served_s = sum(piece.waited_s for piece in pieces), sum(piece.served_s for piece in pieces)
        rate = requests / seconds
        series = Series(
            requests=rate,
            rows=rate,
            executions=rate,
            failures=0.0,
            busy=served_s / seconds,
            waiting=waited_s / seconds,
            pending=float(self._queue.shape[1]),
            mean_ms=1000 * (waited_s + served_s) / requests if requests else None,
            p50_ms=p50_ms,
            p95_ms=p95_ms,
            p99_ms=p99_ms,
        )
        return Observation(at_s, at_s, self._ensemble, {self._target.model: series, self._ensemble: series})

    def _last(self, window_s: float) -> list[_Piece]:
        """What was since `window_s` ago, or since the last tick where that is longer ago."""
        return [piece for piece in self._pieces if piece.from_s >= self._now - window_s] or list(self._pieces)[-1:]

    def counts(self) -> Mapping[str, Count]:
        """Units that serve, and those that serve or start."""
        return {self._target.name: Count(int((self._ready <= self._now).sum()), self.asked())}

    def asked(self) -> int:
        """Units that serve or start."""
        return len(self._free)

    def begin(self, action: Action) -> None:
        """Start units, or let some go: first those that still start, then idle ones, then those that will be free first."""
        ready_s = self._now
        more = action.count - len(self._free)
        if more > 0:
            ready_s += self._group.start_s
            self._free = np.append(self._free, np.full(more, ready_s))
            self._ready = np.append(self._ready, np.full(more, ready_s))
        elif more < 0:
            starting = np.where(self._ready > self._now, -self._ready, 0.0)
            stay = np.sort(np.lexsort((self._free, starting))[-more:])
            self._free, self._ready = self._free[stay], self._ready[stay]
        self._actions.append((action, ready_s if self._group.blocks else self._now))

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


def _percentiles(latency_ms: Floats) -> tuple[float | None, float | None, float | None]:
    """The 50th, 95th and 99th; None without any. By places, as Triton's summaries give them, not between two."""
    if not len(latency_ms):
        return None, None, None
    places = [int(share * (len(latency_ms) - 1)) for share in (0.5, 0.95, 0.99)]
    p50, p95, p99 = np.partition(latency_ms, sorted(set(places)))[places]
    return float(p50), float(p95), float(p99)
