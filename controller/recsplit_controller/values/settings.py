"""What the user sets: targets, whose counts are controlled, and the settings of policy and guard."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from recsplit.errors import InputError

Role = Literal["embedding", "shard", "dense", "front"]
#: What is counted: Triton's execution instances of a model in one server, the workers that recsplit's engine has for it there, or
#: replicas (servers; pods in Kubernetes).
Unit = Literal["instance", "worker", "replica"]


Units = TypeVar("Units", int, float)

#: Of the engine's, for one model (recsplit/backends/native/workers.h).
MOST_WORKERS = 1024


@dataclass(frozen=True)
class Target:
    """Something whose count is controlled.

    `name`: the model's in one Triton ("shop_dense"), the part's in a fleet ("front", "0"), the Deployment's in Kubernetes. `model`: the
    model whose series tell of it: the one that does most of the work, or for a front that is sized by latency the ensemble. `cores`:
    what one unit keeps busy at most, its threads. `max_qps`: the most queries a second that one unit sustains, where it was measured.
    `instances` of `model` that one unit has; a replica may have several. `minimum` and `maximum` bound its count. `group`: those of one
    group stand in for each other, as variants of one model do, whose requests a router shares out among them; replicas of such a target
    may be none at all (minimum 0). `accuracy` of its answers, in [0, 1], where it was measured: what variants are chosen by.
    """

    name: str
    model: str
    role: Role
    unit: Unit = "instance"
    minimum: int = 1
    maximum: int = 8
    cores: float = 1.0
    max_qps: float | None = None
    instances: int = 1
    group: str | None = None
    accuracy: float | None = None

    @property
    def in_server(self) -> bool:
        """Whether its units share one server's cores with those of other targets."""
        return self.unit != "replica"

    def within_bounds(self, units: Units) -> Units:
        """The nearest to so many units that it may have."""
        return min(max(units, self.minimum), self.maximum)

    def __post_init__(self) -> None:
        least = 0 if self.group is not None and self.unit == "replica" else 1
        if not (least <= self.minimum <= self.maximum and self.maximum > 0):
            why = "replicas of a target with a group may be none" if self.unit == "replica" else "Triton can't have none of a loaded model"
            raise InputError(
                f"{self.name!r} can't have {self.minimum} to {self.maximum} {self.unit}s",
                hint=f"the minimum is {least} or more ({why}), the maximum no less than it",
            )
        if self.unit == "worker" and self.maximum > MOST_WORKERS:
            raise InputError(f"{self.name!r} can't have {self.maximum} workers", hint=f"the engine has up to {MOST_WORKERS}")
        for name, value in {"cores": self.cores, "max_qps": self.max_qps, "instances": self.instances}.items():
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{self.name}: {name} is {value:g}: expected more than 0")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise InputError(f"{self.name}: accuracy is {self.accuracy:g}: expected 0 to 1", hint="as in 0.79, an AUC")


@dataclass(frozen=True)
class GroupBounds:
    """Of the targets of one group together: no fewer units in all than `minimum`, and no more of them than take `cores` (None: no such
    bound). `tolerance`: wishes that move no larger a share of the group than this change nothing (None: the settings' own).

    While one target takes another's place both are there, and take more cores than that.
    """

    minimum: int = 1
    cores: float | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.minimum < 1:
            raise InputError(f"a group's minimum is {self.minimum}: expected 1 or more", hint="somebody has to serve the group's requests")
        if self.cores is not None and not (math.isfinite(self.cores) and self.cores > 0):
            raise InputError(f"a group's cores are {self.cores:g}: expected more than 0")
        if self.tolerance is not None and not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise InputError(f"a group's tolerance is {self.tolerance:g}: expected 0 or more")


@dataclass(frozen=True)
class Settings:
    """Of policy and guard. Seconds, milliseconds and shares as the names say.

    `policy` is a name in policies.POLICIES, `forecaster` one that forecast.named knows, which is read at the start. `bound_ms`: what
    `percentile` percent of the queries must stay within; `bound_share` of it is aimed at (ElasticRec: 0.65). `busy_share`: of a target's
    units to be busy in the mean. `qps_share`: of `max_qps` to be used. `cores`: shared by all targets whose units are in one server;
    None: no budget. `cores_cost`: how much accuracy all cores of a group are worth (InfAdapter's weight of
    cost); None: 0.05, and next to nothing where they are one server's, which has them anyway.

    The guard's: `tolerance`: a wish within this share of the present count changes nothing. `step_up`: at most that many times the
    present count at once (and one more always); `step_down`: at most that share of it given up at once (and one always).
    `upscale_delay_s`, `downscale_delay_s`: how long a wish must have been there. `stale_s`: data older than this holds everything.

    `groups`: bounds by group of targets; one that isn't there has those of GroupBounds().

    `window_s`: what the observed rates are means over; a queue's change over the same time tells what came in beside what ended.
    A forecaster is given the largest rate of each of the last periods of `period_s`, as many as it makes use of.
    """

    policy: str = "utilization"
    forecaster: str = "seasonal"
    interval_s: float = 5.0
    bound_ms: float | None = None
    percentile: int = 95
    bound_share: float = 0.65
    busy_share: float = 0.6
    qps_share: float = 0.8
    cores: float | None = None
    cores_cost: float | None = None
    tolerance: float = 0.1
    step_up: float = 4.0
    step_down: float = 0.5
    upscale_delay_s: float = 0.0
    downscale_delay_s: float = 60.0
    stale_s: float = 30.0
    period_s: float = 60.0
    window_s: float = 10.0
    groups: Mapping[str, GroupBounds] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shares = {"bound_share": self.bound_share, "busy_share": self.busy_share, "qps_share": self.qps_share, "step_down": self.step_down}
        for name, value in shares.items():
            if not 0 < value <= 1:
                raise InputError(f"{name} is {value:g}: expected more than 0 and at most 1")
        positive = {"interval_s": self.interval_s, "stale_s": self.stale_s, "bound_ms": self.bound_ms, "cores": self.cores}
        positive |= {"period_s": self.period_s, "window_s": self.window_s}
        for name, amount in positive.items():
            if amount is not None and not (math.isfinite(amount) and amount > 0):
                raise InputError(f"{name} is {amount:g}: expected more than 0")
        for name, amount in {
            "tolerance": self.tolerance,
            "upscale_delay_s": self.upscale_delay_s,
            "downscale_delay_s": self.downscale_delay_s,
            "cores_cost": self.cores_cost,
        }.items():
            if amount is not None and not (math.isfinite(amount) and amount >= 0):
                raise InputError(f"{name} is {amount:g}: expected 0 or more")
        if self.step_up <= 1:
            raise InputError(f"step_up is {self.step_up:g}: expected more than 1", hint="how many times the present count a step may reach")
        if self.percentile not in (50, 95, 99):
            raise InputError(f"percentile is {self.percentile}: Triton's summaries have 50, 95 and 99")
