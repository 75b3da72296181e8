"""A load that goes up and down in steps, and what became of its queries second by second."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity import arrivals
from recsplit.capacity.search import percentile_ms
from recsplit_perf.traffic.open_loop import Sent


@dataclass(frozen=True)
class Step:
    """So many queries a second in the mean, for so many seconds."""

    rate: int
    seconds: int


def draw(steps: Sequence[Step], rng: np.random.Generator) -> NDArray[np.float64]:
    """When the queries are due: a Poisson process with each step's rate, in s from the start, float64 [n], sorted."""
    rates = np.repeat([step.rate for step in steps], [step.seconds for step in steps])
    return arrivals.draw(arrivals.Trace("steps", rates.astype(np.int64)), len(rates), rng)


def starts_s(steps: Sequence[Step]) -> list[int]:
    """When each step begins, in s from the start, and when the last one ends."""
    return [0, *np.cumsum([step.seconds for step in steps]).tolist()]


@dataclass(frozen=True, eq=False)
class Seconds:
    """Queries by the second in which they were due: [n] each. `percentile_ms` is inf where so many failed, nan where none was due."""

    queries: NDArray[np.int64]
    percentile_ms: NDArray[np.float64]
    failed: NDArray[np.int64]


def by_second(sent: Sent, seconds: int, percent: float) -> Seconds:
    """What became of the queries due in each of so many seconds."""
    places = np.clip(sent.due_s.astype(np.int64), 0, seconds - 1)
    groups = [sent.latency_ms[places == second] for second in range(seconds)]
    return Seconds(
        np.array([len(group) for group in groups]),
        np.array([percentile_ms(group, percent) if len(group) else np.nan for group in groups]),
        np.array([int(np.isinf(group).sum()) for group in groups]),
    )


def recovered_s(sent: Sent, first_s: float, last_s: float, *, bound_ms: float, percent: float, window_s: float = 5.0) -> float | None:
    """How long after `first_s` the bound is kept for good: no window of queries due from then to `last_s` misses it.

    Windows of `window_s` begin at every half second. 0.0: never missed; None: the last window misses it.
    """
    late = None
    for start in np.arange(first_s, last_s - window_s + 1e-9, 0.5):
        inside = sent.latency_ms[(sent.due_s >= start) & (sent.due_s < start + window_s)]
        if len(inside) and percentile_ms(inside, percent) > bound_ms:
            late = float(start)
    if late is None:
        return 0.0
    after = late + 0.5
    return None if after > last_s - window_s else after - first_s


@dataclass(frozen=True)
class Sample:
    """Something counted at one moment, in Unix seconds."""

    at_s: float
    count: int


@contextmanager
def sampled(count: Callable[[], int], interval_s: float = 0.5) -> Iterator[list[Sample]]:
    """Count every `interval_s` meanwhile, from a thread of its own; the list grows."""
    samples: list[Sample] = []
    over = threading.Event()

    def work() -> None:
        while True:
            samples.append(Sample(time.time(), count()))
            if over.wait(interval_s):
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()
