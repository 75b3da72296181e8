"""Arrival processes: when queries come.

Gaps are exponential wherever a process is called Poisson. The code of DeepRecSys, RIBBON and KAIROS draws the gap itself
from a Poisson law, in whole milliseconds: traffic far smoother than a Poisson process (at gaps of 25 ms the coefficient
of variation is 0.2, not 1), and so tails far shorter. `PoissonGap` is that, to compare with them and for nothing else.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.strict_toml import CONTENTS, Checked, within
from recsplit.errors import InputError

Times = NDArray[np.float64]

RATE = within(0, 1e6, above=True)
_STEPS = 512  # of the diurnal curve's integral, a period


@dataclass(frozen=True)
class Constant(Checked):
    """One query every 1/rate seconds."""

    rate: float = field(metadata=RATE)
    process: ClassVar[str] = "constant"


@dataclass(frozen=True)
class Poisson(Checked):
    """A Poisson process: exponential gaps of 1/rate seconds on average."""

    rate: float = field(metadata=RATE)
    process: ClassVar[str] = "poisson"


@dataclass(frozen=True)
class PoissonGap(Checked):
    """Gaps of Poisson(1000/rate) whole milliseconds, as in the papers' artefacts; not a Poisson process."""

    rate: float = field(metadata=RATE)
    process: ClassVar[str] = "poisson-gap"


@dataclass(frozen=True)
class Bursts(Checked):
    """Poisson with two rates in turn: `off_s` seconds of calm, then `on_s` seconds at `burst` times the mean rate."""

    rate: float = field(metadata=RATE)
    burst: float = field(metadata=within(1))
    on_s: float = field(metadata=within(0, above=True))
    off_s: float = field(metadata=within(0, above=True))
    process: ClassVar[str] = "bursts"

    @property
    def calm(self) -> float:
        """What the rate outside of bursts is of the mean rate."""
        return (self.on_s + self.off_s - self.burst * self.on_s) / self.off_s

    def check(self) -> None:
        """Raise InputError where the bursts alone are more than the mean."""
        if self.calm < 0:
            most = (self.on_s + self.off_s) / self.on_s
            raise InputError(
                f"burst is {self.burst:g}: with on_s = {self.on_s:g} and off_s = {self.off_s:g} at most {most:g} keeps the mean"
            )


@dataclass(frozen=True)
class Diurnal(Checked):
    """Poisson with rate·(1 - amplitude·cos(2π·t/period_s)): starts at the day's lowest, the mean over a period is `rate`."""

    rate: float = field(metadata=RATE)
    amplitude: float = field(metadata=within(0, 1))
    period_s: float = field(default=86400.0, metadata=within(0, above=True))
    process: ClassVar[str] = "diurnal"


@dataclass(frozen=True, eq=False)
class Trace(Checked):
    """Poisson with a rate of its own in each second: a file of one integer a line. Begins anew where the file ends.

    With `rate` the trace is scaled to that mean. `values`: requests in each second, int64, not all 0.
    """

    path: str
    values: NDArray[np.int64] = field(repr=False, metadata=CONTENTS)
    rate: float | None = field(default=None, metadata=RATE)
    process: ClassVar[str] = "trace"


Arrivals = Constant | Poisson | PoissonGap | Bursts | Diurnal | Trace
PROCESSES: dict[str, type[Arrivals]] = {law.process: law for law in (Constant, Poisson, PoissonGap, Bursts, Diurnal, Trace)}


def rate(law: Arrivals) -> float:
    """The mean rate in queries per second."""
    return law.rate if law.rate is not None else float(law.values.mean())


def at_rate(law: Arrivals, rate: float) -> Arrivals:
    """The same process at another mean rate, in queries per second. Raises InputError unless it is above 0."""
    return dataclasses.replace(law, rate=float(rate))


def draw(law: Arrivals, seconds: float, rng: np.random.Generator) -> Times:
    """Arrival times in s, float64 [n], sorted, in [0, seconds)."""
    times = np.zeros(0)
    match law:
        case Constant(each):
            times = np.arange(math.ceil(seconds * each)) / each
        case PoissonGap(each):
            times = _gaps(1000.0 / each, seconds, rng)
        case Poisson(each):
            times = _points(np.array([0.0, seconds]), np.array([0.0, each * seconds]), rng)
        case Bursts(each, burst, on_s, off_s):
            cycles = math.ceil(seconds / (on_s + off_s))
            lengths = np.tile([off_s, on_s], cycles)
            times = _steps(lengths, each * np.tile([law.calm, burst], cycles), rng)
        case Diurnal(each, amplitude, period_s):
            edges = np.linspace(0.0, seconds, max(2, math.ceil(seconds / period_s * _STEPS)))
            turn = 2 * math.pi / period_s
            times = _points(edges, each * (edges - amplitude * np.sin(turn * edges) / turn), rng)
        case Trace():
            scale = rate(law) / float(law.values.mean())
            times = _steps(np.ones(math.ceil(seconds)), np.resize(law.values, math.ceil(seconds)) * scale, rng)
    return times[times < seconds]


def _steps(lengths_s: Times, rates: NDArray[np.float64], rng: np.random.Generator) -> Times:
    """A Poisson process whose rate is constant within each step."""
    return _points(np.concatenate([[0.0], np.cumsum(lengths_s)]), np.concatenate([[0.0], np.cumsum(lengths_s * rates)]), rng)


def _points(edges_s: Times, expected: NDArray[np.float64], rng: np.random.Generator) -> Times:
    """A Poisson process of which `expected` points (cumulative) lie before each edge: uniform points, sent through the inverse."""
    count = rng.poisson(expected[-1])
    return np.interp(np.sort(rng.random(count)) * expected[-1], expected, edges_s)


def _gaps(mean_ms: float, seconds: float, rng: np.random.Generator) -> Times:
    times = np.zeros(0)
    while not len(times) or times[-1] < seconds:
        more = rng.poisson(mean_ms, math.ceil(1000 * seconds / mean_ms) + 100)
        times = np.concatenate([times, (times[-1] if len(times) else 0.0) + np.cumsum(more) / 1000])
    return times
