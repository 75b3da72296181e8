"""One decision: what is wanted of every target, from what was seen and what is remembered. Pure: no clock, no network.

The order: rates are remembered, what comes is forecast, the policy wishes, the guard decides.
"""

import dataclasses
from collections.abc import Sequence

from recsplit_controller.core.flow import Flow, flow
from recsplit_controller.core.guard import guard
from recsplit_controller.core.load import Context
from recsplit_controller.core.memory import Memory, Rates
from recsplit_controller.core.policies import policy_of
from recsplit_controller.forecast import named
from recsplit_controller.values.decision import Decision
from recsplit_controller.values.observation import Observation, known
from recsplit_controller.values.settings import Settings, Target


def decide(settings: Settings, targets: Sequence[Target], memory: Memory, observation: Observation) -> tuple[Memory, tuple[Decision, ...]]:
    """What is wanted of each target, in their order, and the memory for the next tick. `Memory()` begins.

    The same arguments give the same answer. Raises InputError where the settings name no policy or forecaster there is, or lack what
    theirs needs.
    """
    policy, observation = policy_of(settings), known(observation)
    named(settings.forecaster)  # a name that is none is told at once, not after the first period
    rates: dict[str, Rates] = {}
    flows: dict[str, Flow] = {}
    for target in targets:
        if target.model not in rates:
            rates[target.model], flows[target.model] = flow(settings, target, memory.rates.get(target.model, Rates()), observation)
    wishes = policy(Context(settings, targets, observation, flows))
    return guard(settings, targets, dataclasses.replace(memory, rates=rates), observation, wishes)
