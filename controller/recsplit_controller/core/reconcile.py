"""From what is wanted to what is asked for: wanted, requested and observed kept apart.

One action under way a target, and one a group's router. What fails is tried again after growing pauses, of Triton's instances with a
smaller step; the last good state stays. Dead units are replaced first, and then not again before what else is due was asked for.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recsplit_controller.core.elapsed import within, yet_to_come
from recsplit_controller.core.groups import LEAST_WEIGHT, groups_of
from recsplit_controller.values.decision import Action, Decision, Outcome
from recsplit_controller.values.settings import Target, Unit
from recsplit_controller.values.tick import Progress

#: Pauses before something that failed is tried again: the first, and the longest; each is twice the one before.
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
#: Kubernetes answers at once, and a refusal costs nothing: what it refused for a moment isn't kept from it for minutes.
LONGEST_PAUSE_OF_REPLICAS_S = 30.0
#: What was done without an error may take so long to be seen; only then is it asked for again.
SETTLE_S = 30.0
#: Units that were replaced and are dead still are replaced again after this, and each time after twice as long.
FIRST_HEAL_PAUSE_S, LONGEST_HEAL_PAUSE_S = 30.0, 600.0


@dataclass(frozen=True)
class State:
    """What was asked for, by target. Empty when a controller starts: what runs is observed, and what is under way ends by itself."""

    progress: Mapping[str, Progress] = field(default_factory=dict)


def reconcile(
    state: State,
    targets: Sequence[Target],
    decisions: Sequence[Decision],
    outcomes: Sequence[Outcome],
    ill: Mapping[str, str],
    at_s: float,
) -> tuple[State, tuple[Action, ...]]:
    """The state after these outcomes and the actions to begin now. `ill`: targets with dead units and the reason; they are healed first.

    An action without an outcome is under way however long it takes, and isn't repeated: Triton's load call comes back only when a
    backlog is gone, though the new instances serve at once. Its age is in the state, for the metrics.
    """
    units: dict[str, Unit] = {target.name: target.unit for target in targets}
    progress = dict(state.progress)
    for outcome in outcomes:
        name = outcome.action.target
        progress[name] = _ended(progress.get(name, Progress()), outcome, units.get(name, "instance"), at_s)
    actions = []
    for decision in decisions:
        before = progress.get(decision.target, Progress())
        if decision.target not in ill:
            before = dataclasses.replace(before, heals=0, heal_s=None)
        action = None if before.under_way else _next(before, decision, units[decision.target], ill.get(decision.target), at_s)
        if action is not None:
            actions.append(action)
            before = dataclasses.replace(before, requested=action.count, threads=action.threads, asked_s=at_s, under_way=True)
        progress[decision.target] = before
    for action in _routes(progress, targets, decisions, at_s):
        actions.append(action)
        before = progress.get(action.target, Progress())
        progress[action.target] = dataclasses.replace(before, weights=action.weights, asked_s=at_s, under_way=True)
    return State(progress), tuple(actions)


def _routes(progress: Mapping[str, Progress], targets: Sequence[Target], decisions: Sequence[Decision], at_s: float) -> Sequence[Action]:
    """What the groups' routers are to do now: each is told of all its targets at once."""
    decided = {decision.target: decision for decision in decisions}
    routes = []
    for members in groups_of(targets):
        group, those = members[0].group, [decided[target.name] for target in members if target.name in decided]
        if group is None:
            continue
        before = progress.get(group, Progress())
        if before.under_way or yet_to_come(before.retry_s, at_s, LONGEST_PAUSE_S):
            continue
        weights = {each.target: each.weight for each in those if each.weight is not None}
        if len(weights) < len(those) or all(_near(each.weight, each.count.weight) for each in those):
            continue
        if not before.failures and before.weights == weights and within(before.asked_s, at_s, SETTLE_S):
            continue
        serving = sum(each.count.serving or 0 for each in those)
        said = ", ".join(f"{weight:.1%} to {name}" for name, weight in weights.items())
        routes.append(Action("route", group, serving, at_s, f"as they serve: {said}", weights=weights))
    return routes


def _near(weight: float | None, present: float | None) -> bool:
    if weight is None or present is None or (weight > 0) != (present > 0):
        return False
    return abs(weight - present) <= LEAST_WEIGHT


def _ended(before: Progress, outcome: Outcome, unit: Unit, at_s: float) -> Progress:
    if outcome.action.kind == "heal":
        pause_s = min(LONGEST_HEAL_PAUSE_S, FIRST_HEAL_PAUSE_S * 2 ** min(before.heals, 20))
        return dataclasses.replace(before, under_way=False, heals=before.heals + 1, heal_s=at_s + pause_s, error=outcome.error)
    if outcome.error is None:
        return dataclasses.replace(before, under_way=False, failures=0, retry_s=None, error=None)
    longest_s = LONGEST_PAUSE_OF_REPLICAS_S if unit == "replica" else LONGEST_PAUSE_S
    pause_s = min(longest_s, FIRST_PAUSE_S * 2 ** min(before.failures, 20))
    return dataclasses.replace(before, under_way=False, failures=before.failures + 1, retry_s=at_s + pause_s, error=outcome.error)


def _next(before: Progress, decision: Decision, unit: Unit, illness: str | None, at_s: float) -> Action | None:
    """What a target needs now, with nothing under way."""
    count = decision.count
    if illness is not None and count.asked is not None and not yet_to_come(before.heal_s, at_s, LONGEST_HEAL_PAUSE_S):
        return Action("heal", decision.target, count.asked, at_s, illness, count.threads)
    present, wanted = count.present, decision.wanted
    if present is None or wanted is None or yet_to_come(before.retry_s, at_s, LONGEST_PAUSE_S):
        return None
    if present == wanted and count.threads == decision.threads:
        return None
    step = wanted - present
    if step > 0 and unit == "instance":
        # Triton takes all of a step or nothing: where a large one fails (memory), a smaller one may do.
        step = max(1, step >> before.failures)
    if _settling(before, present + step, decision.threads, at_s):
        return None
    return Action("scale", decision.target, present + step, at_s, decision.reason, decision.threads)


def _settling(before: Progress, count: int, threads: int | None, at_s: float) -> bool:
    """Whether this was just done, and only isn't seen yet."""
    asked = not before.failures and (before.requested, before.threads) == (count, threads)
    return asked and within(before.asked_s, at_s, SETTLE_S)
