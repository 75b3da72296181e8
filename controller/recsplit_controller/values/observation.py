"""What is seen of the servers at one moment. None means that it isn't known, which is never taken for zero."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Series:
    """One model, over the last scrapes; summed over the servers that have it. Rates are a second.

    `requests`, `rows`, `executions`, `failures`: rates of what ended. `busy`: instances that execute, in the mean: the rate of compute
    time, corrected for batches (Triton adds a batch's time once for every request in it); of the engine's models workers that compute.
    `waiting`: requests that wait, in the mean: the rate of queue time (Little). `pending`: requests that wait right now. `offered`:
    requests sent to it, answered or not, where a front counts them. `mean_ms` of a request, queue included; `p50_ms`, `p95_ms`, `p99_ms`:
    of Triton's sliding minute, the slowest server's, so that they rise within seconds and fall after a minute.
    """

    requests: float | None = None
    rows: float | None = None
    executions: float | None = None
    failures: float | None = None
    busy: float | None = None
    waiting: float | None = None
    pending: float | None = None
    offered: float | None = None
    mean_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


_UNKNOWN = Series()


@dataclass(frozen=True)
class Count:
    """Units of a target. None: it can't be told.

    `serving`: those that are ready and answer. `asked`: as many as there are to be, whoever asked for them; those that still start, or that
    end, make the difference. `floor`: where an autoscaler has the count, the least that it may have, which is all that the controller
    sets there; None: no autoscaler has it. `threads` of each unit, where that is other than rendered. `weight`: the share of its group's
    requests that the router sends to it; None: it has no router, or it can't be told.
    """

    serving: int | None = None
    asked: int | None = None
    floor: int | None = None
    threads: int | None = None
    weight: float | None = None

    @classmethod
    def steady(cls, units: int | None) -> "Count":
        """So many that serve, and no others asked for."""
        return cls(units, units)

    @property
    def known(self) -> bool:
        """Whether both are; `present` is then, too."""
        return self.serving is not None and self.asked is not None

    @property
    def present(self) -> int | None:
        """What the controller's word on it is, or would be: the floor of an autoscaler, else what was asked for."""
        return self.asked if self.floor is None else self.floor

    @property
    def coming(self) -> bool:
        """Whether units were asked for that don't serve yet."""
        return self.serving is not None and self.asked is not None and self.serving < self.asked


_NO_COUNT = Count()


@dataclass(frozen=True)
class Observation:
    """All of it. Times in Unix seconds: `at_s` when it was asked for, `data_s` of the oldest sample that counts (None: no data at all).

    `ensemble` names the model that clients call; `models` by name, the ensemble among them. `counts` by
    target. `window_s`: what rates are means over, where that is told. `problems`: what was not to be had, in sentences.
    """

    at_s: float
    data_s: float | None
    ensemble: str
    models: Mapping[str, Series] = field(default_factory=dict)
    counts: Mapping[str, Count] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    window_s: float | None = None

    def of(self, model: str) -> Series:
        """A model's series; all None where it has none."""
        return self.models.get(model, _UNKNOWN)

    def count(self, target: str) -> Count:
        """A target's count; all None where it isn't known."""
        return self.counts.get(target, _NO_COUNT)


def total(values: Iterable[float | None]) -> float | None:
    """Of all; None where one isn't known, or there is none."""
    listed = list(values)
    known_ones = [value for value in listed if value is not None]
    return float(sum(known_ones)) if listed and len(known_ones) == len(listed) else None


def known(observation: Observation) -> Observation:
    """The observation without what is no number of anything: what is infinite, negative or NaN isn't known."""
    models = {}
    for name, series in observation.models.items():
        odd = {key: None for key, value in vars(series).items() if value is not None and not 0 <= value < math.inf}
        models[name] = replace(series, **odd) if odd else series
    return replace(observation, models=models)
