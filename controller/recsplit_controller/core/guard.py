"""The guard: what any policy's wishes must pass before they are wanted. Bounds, tolerance, steps, delays, saturation, budget.

Time is the observation's, so that a replay decides as the loop did.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from recsplit_controller.core.budget import budgeted
from recsplit_controller.core.memory import Held, Memory, Wishing
from recsplit_controller.values.decision import Decision, Wish
from recsplit_controller.values.observation import Observation, Series
from recsplit_controller.values.settings import Settings, Target

#: Units that are busy for this share of the time, with a request waiting for each, are saturated.
SATURATED = 0.9
#: No more is given up than leaves the units busy for this share of the time.
BUSIEST = 0.85


def guard(
    settings: Settings, targets: Sequence[Target], memory: Memory, observation: Observation, wishes: Mapping[str, Wish]
) -> tuple[Memory, tuple[Decision, ...]]:
    """What is wanted of each target, in their order, and what to remember of it."""
    age_s = None if observation.data_s is None else observation.at_s - observation.data_s
    held: dict[str, Held] = {}
    decisions: list[Decision] = []
    for target in targets:
        before = memory.held.get(target.name, Held())
        if age_s is None or age_s > settings.stale_s:
            reason = "held: there is no data" if age_s is None else f"held: the data is {age_s:.0f} s old"
            after, decision = _hold(target, before, observation, None, reason)
        else:
            after, decision = _judge(settings, target, before, observation, wishes.get(target.name))
        held[target.name] = after
        decisions.append(decision)
    shared, fitting = budgeted(settings, targets, memory.held, decisions)
    kept = {}
    for decision in fitting:
        share = shared.get(decision.target, Held())
        kept[decision.target] = dataclasses.replace(
            held[decision.target], wanted=decision.wanted, threads=share.threads, room_s=share.room_s
        )
    return dataclasses.replace(memory, held=kept), fitting


def saturated(series: Series, instances: int | None) -> bool:
    """Whether all instances are busy and requests wait for them."""
    queue = max(series.waiting or 0.0, series.pending or 0.0)
    return instances is not None and series.busy is not None and series.busy >= SATURATED * instances and queue >= instances


def _judge(settings: Settings, target: Target, before: Held, observation: Observation, wish: Wish | None) -> tuple[Held, Decision]:
    observed = observation.counts.get(target.name)
    present = before.wanted if before.wanted is not None else observed
    if wish is None or not math.isfinite(wish.units):
        return _hold(target, before, observation, wish, "held: what it needs isn't known")
    if observed is None or present is None:
        return _hold(target, before, observation, wish, f"{wish.reason}; held: what runs can't be told")
    series, at_s = observation.of(target.model), observation.at_s
    full = saturated(series, observed * target.instances)
    units = min(max(wish.units, target.minimum), target.maximum)
    bounded = min(max(present, target.minimum), target.maximum)
    aimed = math.ceil(units - 1e-6)
    more: Wishing | None = None
    less: Wishing | None = None
    wanted, note = bounded, ""
    if bounded != present:
        note = f"brought within its bounds, {target.minimum} to {target.maximum}"
    elif aimed > present and units > present * (1 + settings.tolerance):
        more = _since(before.more if settings.upscale_delay_s else None, at_s, units, min)
        limit = max(math.ceil(observed * settings.step_up - 1e-6), observed + 1)
        wanted = max(present, min(math.ceil(more.units - 1e-6), limit))
        if at_s - more.since_s < settings.upscale_delay_s:
            wanted, note = present, f"more after {settings.upscale_delay_s:g} s"
        elif wanted > present:
            note = f"no more than {limit} in this step" if wanted < aimed else ""
            more = None  # a step is done: a load that still rises isn't held to what was wished before it
        elif wanted < aimed:
            note = f"no more than {limit} in this step"
    elif aimed < present and units < present * (1 - settings.tolerance):
        less = _since(before.less, at_s, units, max)
        wanted, note = _fewer(settings, less, present, observed, (series.busy or 0.0) / target.instances, at_s)
        if full:
            wanted, note, less = present, "nothing is taken from what is saturated", None
        elif wanted < present:
            less = None  # the next step waits as long again
    elif wish.units > target.maximum and present == target.maximum:
        note = f"its maximum is {target.maximum}"
    reason = f"{wish.reason}; {note}" if note else wish.reason
    return Held(present, more, less), Decision(target.name, at_s, observed, wish.units, wanted, reason, full)


def _fewer(settings: Settings, less: Wishing, present: int, observed: int, busy: float, at_s: float) -> tuple[int, str]:
    """How few of the present units may be kept now, and why not fewer."""
    if at_s - less.since_s < settings.downscale_delay_s:
        return present, f"fewer after {settings.downscale_delay_s:g} s"
    if observed > present:
        return present, "the step before isn't done"
    step = present - max(1, math.floor(present * settings.step_down))
    carried = math.ceil(busy / BUSIEST - 1e-6)
    wanted = min(present, max(math.ceil(less.units - 1e-6), step, carried))
    if wanted == carried > math.ceil(less.units - 1e-6):
        return wanted, f"{busy:.1f} are busy"
    return wanted, f"no fewer than {step} in this step" if wanted == step > math.ceil(less.units - 1e-6) else ""


def _since(before: Wishing | None, at_s: float, units: float, least: Callable[[float, float], float]) -> Wishing:
    return Wishing(at_s, units) if before is None else Wishing(before.since_s, least(before.units, units))


def _hold(target: Target, before: Held, observation: Observation, wish: Wish | None, reason: str) -> tuple[Held, Decision]:
    """As it was. What was wished before says nothing of now, so delays begin again."""
    observed = observation.counts.get(target.name)
    wanted = before.wanted if before.wanted is not None else observed
    return Held(wanted), Decision(target.name, observation.at_s, observed, None if wish is None else wish.units, wanted, reason)
