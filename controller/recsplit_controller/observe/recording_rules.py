"""From the answer to one query, all recorded series of a build, to an observation. Pure."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from recsplit_controller.values.observation import Observation, Series

#: Names of the recorded series, as `recsplit render prometheus` writes them (recsplit.monitoring.names).
PREFIX, DATA_S, UP, WINDOW_S = "recsplit:", "data_s", "up", "window_s"
_FIELDS = frozenset(item.name for item in fields(Series))
_ONE_A_MODEL = _FIELDS | {DATA_S}


def matcher(ensemble: str, select: Mapping[str, str]) -> str:
    """What the series of an ensemble have, and those labels that the user asks for. Names of models need no escapes in PromQL."""
    return ",".join(f"{label}={json.dumps(value)}" for label, value in {"ensemble": ensemble, **select}.items())


def query(ensemble: str, select: Mapping[str, str]) -> str:
    """The one query of a tick."""
    return f'{{__name__=~"{PREFIX}.+",{matcher(ensemble, select)}}}'


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
    """What was told: of each model its values and the age of its samples in seconds, servers that are away, models of which there are two
    series of one name with what tells them apart, and what rates are over."""

    values: dict[str, dict[str, float]] = field(default_factory=dict)
    age_s: dict[str, float] = field(default_factory=dict)
    away: list[str] = field(default_factory=list)
    doubled: dict[str, str] = field(default_factory=dict)
    window_s: float | None = None


def observation(at_s: float, ensemble: str, models: Sequence[str], result: object) -> Observation:
    """Read an instant vector. Values that aren't finite are unknown; a model without a sample time has no values.

    Ages are taken by Prometheus' clock, so that one that differs from ours does no harm. Raises ValueError, KeyError or TypeError where
    `result` is no instant vector.
    """
    answer = _read(result)
    problems = [f"Prometheus can't read {instance}" for instance in sorted(answer.away)]
    for model, labels in sorted(answer.doubled.items()):
        problems.append(f"Prometheus has two series of {model!r} ({labels}): choose with --select LABEL=VALUE")
        answer.age_s.pop(model, None)
    if not answer.age_s:
        problems.append(f"Prometheus has no data of {ensemble!r}: do its rules name this build, and does it scrape the servers?")
    else:
        problems += [f"no server has {model!r}" for model in models if model not in answer.age_s and model not in answer.doubled]
    by_model = {model: answer.values.get(model, {}) if model in answer.age_s else {} for model in models}
    ages = [answer.age_s[model] for model in models if model in answer.age_s]
    return Observation(
        at_s,
        at_s - max(ages) if ages else None,
        ensemble,
        {model: Series(**values) for model, values in by_model.items()},
        problems=tuple(problems),
        window_s=answer.window_s,
    )


def _read(result: object) -> _Answer:
    answer = _Answer()
    first: dict[tuple[str, str], Mapping[str, str]] = {}
    for labels, value, now_s in _samples(result):
        what, model = labels["__name__"].removeprefix(PREFIX), labels.get("model", "")
        other = first.setdefault((what, model), labels)
        if other is not labels and what in _ONE_A_MODEL:
            answer.doubled.setdefault(model, _apart(other, labels))
        if what == UP and value == 0:
            answer.away.append(labels.get("instance", "?"))
        elif what == WINDOW_S and 0 < value < math.inf:
            answer.window_s = value
        elif what == DATA_S and math.isfinite(value):
            answer.age_s[model] = max(now_s - value, 0.0)
        elif what in _FIELDS and math.isfinite(value):
            answer.values.setdefault(model, {})[what] = value
    return answer


def _apart(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The labels in which two series differ, whichever came first."""
    differing = sorted(label for label in {*one, *other} if one.get(label) != other.get(label))
    values = {label: sorted(repr(labels.get(label, "")) for labels in (one, other)) for label in differing}
    return ", ".join(f"{label} {' and '.join(pair)}" for label, pair in values.items()) or "equal"


def _samples(result: object) -> Iterator[tuple[Mapping[str, str], float, float]]:
    """Labels, value, and the time of evaluation of each sample."""
    if not isinstance(result, list):
        raise TypeError("the answer is no list of series")
    for item in result:
        series: Any = item
        now_s, text = series["value"]
        yield series["metric"], float(text), float(now_s)
