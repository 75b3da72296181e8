"""One tick, as the journal keeps it and the metrics show it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from recsplit_controller.values.decision import Action, Decision, Outcome
from recsplit_controller.values.observation import Observation


@dataclass(frozen=True)
class Progress:
    """How far a target's requests are. `requested`: the count last asked for (None: nothing yet); `asked_s` when.

    `under_way`: that request has not ended yet. `weights`: what was last asked of a group's router, whose progress has the group's name.
    `failures` to scale in a row, the last with `error`; no other count is asked for before `retry_s`. `heals`: how often its units were
    replaced for being dead, since they were last seen well; not again before `heal_s`.
    """

    requested: int | None = None
    threads: int | None = None
    asked_s: float | None = None
    under_way: bool = False
    failures: int = 0
    retry_s: float | None = None
    error: str | None = None
    heals: int = 0
    heal_s: float | None = None
    weights: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Tick:
    """What was seen, decided and done in one tick. `at_s` is the observation's; `seconds` of the tick; `progress` by target after it."""

    observation: Observation
    decisions: tuple[Decision, ...]
    actions: tuple[Action, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    ill: Mapping[str, str] = field(default_factory=dict)
    progress: Mapping[str, Progress] = field(default_factory=dict)
    seconds: float = 0.0
