"""What comes in, from what ends and from queues: the rate now, and the largest rates of periods for the forecast. Pure.

A saturated model finishes what it can, so its own rate says nothing of the load; what its queue gains or loses does. That is told by the
times of the samples: a page that is read every 15 s and looked at every 5 s changes once in three looks, by all of it.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from recsplit_controller.core.memory import Rates
from recsplit_controller.forecast.forecaster import Forecaster
from recsplit_controller.values.observation import Observation, Series
from recsplit_controller.values.settings import Settings, Target

#: A queue of so many requests an instance is normal at a good utilization; only what is beyond counts as a backlog.
USUAL_QUEUE = 2.0
#: Behind a queue of more than so long, that still grows, all instances are busy, whatever a mean over the window says yet.
FULL_QUEUE_S = 0.5
#: No further ahead is looked than so many periods, however long units take to come.
MOST_AHEAD = 30
#: A forecast above this many times the present rate is taken for it: where next to nothing comes now, the ratio tells little.
MOST_GROWTH = 10.0


@dataclass(frozen=True)
class Flow:
    """Requests a second that are sent to a model: `now`, at its best guess, and `steady`, in the mean over the last seconds.

    `queued`: more wait than usual. `expected`: the forecast by `steady`, no less than 1.
    """

    now: float
    steady: float
    queued: bool
    expected: float = 1.0


def flow(
    settings: Settings, forecaster: Forecaster, target: Target, before: Rates, observation: Observation, delay_s: float = 0.0
) -> tuple[Rates, Flow]:
    """The flow of the target's model, and its rates with this observation's. `delay_s`: what a unit that is asked for now takes to serve;
    what comes until then is expected, and is what it is for."""
    series, at_s = observation.of(target.model), observation.at_s
    sample_s = at_s if observation.data_s is None else observation.data_s
    window_s = max(settings.window_s, observation.window_s or 0.0)
    instances = (observation.count(target.name).serving or 1) * target.instances
    usual = USUAL_QUEUE * instances
    queue = tuple(sample for sample in before.queue if sample[0] <= sample_s)  # later ones are of a clock that was set back since
    if series.pending is not None and (not queue or sample_s > queue[-1][0]):
        # By half a tick: a tick comes a little sooner or later than due.
        kept = [sample for sample in queue if sample[0] >= sample_s - window_s - settings.interval_s / 2]
        queue = (*(kept or queue[-1:]), (sample_s, series.pending, instances))
    growth, trend = _slope(queue[-2:], usual), _slope(queue, usual)
    ended = series.requests or 0.0
    if growth > 0:
        # Instances that are new had no part in what became of the queue since.
        now = max(ended, _most(series, min(instances, queue[-2][2]), usual)) + growth
    else:
        now = max(0.0, ended + min(0.0, trend))
    steady = max(0.0, _whole(observation, ended) + trend, series.offered or 0.0)
    now = max(now, series.offered or 0.0)
    after = dataclasses.replace(before, queue=queue)
    if series.requests is not None or series.offered is not None:
        after = _remember(settings, forecaster, after, steady, at_s, delay_s)
    expected = 1.0 if after.expected is None or steady <= 0 else min(MOST_GROWTH, max(1.0, after.expected / steady))
    return after, Flow(now, steady, (series.pending or 0.0) > usual, expected)


def remembered(forecaster: Forecaster, maxima: Sequence[float], period: int) -> Rates:
    """The rates of a controller that has seen these largest rates of full periods, oldest first, and is in the period of that number."""
    known = tuple(maxima[-forecaster.periods :])
    return Rates(maxima=known, period=period, expected=forecaster(known) if known else None)


def _slope(queue: tuple[tuple[float, float, int], ...], usual: float) -> float:
    """How many more (< 0: fewer) requests wait each second, beyond the usual."""
    if len(queue) < 2:
        return 0.0
    (first_s, first, _), (last_s, last, _) = queue[0], queue[-1]
    return (max(last, usual) - max(first, usual)) / (last_s - first_s)


def _most(series: Series, instances: int, usual: float) -> float:
    """What the instances finish in a second, where they are certainly all busy; else 0."""
    if not series.busy or not series.requests or not series.pending:
        return 0.0
    service_s = series.busy / series.requests
    return instances / service_s if (series.pending - usual) * service_s / instances > FULL_QUEUE_S else 0.0


def _whole(observation: Observation, ended: float) -> float:
    """No more than the ensemble's own requests: Triton counts a new instance's warm-up among its model's."""
    whole = observation.of(observation.ensemble).requests
    return ended if not whole else min(ended, whole)


def _remember(settings: Settings, forecaster: Forecaster, rates: Rates, rate: float, at_s: float, delay_s: float) -> Rates:
    """With the rate among the present period's; where a new one begins, with the forecast for it, and for those until units would come."""
    period = int(at_s // settings.period_s)
    if rates.period is None or period <= rates.period:  # an earlier one is of a clock that was set back: it goes on from there
        return dataclasses.replace(rates, period=period, largest=max(rate, rates.largest or 0.0))
    # Periods of which nothing is known count as the one before: a season keeps its length.
    ended = [rates.largest or 0.0] * min(period - rates.period, forecaster.periods)
    maxima = (*rates.maxima, *ended)[-forecaster.periods :]
    # A tick more: that long it may take until a unit that serves is seen.
    ahead = 1 + min(MOST_AHEAD, int((delay_s + settings.interval_s) // settings.period_s)) if delay_s else 1
    expected = max(forecaster(maxima, further) for further in range(1, ahead + 1))
    return dataclasses.replace(rates, maxima=maxima, period=period, largest=rate, expected=expected)
