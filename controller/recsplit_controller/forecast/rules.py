"""Forecasters without weights: the last maximum, means that forget, a trend, and the same time of earlier days."""

import numpy as np

from recsplit_controller.forecast.forecaster import Floats, Forecaster

DAY = 1440  # periods of a minute


def last_max() -> Forecaster:
    """The next period is as the last one was."""
    return Forecaster("last_max", 1, lambda windows: windows[:, -1])


def ewm(span: int = 10) -> Forecaster:
    """The mean whose weights fall by 2 / (span + 1) with each period: what InfAdapter uses until its LSTM has enough history."""
    keep = 1 - 2 / (span + 1)

    def rule(windows: Floats) -> Floats:
        weights = keep ** np.arange(windows.shape[1] - 1, -1, -1)
        return np.asarray(windows @ (weights / weights.sum()))

    return Forecaster("ewm", 4 * span, rule)


def holt(level: float = 0.8, trend: float = 0.3, damping: float = 0.8) -> Forecaster:
    """Holt's linear trend, damped: a rate that rises is expected to rise on, a little less each period.

    `level` and `trend` are the weights of what is new in either; a step of `damping` of the trend is added.
    """

    def rule(windows: Floats) -> Floats:
        base, slope = windows[:, 0], np.zeros(len(windows))
        for place in range(1, windows.shape[1]):
            before = base + damping * slope
            after = before + level * (windows[:, place] - before)
            slope = damping * slope + trend * ((after - base) - damping * slope)
            base = after
        return base + damping * slope

    return Forecaster("holt", 10, rule)


def seasonal(season: int = DAY, seasons: int = 7, slack: int = 1) -> Forecaster:
    """As much as now, or as came at this time of earlier seasons, whichever is more.

    "At this time", or that much later for a period that is further ahead, is the largest rate within `slack` periods before or after; of
    the last `seasons` seasons (as many as are known) the median. With less than one season of history it is the last maximum.
    """

    width = 2 * slack + 1

    def places(length: int, ahead: int) -> list[int]:
        backs = range(season, min(seasons * season, length - slack) + 1, season)
        there = length - 1 + min(ahead, season - slack)
        return [there - back + offset for back in backs for offset in range(-slack, slack + 1)] + [length - 1]

    def rule(seen: Floats) -> Floats:
        earlier, last = seen[:, :-1].reshape(len(seen), -1, width), seen[:, -1]
        return np.maximum(last, np.median(earlier.max(axis=2), axis=1)) if earlier.shape[1] else last

    return Forecaster("seasonal", season * seasons + slack, rule, places)
