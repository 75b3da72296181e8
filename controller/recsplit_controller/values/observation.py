"""What is seen of the servers at one moment. None means that it isn't known, which is never taken for zero."""

import math
from collections.abc import Mapping
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
class Observation:
    """All of it. Times in Unix seconds: `at_s` when it was asked for, `data_s` of the oldest sample that counts (None: no data at all).

    `ensemble` names the model that clients call; `models` by name, the ensemble among them. `counts`: instances or replicas that run,
    by target (None: can't be told). `problems`: what was not to be had, in sentences.
    """

    at_s: float
    data_s: float | None
    ensemble: str
    models: Mapping[str, Series] = field(default_factory=dict)
    counts: Mapping[str, int | None] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def of(self, model: str) -> Series:
        """A model's series; all None where it has none."""
        return self.models.get(model, _UNKNOWN)


def known(observation: Observation) -> Observation:
    """The observation without what is no number of anything: what is infinite, negative or NaN isn't known."""
    models = {}
    for name, series in observation.models.items():
        odd = {key: None for key, value in vars(series).items() if value is not None and not 0 <= value < math.inf}
        models[name] = replace(series, **odd) if odd else series
    return replace(observation, models=models)
