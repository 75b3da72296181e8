"""Decides a journal's ticks again: the same settings must give the same decisions and actions; others tell what they would do."""

from collections.abc import Sequence
from dataclasses import dataclass

from recsplit.errors import InputError
from recsplit_controller.core.decide import decide
from recsplit_controller.core.reconcile import reconcile
from recsplit_controller.forecast import named
from recsplit_controller.shell.journal import Session
from recsplit_controller.values.decision import Action, Decision
from recsplit_controller.values.settings import Settings


@dataclass(frozen=True)
class Difference:
    """A target for which a tick was decided otherwise than it is now."""

    at_s: float
    target: str
    observed: int | None
    then: int | None
    now: int | None
    then_reason: str
    now_reason: str


@dataclass(frozen=True)
class Replay:
    """`differences` in what is wanted, and `actions`: the number of ticks whose actions were others."""

    ticks: int
    decisions: int
    differences: tuple[Difference, ...]
    actions: int


def replay(session: Session, settings: Settings | None = None) -> Replay:
    """Decide the session's ticks again, with other settings where they are given.

    Raises InputError where the forecaster's weights are no longer those of then, and the settings are.

    Each tick is decided on what was observed then, counts included, which followed from what was decided then. With other settings it
    is therefore what they would have done in each of those situations, not how it would have gone on.
    """
    asked = session.settings if settings is None else settings
    forecaster = named(asked.forecaster)
    if settings is None and forecaster.digest != session.forecaster:
        raise InputError(
            f"the weights of {asked.forecaster} are not those that the journal was written with: SHA-256 {forecaster.digest[:12]}..., "
            f"not {session.forecaster[:12]}...",
            hint="give the settings too, to see what the present weights would have decided: --policy, --bound-ms or --settings",
        )
    memory, state = session.memory, session.state
    differences: list[Difference] = []
    decided = others = 0
    for record in session.records:
        memory, decisions = decide(asked, forecaster, session.targets, memory, record.observation)
        state, actions = reconcile(state, session.targets, decisions, record.outcomes, record.ill, record.observation.at_s)
        decided += len(decisions)
        others += not _same_actions(actions, record.actions)
        then = {decision.target: decision for decision in record.decisions}
        differences += [
            _difference(then[now.target], now) for now in decisions if now.target in then and not _same(then[now.target], now, settings)
        ]
    return Replay(len(session.records), decided, tuple(differences), others)


def _same(then: Decision, now: Decision, settings: Settings | None) -> bool:
    """With the recorded settings every field must be the same; other settings have other reasons."""
    return then == now if settings is None else (then.wanted, then.threads) == (now.wanted, now.threads)


def _same_actions(now: Sequence[Action], then: Sequence[Action]) -> bool:
    return [_what(action) for action in now] == [_what(action) for action in then]


def _what(action: Action) -> tuple[object, ...]:
    return action.kind, action.target, action.count, action.threads, action.weights


def _difference(then: Decision, now: Decision) -> Difference:
    return Difference(then.at_s, then.target, then.count.serving, then.wanted, now.wanted, then.reason, now.reason)
