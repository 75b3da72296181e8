"""What follows from an observation: wishes of a policy, decisions of the guard, actions, and what became of them.

Four counts may differ and are kept apart: *wanted* (decided), *requested* (by this controller), *asked* (for, by whoever) and
*serving* (ready, and answering).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from recsplit_controller.values.observation import Count

Kind = Literal["scale", "heal", "route"]


@dataclass(frozen=True)
class Wish:
    """What a policy would have of a target: units, not rounded, and why. `weight`: the share of its group's requests that it is to get when
    those units serve, None: as the router has it. `threads` of each unit, None: as rendered."""

    units: float
    reason: str
    weight: float | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Decision:
    """What a target shall have. `count` is what it has. `wish`: the policy's units, None where it had no opinion. `reason` says the
    policy's and the guard's part. `saturated`: nothing may be taken away now. `threads` a unit: None as rendered; fewer where the policy
    says so or the cores budget binds. `weight`: what its group's router is to send to it now, which follows what serves; None: as it is."""

    target: str
    at_s: float
    count: Count
    wish: float | None
    wanted: int | None
    reason: str
    saturated: bool = False
    threads: int | None = None
    weight: float | None = None


@dataclass(frozen=True)
class Action:
    """What is asked of an actuator: so many units of a target. "heal": replace all of them, where a stub died; the count stays. "route":
    the `target` is a group of targets, `count` what serves of it, and `weights` by target are what its router is to share requests out by.

    `threads` of each unit: None as rendered. Another number than what runs is a full reload in Triton, not an update in place.
    """

    kind: Kind
    target: str
    count: int
    at_s: float
    reason: str
    threads: int | None = None
    weights: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Outcome:
    """How an action ended. `error`: None, or what went wrong; the last good state then stays. `seconds` it took."""

    action: Action
    error: str | None
    seconds: float
