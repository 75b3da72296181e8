"""From the answer to one query, all recorded series of a build, to an observation. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from recsplit_controller.values.observation import Observation, Series

#: Names of the recorded series, as `recsplit render prometheus` writes them (recsplit.monitoring.names).
PREFIX, DATA_S, UP = "recsplit:", "data_s", "up"
_FIELDS = frozenset(item.name for item in fields(Series))


def query(ensemble: str) -> str:
    """The one query of a tick. Names of models need no escapes in PromQL."""
    return f'{{__name__=~"{PREFIX}.+",ensemble="{ensemble}"}}'


@dataclass(frozen=True)
class Standing:
    """Since when (of our clock) answers carry one time of evaluation: an answer that stands still, out of a cache, is as old as that."""

    since_s: float
    evaluated_s: float

    @classmethod
    def after(cls, before: "Standing | None", at_s: float, result: object) -> "Standing | None":
        """With the answer of now; None where it holds no series. Raises as `observation`."""
        evaluated_s = max((now_s for _, _, now_s in _samples(result)), default=None)
        if evaluated_s is None:
            return None
        return before if before is not None and evaluated_s <= before.evaluated_s else cls(at_s, evaluated_s)


@dataclass
class _Answer:
    """What was told: of each model its values and the age of its samples in seconds, and servers that are away."""

    values: dict[str, dict[str, float]] = field(default_factory=dict)
    age_s: dict[str, float] = field(default_factory=dict)
    away: list[str] = field(default_factory=list)


def observation(at_s: float, ensemble: str, models: Sequence[str], result: object) -> Observation:
    """Read an instant vector. Values that aren't finite are unknown; a model without a sample time has no values.

    Ages are taken by Prometheus' clock, so that one that differs from ours does no harm. Raises ValueError, KeyError or TypeError where
    `result` is no instant vector.
    """
    answer = _read(result)
    problems = [f"Prometheus can't read {instance}" for instance in sorted(answer.away)]
    if not answer.age_s:
        problems.append(f"Prometheus has no data of {ensemble!r}: do its rules name this build, and does it scrape the servers?")
    else:
        problems += [f"no server has {model!r}" for model in models if model not in answer.age_s]
    by_model = {model: answer.values.get(model, {}) if model in answer.age_s else {} for model in models}
    ages = [answer.age_s[model] for model in models if model in answer.age_s]
    return Observation(
        at_s,
        at_s - max(ages) if ages else None,
        ensemble,
        {model: Series(**values) for model, values in by_model.items()},
        problems=tuple(problems),
    )


def _read(result: object) -> _Answer:
    answer = _Answer()
    for labels, value, now_s in _samples(result):
        what, model = labels["__name__"].removeprefix(PREFIX), labels.get("model", "")
        if what == UP and value == 0:
            answer.away.append(labels.get("instance", "?"))
        elif what == DATA_S and math.isfinite(value):
            answer.age_s[model] = max(now_s - value, 0.0)
        elif what in _FIELDS and math.isfinite(value):
            answer.values.setdefault(model, {})[what] = value
    return answer


def _samples(result: object) -> Iterator[tuple[Mapping[str, str], float, float]]:
    """Labels, value, and the time of evaluation of each sample."""
    if not isinstance(result, list):
        raise TypeError("the answer is no list of series")
    for item in result:
        series: Any = item
        now_s, text = series["value"]
        yield series["metric"], float(text), float(now_s)
