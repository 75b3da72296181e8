"""Latency-bounded throughput: the largest rate that keeps a percentile of the latency under a bound.

`measure` is passed in, so that a live server, the simulator and a formula are searched alike. DeepRecSys takes the median
of 50 noisy steps of a climb (its Scheduler.run); here every trial is kept, the percentile is assumed to grow with the
rate and nothing else, and the crossing comes with an interval from resampled trials.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.workload import LatencyBound
from recsplit.errors import InputError

#: A trial this many times below the bound needs no second one. One above it always does: what disturbs a measurement adds to it.
CLEAR = 1.3
#: Resampled searches for the interval.
RESAMPLES = 500
CONFIDENCE = 95.0

Verdict = Literal["found", "bound unreachable", "bound never exceeded", "generator too slow", "too few trials"]


@dataclass(frozen=True)
class Trial:
    """What one measurement at one rate saw. `percentile_ms` is the bound's percentile, inf where too many queries failed for it.

    `kept_up` is False where the generator, not the server, was the bottleneck: such a trial tells nothing of the server.
    """

    rate: float
    percentile_ms: float
    queries: int
    kept_up: bool = True

    def meets(self, bound: LatencyBound) -> bool:
        """Whether this trial kept under the bound."""
        return self.kept_up and self.percentile_ms <= bound.bound_ms


@dataclass(frozen=True)
class Throughput:
    """The latency-bounded throughput in queries per second, its 95 % interval [low, high], and every trial in order.

    By `verdict`: "found"; "bound unreachable" (rate 0: even the smallest rate exceeds it); "bound never exceeded" (rate is
    the largest tried, and a lower limit), "generator too slow" (likewise: beyond it the generator could not keep up);
    "too few trials" (high is the smallest rate that exceeded the bound, inf where none did).
    """

    rate: float
    low: float
    high: float
    verdict: Verdict
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Figures:
    """A throughput without its trials, as files have it; `high` None: no end was seen."""

    rate: float
    low: float
    high: float | None
    verdict: Verdict


def figures(throughput: Throughput) -> Figures:
    """A throughput's numbers, none of them infinite."""
    return Figures(throughput.rate, throughput.low, finite(throughput.high), throughput.verdict)


def finite(value: float) -> float | None:
    """A number for JSON, which has no infinity: None in its place."""
    return value if math.isfinite(value) else None


Measure = Callable[[float], Trial]


def percentile_ms(latency_ms: NDArray[np.float64], percent: float, failed: int = 0) -> float:
    """The percentile of latencies in ms, by nearest rank; failed queries count as endless. Raises InputError of no queries at all."""
    count = len(latency_ms) + failed
    if count == 0:
        raise InputError("no queries were sent: there is no percentile", hint="measure for longer, or at a larger rate")
    rank = max(math.ceil(count * percent / 100), 1)
    return float(np.partition(latency_ms, rank - 1)[rank - 1]) if rank <= len(latency_ms) else math.inf


def after(trials: Sequence[Trial], measure: Measure) -> Measure:
    """`measure`, but what `trials` hold of a rate is taken from them first: a search that was interrupted goes on where it was."""
    known: dict[float, list[Trial]] = {}
    for trial in reversed(trials):
        known.setdefault(trial.rate, []).append(trial)

    def one(rate: float) -> Trial:
        return known[rate].pop() if known.get(rate) else measure(rate)

    return one


def search(
    measure: Measure,
    bound: LatencyBound,
    *,
    first: float,
    least: float = 0.5,
    most: float = 1e6,
    precision: float = 0.05,
    repeats: int = 3,
    max_trials: int = 60,
) -> Throughput:
    """The largest rate, between `least` and `most` queries per second, whose percentile keeps under the bound.

    1. From `first` on, double or halve until the bound lies between two rates.
    2. Bisect (in the logarithm) until they are `precision` apart. Unless a trial is far below the bound, most of `repeats` decide.
    3. Fit a rising curve to all trials; its crossing is the rate. Resample the trials for the interval, and measure again
       at its ends and middle until it is within `precision` on either side, or `max_trials` are done.

    Deterministic: the same trials lead to the same next rate. Raises InputError unless 0 < least <= first <= most.
    """
    if not 0 < least <= first <= most:
        raise InputError(f"the search can't begin at {first:g} queries/s", hint=f"begin between {least:g} and {most:g}")
    trials: list[Trial] = []

    def meets(rate: float) -> bool:
        votes: list[Trial] = []
        while len(votes) < repeats and (not votes or len(trials) < max_trials):
            votes.append(measure(rate))
            trials.append(votes[-1])
            yes = sum(trial.meets(bound) for trial in votes)
            if (len(votes) == 1 and _clear(votes[0], bound)) or max(yes, len(votes) - yes) > repeats / 2:
                break
        return 2 * sum(trial.meets(bound) for trial in votes) > len(votes)

    low, high = _bracket(meets, first, least, most, lambda: len(trials) >= max_trials)
    if (high is None and low < most) or (low == 0 and high is not None and high > least):
        return Throughput(low, low, math.inf if high is None else high, "too few trials", tuple(trials))
    if high is None:
        return Throughput(low, low, math.inf, "bound never exceeded", tuple(trials))
    if low == 0:
        slow = not any(trial.kept_up for trial in trials if trial.rate == high)
        return Throughput(0.0, 0.0, high, "generator too slow" if slow else "bound unreachable", tuple(trials))
    while high / low > 1 + precision and len(trials) < max_trials:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if meets(middle) else (low, middle)
    if not any(trial.kept_up for trial in trials if trial.rate == high):
        return Throughput(low, low, math.inf, "generator too slow", tuple(trials))
    rate, ends = crossing(trials, bound), interval(trials, bound)
    while len(trials) < max_trials and (ends[0] < rate / (1 + precision) or ends[1] > rate * (1 + precision)):
        for again in dict.fromkeys((ends[0], rate, min(ends[1], most))):
            if len(trials) < max_trials:
                trials.append(measure(again))
        rate, ends = crossing(trials, bound), interval(trials, bound)
    return Throughput(rate, min(ends[0], rate), max(ends[1], rate), "found", tuple(trials))


def crossing(trials: Sequence[Trial], bound: LatencyBound) -> float:
    """The rate at which a rising curve through the trials meets the bound; their smallest or largest rate where it lies outside.

    The curve is the isotonic regression of the percentile's logarithm on the rate, linear between rates. Trials whose
    generator did not keep up are left out.
    """
    kept = [trial for trial in trials if trial.kept_up]
    rates, means, weights = _by_rate(kept, bound)
    levels = _rising(means, weights)
    over = np.flatnonzero(levels > 0)
    if not len(over):
        return float(rates[-1])
    if over[0] == 0:
        return float(rates[0])
    left, right = over[0] - 1, over[0]
    part = -levels[left] / (levels[right] - levels[left])
    return float(np.exp(np.log(rates[left]) + part * np.log(rates[right] / rates[left])))


def interval(trials: Sequence[Trial], bound: LatencyBound) -> tuple[float, float]:
    """Where 95 % of the crossings of resampled trials lie: (low, high) in queries per second."""
    kept = [trial for trial in trials if trial.kept_up]
    rng = np.random.default_rng(len(kept))
    crossings = [crossing([kept[n] for n in rng.integers(0, len(kept), len(kept))], bound) for _ in range(RESAMPLES)]
    low, high = np.percentile(crossings, [(100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2])
    return float(low), float(high)


def _bracket(
    meets: Callable[[float], bool], first: float, least: float, most: float, spent: Callable[[], bool]
) -> tuple[float, float | None]:
    """A rate that meets the bound (0: none did) and one that does not (None: all did), as far as the trials last."""
    if meets(first):
        low = first
        while low < most and not spent():
            rate = min(2 * low, most)
            if not meets(rate):
                return low, rate
            low = rate
        return low, None
    high = first
    while high > least and not spent():
        rate = max(high / 2, least)
        if meets(rate):
            return rate, high
        high = rate
    return 0.0, high


def _clear(trial: Trial, bound: LatencyBound) -> bool:
    return trial.kept_up and trial.percentile_ms < bound.bound_ms / CLEAR


def _by_rate(trials: Sequence[Trial], bound: LatencyBound) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Rates in order, the median log of percentile over bound at each (within a factor 10: an overload is one, no more), counts."""
    rates, place = np.unique([trial.rate for trial in trials], return_inverse=True)
    over = np.log(np.clip([trial.percentile_ms / bound.bound_ms for trial in trials], 0.1, 10))
    counts = np.bincount(place)
    ordered, starts = over[np.lexsort((over, place))], np.cumsum(counts) - counts
    medians = (ordered[starts + (counts - 1) // 2] + ordered[starts + counts // 2]) / 2
    return rates, medians, counts.astype(np.float64)


def _rising(means: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rising sequence nearest to `means`: neighbours that fall are pooled (Ayer et al., 1955)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, length
    for mean, weight in zip(means.tolist(), weights.tolist(), strict=True):
        pool = (mean, weight, 1)
        while pools and pools[-1][0] >= pool[0]:
            before = pools.pop()
            both = before[1] + pool[1]
            pool = ((before[0] * before[1] + pool[0] * pool[1]) / both, both, before[2] + pool[2])
        pools.append(pool)
    return np.repeat([mean for mean, _, _ in pools], [length for _, _, length in pools])
