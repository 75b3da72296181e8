"""Units behind one queue, simulated: queries wait first in, first out, and take a unit for their service time."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsplit_controller.simulated.fifo import serve
from recsplit_controller.values.observation import Count, Series

Floats = NDArray[np.float64]
#: Over which Triton's summaries slide.
SUMMARY_S = 60.0


@dataclass(frozen=True)
class Units:
    """Units that are alike. A query takes `service_s` of one in the mean; `spread` is the standard deviation in parts of the mean (gamma;
    0: always the same). A new unit serves `start_s` after it was asked for; where `blocks`, the action ends only then, as
    Triton's load call does, and else at once, as Kubernetes' does. Where some serve already, more do after `resize_s` (None: as long), as
    a container whose cores are changed in place. Rates are over the last `window_s`.
    """

    service_s: float = 0.04
    spread: float = 0.0
    start_s: float = 1.0
    blocks: bool = True
    window_s: float = 10.0
    resize_s: float | None = None

    def works(self, count: int, rng: np.random.Generator) -> Floats:
        """How much longer than the mean each of so many queries takes, float64 [count], 1.0 in the mean."""
        if self.spread <= 0:
            return np.ones(count)
        shape = self.spread**-2
        return rng.gamma(shape, 1 / shape, count)


@dataclass(frozen=True)
class Piece:
    """Between two ticks: how many queries came, and of those that ended seconds waited and served in sum, latencies in ms."""

    from_s: float
    came: int
    waited_s: float
    served_s: float
    latency_ms: Floats


class Pieces:
    """What was between the last ticks, for as long as anybody looks back; `window_s`: over which rates are."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._pieces: deque[Piece] = deque()

    def add(self, piece: Piece, at_s: float) -> None:
        """One that ends at `at_s`."""
        self._pieces.append(piece)
        while len(self._pieces) > 1 and self._pieces[0].from_s < at_s - max(SUMMARY_S, self._window_s):
            self._pieces.popleft()

    def came(self, window_s: float, at_s: float) -> float:
        """Queries a second that came in the last `window_s`; 0 before any tick."""
        pieces = self._last(window_s, at_s)
        return sum(piece.came for piece in pieces) / (at_s - pieces[0].from_s) if pieces else 0.0

    def series(self, at_s: float, pending: int | None) -> Series:
        """What Triton and Prometheus would tell of them; `pending` None: of the whole, of which only what ended is told."""
        pieces = self._last(self._window_s, at_s)
        if not pieces:
            return Series()
        seconds = at_s - pieces[0].from_s
        requests = sum(len(piece.latency_ms) for piece in pieces)
        minute = np.concatenate([piece.latency_ms for piece in self._pieces if piece.from_s >= at_s - SUMMARY_S] or [np.zeros(0)])
        p50_ms, p95_ms, p99_ms = _percentiles(minute)
        waited_s, served_s = sum(piece.waited_s for piece in pieces), sum(piece.served_s for piece in pieces)
        rate = requests / seconds
        return Series(
            requests=rate,
            rows=rate,
            executions=rate,
            failures=0.0,
            busy=None if pending is None else served_s / seconds,
            waiting=None if pending is None else waited_s / seconds,
            pending=None if pending is None else float(pending),
            mean_ms=1000 * (waited_s + served_s) / requests if requests else None,
            p50_ms=p50_ms,
            p95_ms=p95_ms,
            p99_ms=p99_ms,
        )

    def _last(self, window_s: float, at_s: float) -> list[Piece]:
        """What was since `window_s` ago, or since the last tick where that is longer ago."""
        return [piece for piece in self._pieces if piece.from_s >= at_s - window_s] or list(self._pieces)[-1:]


class Station:
    """`count` units at `at_s`, and the queue in front of them; a query is so many `rows`. `unit_s`: seconds of units, from when each was
    asked for until it was let go; `served`: queries that ended; `busy_s`: seconds that
    those took."""

    def __init__(self, units: Units, count: int, at_s: float, rows: int) -> None:
        self.units = units
        self.unit_s, self.busy_s, self.served = 0.0, 0.0, 0
        self._now = at_s
        self._free = np.full(count, at_s)
        self._ready = np.full(count, at_s)
        self._queue: Floats = np.zeros((rows + 1, 0))  # queries, their service time last
        self._running: Floats = np.zeros((rows + 2, 0))  # queries, begun, service
        self._pieces = Pieces(units.window_s)

    def advance(self, queries: Floats, service_s: Floats, at_s: float) -> Floats:
        """Let time pass until `at_s`, and return the queries that ended, in the order of their ends.

        queries, float64 [rows, n]: the first row says when each is due here (rising, all before `at_s`), and in what is returned when it
        ended; the other rows go with it. service_s, float64 [n].
        """
        queue = np.concatenate([self._queue, np.concatenate([queries, service_s[None]])], axis=1)
        begun_s = np.empty(queue.shape[1])
        count = serve(self._free, queue[0], queue[-1], at_s, begun_s) if len(self._free) else 0
        self._queue = queue[:, count:]
        begun = np.concatenate([queue[:-1, :count], begun_s[None, :count], queue[-1:, :count]])
        running = np.concatenate([self._running, begun], axis=1)
        end_s = running[-2] + running[-1]
        ends = end_s <= at_s
        self._running, ended, end_s = running[:, ~ends], running[:, ends], end_s[ends]
        waited, service = ended[-2] - ended[0], ended[-1]
        self._pieces.add(Piece(self._now, queries.shape[1], float(waited.sum()), float(service.sum()), 1000 * (waited + service)), at_s)
        self.unit_s += len(self._free) * (at_s - self._now)
        self._now = at_s
        self.served += len(end_s)
        self.busy_s += float(service.sum())
        order = np.argsort(end_s, kind="stable")
        return np.concatenate([end_s[None, order], ended[1:-2, order]])

    def series(self, at_s: float) -> Series:
        """What Triton and Prometheus would tell of it."""
        return self._pieces.series(at_s, self._queue.shape[1])

    def left(self) -> Floats:
        """Queries that have not ended, float64 [rows, n]."""
        return np.concatenate([self._queue[:-1], self._running[:-2]], axis=1)

    def count(self) -> Count:
        """Units that serve, and those that serve or start."""
        return Count(int((self._ready <= self._now).sum()), len(self._free))

    def scale(self, count: int) -> float:
        """Start units, or let some go: first those that still start, then idle ones, then those that will be free first. Returns when the
        last one serves."""
        ready_s, more = self._now, count - len(self._free)
        if more > 0:
            resize_s = self.units.resize_s if (self._ready <= self._now).any() else None
            ready_s += self.units.start_s if resize_s is None else resize_s
            self._free = np.append(self._free, np.full(more, ready_s))
            self._ready = np.append(self._ready, np.full(more, ready_s))
        elif more < 0:
            starting = np.where(self._ready > self._now, -self._ready, 0.0)
            stay = np.sort(np.lexsort((self._free, starting))[-more:])
            self._free, self._ready = self._free[stay], self._ready[stay]
        return ready_s


def _percentiles(latency_ms: Floats) -> tuple[float | None, float | None, float | None]:
    """The 50th, 95th and 99th; None without any. By places, as Triton's summaries give them, not between two."""
    if not len(latency_ms):
        return None, None, None
    places = [int(share * (len(latency_ms) - 1)) for share in (0.5, 0.95, 0.99)]
    p50, p95, p99 = np.partition(latency_ms, sorted(set(places)))[places]
    return float(p50), float(p95), float(p99)
