"""What forecasters would have said of a trace, how far off they were, and what that would have cost queries. Pure.

Two ways to use a forecast are compared: alone, the count set at the beginning of each period from the forecast and nothing else (as
InfAdapter does), and in the controller, which looks at the present as well.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recsplit.errors import InputError
from recsplit_controller.core.flow import remembered
from recsplit_controller.core.memory import Memory
from recsplit_controller.forecast import named
from recsplit_controller.forecast.forecaster import Floats, Forecaster
from recsplit_controller.simulated.plant import Part, Plant
from recsplit_controller.simulated.play import Acting, Played, controlled, play
from recsplit_controller.simulated.station import Units
from recsplit_controller.values.decision import Action
from recsplit_controller.values.settings import Settings, Target


@dataclass(frozen=True)
class Errors:
    """Of forecasts against what came, in requests a second. `error`: the mean distance; `short` and `over`: the mean of what was missing
    and of what was too much; `short_share`: of the periods with more than a tenth more than expected, `far_short_share` half more."""

    periods: int
    error: float
    short: float
    over: float
    short_share: float
    far_short_share: float


@dataclass(frozen=True)
class Score:
    """One forecaster on one trace: how far off, and what became of the queries, by the forecast alone and in the controller."""

    forecaster: str
    errors: Errors
    alone: Played
    controlled: Played


@dataclass(frozen=True)
class Test:
    """What forecasters are tried on: `rates`, float64 [seconds], of which the periods from number `first` on are forecast and played."""

    rates: Floats
    first: int
    settings: Settings
    units: Units
    target: Target
    bound_ms: float
    seed: int = 0

    @property
    def period_s(self) -> int:
        """Whole seconds of a period."""
        return round(self.settings.period_s)

    def maxima(self) -> Floats:
        """The largest rate of each period, those before `first` among them."""
        return maxima(self.rates, self.period_s, round(self.units.window_s))

    def known(self) -> Floats:
        """The largest rate of each period that comes before, float64 [first]: what may be trained on."""
        return self.maxima()[: self.first]

    def came(self) -> Floats:
        """The largest rate of each period that is forecast, float64 [periods - first]."""
        return self.maxima()[self.first :]

    def forecasts(self, forecaster: Forecaster) -> Floats:
        """What it says of each period that is forecast, float64 [periods - first]."""
        return forecaster.over(self.maxima())[self.first - 1 :]

    def play(
        self, rule: Acting, advance: Callable[[int], None] | None = None, *, count: int | None = None, interval_s: int | None = None
    ) -> Played:
        """The forecast part of the trace, played under a rule that acts every `interval_s` (None: as the settings say), beginning with
        `count` units, or as many as what came before asks for."""
        start_s = self.first * self.period_s
        if count is None:
            count = math.ceil(float(self.maxima()[self.first - 1]) * self.units.service_s / self.settings.busy_share)
        return play(
            self.rates[start_s : len(self.maxima()) * self.period_s],
            [Part(self.target, self.units, self.target.within_bounds(count))],
            rule,
            bound_ms=self.bound_ms,
            interval_s=interval_s or round(self.settings.interval_s),
            start_s=start_s,
            seed=self.seed,
            advance=advance,
        )

    def by_plan(self, forecasts: Floats, advance: Callable[[int], None] | None = None) -> Played:
        """The trace with counts that follow these forecasts alone."""
        return self.play(planned(forecasts, self.settings, self.target, self.units.service_s, self.first), advance)

    def by_controller(self, name: str, advance: Callable[[int], None] | None = None) -> Played:
        """The trace under the controller with the forecaster of that name, which knows what came before."""
        settings = dataclasses.replace(self.settings, forecaster=name)
        forecaster = named(name)
        memory = primed(forecaster, self.target, self.known())
        return self.play(controlled(settings, forecaster, (self.target,), memory), advance)

    def score(self, name: str, advance: Callable[[int], None] | None = None) -> Score:
        """All of it for the forecaster of that name. Raises InputError as `forecast.named` does."""
        said = self.forecasts(named(name))
        return Score(name, errors(said, self.came()), self.by_plan(said, advance), self.by_controller(name, advance))


@dataclass(frozen=True)
class Ranking:
    """Forecasters on one trace; `oracle`: what becomes of it with counts that follow what really came, the best a forecast could do."""

    scores: tuple[Score, ...]
    oracle: Played


def end_of(rates: Floats, share: float, settings: Settings, units: Units, *, bound_ms: float, seed: int = 0) -> Test:
    """A test on the last `share` of a trace's periods, in (0, 1): the group may grow to twice what the largest of `rates` needs.

    `rates`, float64 [seconds], are requests in each second.
    """
    largest = max(1, math.ceil(2 * float(rates.max()) * units.service_s / settings.busy_share))
    periods = len(rates) // round(settings.period_s)
    first = max(1, periods - math.ceil(periods * share))
    return Test(rates, first, settings, units, Target("group", "group", "dense", "replica", maximum=largest), bound_ms, seed)


def compare(test: Test, names: Sequence[str], advance: Callable[[int], None] | None = None) -> Ranking:
    """Every named forecaster, and the oracle. `advance` is told of seconds that were played, `seconds_of` in all.

    Raises InputError as `forecast.named` does.
    """
    return Ranking(tuple(test.score(name, advance) for name in names), test.by_plan(test.came(), advance))


def seconds_of(test: Test, forecasters: int) -> int:
    """Seconds that `compare` plays: the test's, twice for each forecaster and once for the oracle."""
    return (2 * forecasters + 1) * len(test.came()) * test.period_s


def maxima(rates: Floats, period_s: int, window_s: int) -> Floats:
    """The largest rate of each full period, float64 [periods], where a rate is a mean over `window_s`, as the controller sees it.

    `rates`, float64 [seconds], are requests in each second. Raises InputError where they are less than three periods.
    """
    sums = np.concatenate([[0.0], np.cumsum(rates)])
    ends = np.arange(1, len(rates) + 1)
    starts = np.maximum(0, ends - window_s)
    means = (sums[ends] - sums[starts]) / (ends - starts)
    periods = len(rates) // period_s
    if periods < 3:
        raise InputError(f"the trace has {len(rates)} seconds: less than three periods of {period_s} s", hint="take a longer one")
    return np.asarray(means[: periods * period_s].reshape(periods, period_s).max(axis=1))


def errors(forecasts: Floats, came: Floats) -> Errors:
    """How far forecasts were off, both float64 [periods]. Periods in which nothing came (nobody counted) are left out."""
    there = came > 0
    said, came = forecasts[there], came[there]
    if not len(came):
        raise InputError("nothing comes in the part of the trace that is forecast", hint="take a longer one")
    missing = came - said
    return Errors(
        len(came),
        float(np.abs(missing).mean()),
        float(np.maximum(0, missing).mean()),
        float(np.maximum(0, -missing).mean()),
        float((came > 1.1 * said).mean()),
        float((came > 1.5 * said).mean()),
    )


def primed(forecaster: Forecaster, target: Target, known: Floats) -> Memory:
    """The memory of a controller that has seen the periods `known`, float64 [periods], and is at the beginning of the next one."""
    return Memory(rates={target.model: remembered(forecaster, known.tolist(), len(known))})


def planned(forecasts: Floats, settings: Settings, target: Target, service_s: float, first: int = 0) -> Acting:
    """The rule that sizes a plant by forecasts alone: float64 [periods], of the periods from number `first` on. At the first tick of each
    period as many units as keep each busy for settings.busy_share at the forecast rate."""
    done = first - 1

    def rule(plant: Plant, at_s: float) -> None:
        nonlocal done
        period = int(at_s // settings.period_s)
        if period <= done or period - first >= len(forecasts):
            return
        done = period
        units = math.ceil(forecasts[period - first] * service_s / settings.busy_share - 1e-6)
        count = target.within_bounds(units)
        if count != plant.asked():
            plant.begin(Action("scale", target.name, count, at_s, "forecast"))

    return rule
