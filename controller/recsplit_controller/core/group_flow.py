"""A group of targets as one: a router shares its requests out, so that only all of them together tell what comes. Pure."""

import dataclasses
from collections.abc import Sequence

from recsplit_controller.core.groups import absent
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Target


def group_key(group: str) -> str:
    """What the group's rates and flow are known by, which no model's name is: those have no space."""
    return f"group {group}"


def as_one(group: Sequence[Target], observation: Observation) -> tuple[Target, Observation]:
    """Targets of one group as a single one of the name of `group_key`, and the observation with its series and count."""
    assert group[0].group is not None
    key, present = group_key(group[0].group), [target for target in group if not absent(observation.count(target.name))]
    series = [observation.of(target.model) for target in present]
    counts = [observation.count(target.name) for target in present]
    units = [None if count.serving is None else count.serving * target.instances for target, count in zip(present, counts, strict=True)]
    whole = Series(
        requests=_sum([each.requests for each in series]),
        busy=_sum([each.busy for each in series]),
        waiting=_sum([each.waiting for each in series]),
        pending=_sum([each.pending for each in series]),
        offered=_sum([each.offered for each in series]),
    )
    target = dataclasses.replace(group[0], name=key, model=key, instances=1)
    return target, dataclasses.replace(
        observation,
        models={**observation.models, key: whole},
        counts={**observation.counts, key: Count.steady(_whole(units))},
    )


def _sum(values: Sequence[float | None]) -> float | None:
    """None where one isn't known, or there is none."""
    return None if not values or any(value is None for value in values) else float(sum(value for value in values if value is not None))


def _whole(values: Sequence[int | None]) -> int | None:
    total = _sum(values)
    return None if total is None else int(total)
