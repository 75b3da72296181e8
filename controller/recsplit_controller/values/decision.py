"""What follows from an observation: wishes of a policy, decisions of the guard, actions, and what became of them.

Four counts may differ and are kept apart: *wanted* (decided), *requested* (by this controller), *asked* (for, by whoever) and
*serving* (ready, and answering).
"""

from dataclasses import dataclass
from typing import Literal

from recsplit_controller.values.observation import Count


@dataclass(frozen=True)
class Wish:
    """What a policy would have of a target: units, not rounded, and why."""

    units: float
    reason: str


@dataclass(frozen=True)
class Decision:
    """What a target shall have. `count` is what it has. `wish`: the policy's units, None where it had no opinion. `reason` says the
    policy's and the guard's part. `saturated`: nothing may be taken away now. `threads` a unit: None as rendered; fewer only where the
    cores budget binds."""

    target: str
    at_s: float
    count: Count
    wish: float | None
    wanted: int | None
    reason: str
    saturated: bool = False
    threads: int | None = None


@dataclass(frozen=True)
class Action:
    """What is asked of an actuator: so many units of a target. "heal": replace all of them, where a stub died; the count stays.

    `threads` of each unit: None as rendered. Another number than what runs is a full reload in Triton, not an update in place.
    """

    kind: Literal["scale", "heal"]
    target: str
    count: int
    at_s: float
    reason: str
    threads: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How an action ended. `error`: None, or what went wrong; the last good state then stays. `seconds` it took."""

    action: Action
    error: str | None
    seconds: float
