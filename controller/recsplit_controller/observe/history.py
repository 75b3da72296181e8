"""What came in before this controller started: the largest rate of each of the last periods, out of Prometheus.

A forecaster looks back for days, and would know nothing for as long after each start.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recsplit_controller.observe.recording_rules import PREFIX

#: Prometheus gives 11,000 points of a series at most.
MOST_PERIODS = 10_000
#: Recorded rates of which the larger one is what came in: of a shard its fronts tell more than it does itself.
RATES = ("requests", "offered")


def query(what: str, matcher: str, period_s: float) -> str:
    """The largest of one recorded rate in the period before each point, by model."""
    return f"max by (model) (max_over_time({PREFIX}{what}{{{matcher}}}[{round(period_s)}s]))"


def points(at_s: float, period_s: float, periods: int) -> tuple[float, float, int]:
    """Times of the first and the last point, which are the ends of full periods before `at_s`, and how many there are."""
    count = max(1, min(periods, MOST_PERIODS))
    last_s = at_s // period_s * period_s
    return last_s - (count - 1) * period_s, last_s, count


def maxima(
    results: Sequence[object], models: Sequence[str], first_s: float, period_s: float, count: int
) -> Mapping[str, tuple[float, ...]]:
    """Each model's largest rates a second, oldest first, ending with the last full period. A period of which nothing is known counts as the
    one before; what is before the first that is known is left out, and so is a model of which nothing is.

    Raises KeyError, TypeError or ValueError where a result is no range vector.
    """
    rates = np.full((len(models), count), np.nan)
    places = {model: place for place, model in enumerate(models)}
    for result in results:
        if not isinstance(result, list):
            raise TypeError("the answer is no list of series")
        for item in result:
            series: Any = item
            row = places.get(series["metric"].get("model"))
            for moment, text in series["values"] if row is not None else ():
                place, rate = round((float(moment) - first_s) / period_s), float(text)
                if 0 <= place < count and 0 <= rate < math.inf:
                    rates[row, place] = np.fmax(rates[row, place], rate)
    return {model: _filled(rates[place]) for model, place in places.items() if not np.isnan(rates[place]).all()}


def _filled(rates: Any) -> tuple[float, ...]:
    known = rates[np.flatnonzero(~np.isnan(rates))[0] :]
    last = np.maximum.accumulate(np.where(np.isnan(known), 0, np.arange(len(known))))
    return tuple(known[last].tolist())
