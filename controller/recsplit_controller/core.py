"""One decision: what is wanted of every target, from what was seen and what is remembered. Pure: no clock, no network.

The order: rates are remembered, what comes is forecast, the policy wishes, the guard decides.
"""

import dataclasses
from collections.abc import Sequence

from recsplit_controller.decision import Decision
from recsplit_controller.forecast import named
from recsplit_controller.guard import guard
from recsplit_controller.load import USUAL_QUEUE, Context, sent
from recsplit_controller.memory import Memory, Rates
from recsplit_controller.observation import Observation, known
from recsplit_controller.policies import policy_of
from recsplit_controller.settings import Settings, Target

#: A forecast above this many times the present rate is taken for it: where next to nothing comes now, the ratio tells little.
MOST_GROWTH = 10.0


def decide(settings: Settings, targets: Sequence[Target], memory: Memory, observation: Observation) -> tuple[Memory, tuple[Decision, ...]]:
    """What is wanted of each target, in their order, and the memory for the next tick. `Memory()` begins.

    The same arguments give the same answer. Raises InputError where the settings name no policy or forecaster there is, or lack what
    theirs needs.
    """
    policy, observation = policy_of(settings), known(observation)
    named(settings.forecaster)  # a name that is none is told at once, not after the first period
    rates: dict[str, Rates] = {}
    growth: dict[str, float] = {}
    forecast: dict[str, float] = {}
    for target in targets:
        if target.model not in rates:
            rates[target.model], growth[target.model] = _remember(settings, target, memory.rates.get(target.model, Rates()), observation)
        forecast[target.name] = _ratio(rates[target.model], sent(observation.of(target.model), growth[target.model]))
    wishes = policy(Context(settings, targets, observation, forecast, growth))
    return guard(settings, targets, dataclasses.replace(memory, rates=rates), observation, wishes)


def _remember(settings: Settings, target: Target, before: Rates, observation: Observation) -> tuple[Rates, float]:
    """The rates of the target's model with this observation's, and how many more (or fewer: < 0) requests wait each second."""
    series, at_s = observation.of(target.model), observation.at_s
    growth, seen = 0.0, before
    if series.pending is not None:
        if before.pending is not None and before.seen_s is not None and at_s > before.seen_s:
            usual = USUAL_QUEUE * (observation.counts.get(target.name) or 1) * target.instances
            growth = (max(series.pending, usual) - max(before.pending, usual)) / (at_s - before.seen_s)
        seen = dataclasses.replace(before, pending=series.pending, seen_s=at_s)
    if series.requests is None and series.offered is None:
        return seen, growth
    rate, period = sent(series, growth), int(at_s // settings.period_s)
    if seen.period is None or period <= seen.period:
        period = period if seen.period is None else seen.period
        return dataclasses.replace(seen, period=period, largest=max(rate, seen.largest or 0.0)), growth
    forecaster = named(settings.forecaster)
    # Periods of which nothing is known count as the one before: a season keeps its length.
    ended = [seen.largest or 0.0] * min(period - seen.period, forecaster.periods)
    maxima = (*seen.maxima, *ended)[-forecaster.periods :]
    return dataclasses.replace(seen, maxima=maxima, period=period, largest=rate, expected=forecaster(maxima)), growth


def _ratio(rates: Rates, present: float) -> float:
    """Expected by present rate, no less than 1: what is expected to go is given up when it has gone."""
    if rates.expected is None or present <= 0:
        return 1.0
    return min(MOST_GROWTH, max(1.0, rates.expected / present))
