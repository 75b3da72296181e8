"""The guard: what any policy's wishes must pass before they are wanted. Bounds, tolerance, steps, delays, saturation, budget; and of
targets that stand in for each other an order that leaves enough (core/groups.py).

Time is the observation's, so that a replay decides as the loop did.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from recsplit_controller.core.budget import budgeted
from recsplit_controller.core.elapsed import begun, within
from recsplit_controller.core.groups import Floor, Sums, absent, bounded, groups_of, settled, sums
from recsplit_controller.core.memory import Held, Memory, Wishing
from recsplit_controller.core.units import whole
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
    judged: dict[str, tuple[Held, Decision]] = {}
    wished: dict[str, tuple[tuple[float, float], ...]] = {}
    for group in groups_of(targets):
        name = group[0].group or ""
        of_group, kept_wishes = _judge_group(settings, group, memory, observation, wishes)
        judged |= of_group
        if name:
            wished[name] = kept_wishes
    held = {name: after for name, (after, _) in judged.items()}
    decisions = [judged[target.name][1] for target in targets]
    # What one of several that share cores has gained it keeps for as long as it would on its own: else two that both lack cores take each
    # other's to and fro with the noise.
    keep = {name for name, each in held.items() if within(each.gained_s, observation.at_s, settings.downscale_delay_s)}
    shared, fitting = budgeted(settings, targets, memory.held, decisions, keep)
    # What is held keeps the threads that it has; what was decided on them before is remembered.
    fitting = tuple(
        dataclasses.replace(each, threads=each.count.threads) if held[each.target].present is None else each for each in fitting
    )
    kept = {}
    for decision in fitting:
        share = shared.get(decision.target, Held())
        kept[decision.target] = dataclasses.replace(held[decision.target], threads=share.threads, room_s=share.room_s)
    return dataclasses.replace(memory, held=kept, wished=wished), fitting


def _judge_group(
    settings: Settings, group: Sequence[Target], memory: Memory, observation: Observation, wishes: Mapping[str, Wish]
) -> tuple[dict[str, tuple[Held, Decision]], tuple[tuple[float, float], ...]]:
    """What becomes of targets that stand in for each other, by name, and what was wished for all of them of late. They are held together:
    what one is to have depends on the others."""
    age_s = None if observation.data_s is None else observation.at_s - observation.data_s
    if age_s is None or age_s > settings.stale_s:
        stale = "held: there is no data" if age_s is None else f"held: the data is {age_s:.0f} s old"
        return {target.name: _hold(target, observation, None, stale) for target in group}, ()
    finite = {name: wish for name, wish in wishes.items() if math.isfinite(wish.units)}
    for target in group:
        if target.minimum == 0 and absent(observation.count(target.name)):  # what is absent has no series to be sized by
            finite.setdefault(target.name, Wish(0.0, "absent, and not asked for"))
    finite = bounded(settings, group, observation, finite)
    known = sums(settings, group, observation, finite)
    if known is None:
        return {
            target.name: _hold(target, observation, wishes.get(target.name), _unknown(target, group, observation, finite))
            for target in group
        }, ()
    full = any(
        saturated(observation.of(target.model), (observation.count(target.name).serving or 0) * target.instances)
        for target in group
        if not absent(observation.count(target.name))
    )
    judged = {
        target.name: _judge(settings, target, memory.held.get(target.name, Held()), observation, finite[target.name], known, full=full)
        for target in group
    }
    if group[0].group is None:
        return judged, ()
    kept, floor = _kept_wishes(settings, memory.wished.get(group[0].group, ()), known, observation.at_s)
    decisions = settled(group, known, [decision for _, decision in judged.values()], finite, floor)
    return {decision.target: (judged[decision.target][0], decision) for decision in decisions}, kept


def _kept_wishes(
    settings: Settings, before: Sequence[tuple[float, float]], known: Sums, at_s: float
) -> tuple[tuple[tuple[float, float], ...], Floor]:
    """What was wished for a group over the last `downscale_delay_s`, and how much of it has to stay for now.

    The delay and the step are those of the whole group: what one gives up and others take over isn't lost.
    """
    begins_s = at_s - settings.downscale_delay_s
    past = [wish for wish in before if wish[0] <= at_s]  # later ones are of a clock that was set back
    covering = max((wish[0] for wish in past if wish[0] <= begins_s), default=None)
    kept = (*(wish for wish in past if covering is None or wish[0] >= covering), (at_s, known.wished))
    if covering is None and settings.downscale_delay_s:
        return kept, Floor(known.present, f"fewer after {settings.downscale_delay_s:g} s")
    most, step = max(wish[1] for wish in kept), (1 - settings.step_down) * known.present
    if most > known.wished and most >= step:
        return kept, Floor(most, f"fewer after {settings.downscale_delay_s:g} s")
    return kept, Floor(max(most, step), "no more of its group goes in this step" if step > most else "")


def _unknown(target: Target, group: Sequence[Target], observation: Observation, wishes: Mapping[str, Wish]) -> str:
    """Why a target is held where something of its group isn't known."""
    if target.name not in wishes:
        return "held: what it needs isn't known"
    reason = wishes[target.name].reason
    if not observation.count(target.name).known:
        return f"{reason}; held: what runs can't be told"
    others = [other.name for other in group if other.name not in wishes or not observation.count(other.name).known]
    return f"{reason}; held with its group: of {', '.join(others)} something isn't known"


def saturated(series: Series, instances: int) -> bool:
    """Whether all instances are busy and requests wait for them; so they are where none of those that were asked for serves."""
    return series.busy is not None and series.busy >= SATURATED * instances and _queue(series) >= instances


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
    end; `units` are wished for within the bounds. `sums` of its group; `saturated`: it, or another target of its group."""

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
    sums: Sums

    @property
    def aimed(self) -> int:
        """The wish in whole units."""
        return whole(self.units)


def _judge(
    settings: Settings, target: Target, before: Held, observation: Observation, wish: Wish, known: Sums, *, full: bool
) -> tuple[Held, Decision]:
    """A target of whose group all is known, by cases.

    1. Its count is out of its bounds: brought within them.
    2. More is wished for, and the wishes for its group move more than the tolerance: a step up.
    3. Less is wished for, likewise: a step down.
    4. Else as it is, with a note where the maximum is why.
    """
    count = observation.count(target.name)
    present = count.present
    assert count.serving is not None and count.asked is not None and present is not None
    series, units = observation.of(target.model), target.within_bounds(wish.units)
    busy, beyond = (series.busy or 0.0) / target.instances, known.moves
    gained_s = before.gained_s
    if before.present is not None and present > before.present:
        gained_s = observation.at_s
    if before.present != present:  # a step was taken, by whoever: the next one waits as long again
        before = Held()
    waiting, undone = _queue(series) >= count.serving * target.instances, count.serving > count.asked
    case = _Case(settings, target, before, observation.at_s, present, count.serving, undone, units, full, waiting, busy, known)
    nearest = target.within_bounds(present)
    if nearest != present:  # case 1
        step = _Step(nearest, f"brought within its bounds, {target.minimum} to {target.maximum}")
    elif case.aimed > present and beyond:  # case 2
        step = _step_up(case)
    elif case.aimed < present and beyond:  # case 3
        step = _step_down(case)
    else:  # case 4
        step = _Step(present, f"its maximum is {target.maximum}" if wish.units > target.maximum and present == target.maximum else "")
    reason = f"{wish.reason}; {step.note}" if step.note else wish.reason
    threads = None if wish.threads == target.cores else wish.threads
    decision = Decision(target.name, case.at_s, count, wish.units, step.wanted, reason, full, threads)
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
    sums, name = case.sums, case.target.name
    part = sums.part_gained(case.target, case.aimed - present)
    limit = max(whole(case.serving + (settings.step_up - 1) * sums.serving / sums.sizes[name] * part), case.serving + 1)
    wanted = max(present, min(whole(more.units), limit))
    note = f"no more than {limit} in this step" if wanted < case.aimed else ""
    return _Step(wanted, note, more=more)


def _step_down(case: _Case) -> _Step:
    """Fewer, once that was wished for long enough, and nothing of what is saturated."""
    if case.saturated:
        return _Step(case.present, "nothing is taken from what is saturated")
    less = _since(case.before.less, case.at_s, case.units, max)
    wanted, note = _fewer(case, less)
    return _Step(wanted, note, less=less)


def _fewer(case: _Case, less: Wishing) -> tuple[int, str]:
    """How few of the present units may be kept now, and why not fewer."""
    settings, present, busy = case.settings, case.present, case.busy
    if case.target.group is None and case.at_s - less.since_s < settings.downscale_delay_s:
        return present, f"fewer after {settings.downscale_delay_s:g} s"
    if case.undone:
        return present, "the step before isn't done"
    if case.target.group is not None:  # delays and steps are the group's
        return min(present, max(case.aimed, whole(busy / BUSIEST))), ""
    part = case.sums.part_lost(case.target, present - case.aimed)
    step = present - max(1, math.floor(case.sums.present / case.sums.sizes[case.target.name] * settings.step_down * part + 1e-6))
    wished, carried = whole(less.units), whole(busy / BUSIEST)
    wanted = min(present, max(wished, step, carried))
    if wanted == carried > wished:
        return wanted, f"{busy:.1f} are busy"
    return wanted, f"no fewer than {step} in this step" if wanted == step > wished else ""


def _since(before: Wishing | None, at_s: float, units: float, least: Callable[[float, float], float]) -> Wishing:
    return Wishing(at_s, units) if before is None else Wishing(begun(before.since_s, at_s), least(before.units, units))


def _hold(target: Target, observation: Observation, wish: Wish | None, reason: str) -> tuple[Held, Decision]:
    """As it is, whoever made it so: a count that somebody set by hand stays. What was wished before says nothing of now, so delays begin
    again."""
    count, wished = observation.count(target.name), None if wish is None else wish.units
    return Held(), Decision(target.name, observation.at_s, count, wished, count.present, reason)
