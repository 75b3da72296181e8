"""One decision: what is wanted of every target, from what was seen and what is remembered. Pure: no clock, no file, no network.

The order: rates and arrivals are remembered, what comes is forecast, the policy wishes, the guard decides.
"""

import dataclasses
from collections.abc import Sequence

from recsplit_controller.core.arrivals import arrival, delay_s
from recsplit_controller.core.flow import Flow, flow
from recsplit_controller.core.group_flow import as_one
from recsplit_controller.core.groups import groups_of
from recsplit_controller.core.guard import guard
from recsplit_controller.core.load import Context
from recsplit_controller.core.memory import Arrival, Memory, Rates
from recsplit_controller.core.policies import policy_of
from recsplit_controller.forecast.forecaster import Forecaster
from recsplit_controller.values.decision import Decision
from recsplit_controller.values.observation import Observation, known
from recsplit_controller.values.settings import Settings, Target


def decide(
    settings: Settings, forecaster: Forecaster, targets: Sequence[Target], memory: Memory, observation: Observation
) -> tuple[Memory, tuple[Decision, ...]]:
    """What is wanted of each target, in their order, and the memory for the next tick. `Memory()` begins.

    The same arguments give the same answer. Raises InputError where the settings name no policy there is, or lack what theirs needs.
    """
    policy, observation = policy_of(settings, targets), known(observation)
    arrivals = {
        target.name: arrival(memory.arrivals.get(target.name, Arrival()), observation.count(target.name), observation.at_s)
        for target in targets
    }
    rates: dict[str, Rates] = {}
    flows: dict[str, Flow] = {}
    for target in targets:
        if target.model not in rates:
            before, delay = memory.rates.get(target.model, Rates()), delay_s(arrivals[target.name], observation.at_s)
            rates[target.model], flows[target.model] = flow(settings, forecaster, target, before, observation, delay)
    for group in groups_of(targets):
        if group[0].group is not None:
            whole, seen = as_one(group, observation)
            delay = max(delay_s(arrivals[target.name], observation.at_s) for target in group)
            rates[whole.model], flows[whole.model] = flow(settings, forecaster, whole, memory.rates.get(whole.model, Rates()), seen, delay)
    wishes = policy(Context(settings, targets, observation, flows, arrivals))
    return guard(settings, targets, dataclasses.replace(memory, rates=rates, arrivals=arrivals), observation, wishes)
