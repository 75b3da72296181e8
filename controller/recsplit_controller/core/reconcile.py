"""From what is wanted to what is asked for: wanted, requested and observed kept apart.

One action under way a target. What fails is tried again after growing pauses, and with a smaller step; the last good state stays.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recsplit_controller.values.decision import Action, Decision, Outcome
from recsplit_controller.values.tick import Progress

#: Pauses before something that failed is tried again: the first, and the longest; each is twice the one before.
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
#: What was done without an error may take so long to be seen (a pod that starts); only then is it asked for again.
SETTLE_S = 30.0


@dataclass(frozen=True)
class State:
    """What was asked for, by target. Empty when a controller starts: what runs is observed, and what is under way ends by itself."""

    progress: Mapping[str, Progress] = field(default_factory=dict)


def reconcile(
    state: State, decisions: Sequence[Decision], outcomes: Sequence[Outcome], ill: Mapping[str, str], at_s: float
) -> tuple[State, tuple[Action, ...]]:
    """The state after these outcomes and the actions to begin now. `ill`: targets with dead units and the reason; they are healed first.

    An action without an outcome is under way however long it takes, and isn't repeated: Triton's load call comes back only when a
    backlog is gone, though the new instances serve at once. Its age is in the state, for the metrics.
    """
    progress = dict(state.progress)
    for outcome in outcomes:
        progress[outcome.action.target] = _ended(progress.get(outcome.action.target, Progress()), outcome, at_s)
    actions = []
    for decision in decisions:
        before = progress.get(decision.target, Progress())
        action = None if before.under_way or (before.retry_s is not None and at_s < before.retry_s) else _next(before, decision, ill, at_s)
        if action is not None:
            actions.append(action)
            healed_s = at_s if action.kind == "heal" else before.healed_s
            before = dataclasses.replace(
                before, requested=action.count, threads=action.threads, asked_s=at_s, under_way=True, healed_s=healed_s
            )
        progress[decision.target] = before
    return State(progress), tuple(actions)


def _ended(before: Progress, outcome: Outcome, at_s: float) -> Progress:
    if outcome.error is None:
        return dataclasses.replace(before, under_way=False, failures=0, retry_s=None, error=None)
    pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(before.failures, 20))
    return dataclasses.replace(before, under_way=False, failures=before.failures + 1, retry_s=at_s + pause_s, error=outcome.error)


def _next(before: Progress, decision: Decision, ill: Mapping[str, str], at_s: float) -> Action | None:
    """What a target needs now, with nothing under way."""
    observed, wanted = decision.observed, decision.wanted
    if observed is None or wanted is None:
        return None
    if decision.target in ill and (before.healed_s is None or at_s - before.healed_s >= SETTLE_S):
        return Action("heal", decision.target, observed, at_s, ill[decision.target], before.threads)
    threads = before.threads if before.asked_s is not None else decision.threads
    if observed == wanted and threads == decision.threads:
        return None
    # Triton takes all of a step or nothing: where a large one fails (memory), a smaller one may do.
    step = wanted - observed
    count = observed + (max(1, step >> before.failures) if step > 0 else step)
    if _settling(before, count, decision.threads, at_s):
        return None
    return Action("scale", decision.target, count, at_s, decision.reason, decision.threads)


def _settling(before: Progress, count: int, threads: int | None, at_s: float) -> bool:
    """Whether this was just done, and only isn't seen yet."""
    asked = before.asked_s is not None and not before.failures and (before.requested, before.threads) == (count, threads)
    return asked and at_s - (before.asked_s or 0.0) < SETTLE_S
