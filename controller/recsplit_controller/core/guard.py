"""The guard: what any policy's wishes must pass before they are wanted. Bounds, tolerance, steps, delays, saturation, budget.

Time is the observation's, so that a replay decides as the loop did.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from recsplit_controller.core.budget import budgeted
from recsplit_controller.core.elapsed import begun, within
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
            after, decision = _hold(target, observation, None, reason)
        else:
            after, decision = _judge(settings, target, before, observation, wishes.get(target.name))
        held[target.name] = after
        decisions.append(decision)
    # What one of several that share cores has gained it keeps for as long as it would on its own: else two that both lack cores take each
    # other's to and fro with the noise.
    keep = {name for name, each in held.items() if within(each.gained_s, observation.at_s, settings.downscale_delay_s)}
    shared, fitting = budgeted(settings, targets, memory.held, decisions, keep)
    kept = {}
    for decision in fitting:
        share = shared.get(decision.target, Held())
        kept[decision.target] = dataclasses.replace(held[decision.target], threads=share.threads, room_s=share.room_s)
    return dataclasses.replace(memory, held=kept), fitting


def saturated(series: Series, instances: int | None) -> bool:
    """Whether all instances are busy and requests wait for them."""
    return instances is not None and series.busy is not None and series.busy >= SATURATED * instances and _queue(series) >= instances


def _queue(series: Series) -> float:
    """Requests that wait."""
    return max(series.waiting or 0.0, series.pending or 0.0)


@dataclass(frozen=True)
class _Step:
    """What becomes of a wish in one tick: the count that is wanted from now on, a note why it isn't the wish, and delays that run."""

    wanted: int
    note: str = ""
    more: Wishing | None = None
    less: Wishing | None = None


@dataclass(frozen=True)
class _Case:
    """A target with fresh data. `present`: what was asked for, or an autoscaler's floor; `serving`: those that answer; `undone`: some still
    end; `units` are wished for within the bounds."""

    settings: Settings
    target: Target
    before: Held
    at_s: float
    present: int
    serving: int
    undone: bool
    units: float
    saturated: bool
    waiting: bool
    busy: float

    @property
    def aimed(self) -> int:
        """The wish in whole units."""
        return _whole(self.units)


def _judge(settings: Settings, target: Target, before: Held, observation: Observation, wish: Wish | None) -> tuple[Held, Decision]:
    """A target with fresh data, by cases.

    1. What it needs, or what runs, isn't known: as it was.
    2. Its count is out of its bounds: brought within them.
    3. More is wished for, by more than the tolerance: a step up.
    4. Less is wished for, by more than the tolerance: a step down.
    5. Else as it is, with a note where the maximum is why.
    """
    count = observation.count(target.name)
    if wish is None or not math.isfinite(wish.units):  # case 1
        return _hold(target, observation, wish, "held: what it needs isn't known")
    present = count.present
    if count.serving is None or count.asked is None or present is None:
        return _hold(target, observation, wish, f"{wish.reason}; held: what runs can't be told")
    series, units = observation.of(target.model), min(max(wish.units, target.minimum), target.maximum)
    full, busy = saturated(series, count.serving * target.instances), (series.busy or 0.0) / target.instances
    gained_s = before.gained_s
    if before.present is not None and present > before.present:
        gained_s = observation.at_s
    if before.present != present:  # a step was taken, by whoever: the next one waits as long again
        before = Held()
    waiting, undone = _queue(series) >= count.serving * target.instances, count.serving > count.asked
    case = _Case(settings, target, before, observation.at_s, present, count.serving, undone, units, full, waiting, busy)
    bounded = min(max(present, target.minimum), target.maximum)
    if bounded != present:  # case 2
        step = _Step(bounded, f"brought within its bounds, {target.minimum} to {target.maximum}")
    elif case.aimed > present and units > present * (1 + settings.tolerance):  # case 3
        step = _step_up(case)
    elif case.aimed < present and units < present * (1 - settings.tolerance):  # case 4
        step = _step_down(case)
    else:  # case 5
        step = _Step(present, f"its maximum is {target.maximum}" if wish.units > target.maximum and present == target.maximum else "")
    reason = f"{wish.reason}; {step.note}" if step.note else wish.reason
    decision = Decision(target.name, case.at_s, count, wish.units, step.wanted, reason, full)
    return Held(present, gained_s, step.more, step.less), decision


def _step_up(case: _Case) -> _Step:
    """More, once that was wished for long enough, and no more at once than the settings allow."""
    settings, present = case.settings, case.present
    more = _since(case.before.more if settings.upscale_delay_s else None, case.at_s, case.units, min)
    if case.at_s - more.since_s < settings.upscale_delay_s:
        return _Step(present, f"more after {settings.upscale_delay_s:g} s", more=more)
    if case.waiting and case.target.unit == "instance":
        # Triton takes the next change in place only when this one's backlog is gone (docs/decisions/0012): the only step is a long one.
        return _Step(case.target.maximum, "the most, since requests wait: Triton takes one step until they don't")
    # Of those that serve: what is on its way has shown nothing yet, and multiplied it would run away.
    limit = max(_whole(case.serving * settings.step_up), case.serving + 1)
    wanted = max(present, min(_whole(more.units), limit))
    note = f"no more than {limit} in this step" if wanted < case.aimed else ""
    return _Step(wanted, note, more=more)


def _step_down(case: _Case) -> _Step:
    """Fewer, once that was wished for long enough, and nothing of what is saturated."""
    if case.saturated:
        return _Step(case.present, "nothing is taken from what is saturated")
    less = _since(case.before.less, case.at_s, case.units, max)
    wanted, note = _fewer(case, less)
    return _Step(wanted, note, less=less)


def _whole(units: float) -> int:
    """The next whole number, rounding errors left out."""
    return math.ceil(units - 1e-6)


def _fewer(case: _Case, less: Wishing) -> tuple[int, str]:
    """How few of the present units may be kept now, and why not fewer."""
    settings, present, busy = case.settings, case.present, case.busy
    if case.at_s - less.since_s < settings.downscale_delay_s:
        return present, f"fewer after {settings.downscale_delay_s:g} s"
    if case.undone:
        return present, "the step before isn't done"
    step = present - max(1, math.floor(present * settings.step_down))
    wished, carried = _whole(less.units), _whole(busy / BUSIEST)
    wanted = min(present, max(wished, step, carried))
    if wanted == carried > wished:
        return wanted, f"{busy:.1f} are busy"
    return wanted, f"no fewer than {step} in this step" if wanted == step > wished else ""


def _since(before: Wishing | None, at_s: float, units: float, least: Callable[[float, float], float]) -> Wishing:
    return Wishing(at_s, units) if before is None else Wishing(begun(before.since_s, at_s), least(before.units, units))


def _hold(target: Target, observation: Observation, wish: Wish | None, reason: str) -> tuple[Held, Decision]:
    """As it is, whoever made it so: a count that somebody set by hand stays. What was wished before says nothing of now, so delays begin
    again."""
    count = observation.count(target.name)
    return Held(), Decision(target.name, observation.at_s, count, None if wish is None else wish.units, count.present, reason)
