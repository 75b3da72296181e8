"""A group of targets as one: a router shares its requests out, so that only all of them together tell what comes. Pure."""

import dataclasses
from collections.abc import Sequence

from recsplit_controller.core.groups import absent
from recsplit_controller.values.observation import Count, Observation, Series, total
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
    units = total(
        None if count.serving is None else count.serving * target.instances for target, count in zip(present, counts, strict=True)
    )
    whole = Series(
        requests=total(each.requests for each in series),
        busy=total(each.busy for each in series),
        waiting=total(each.waiting for each in series),
        pending=total(each.pending for each in series),
        offered=total(each.offered for each in series),
    )
    target = dataclasses.replace(group[0], name=key, model=key, instances=1)
    return target, dataclasses.replace(
        observation,
        models={**observation.models, key: whole},
        counts={**observation.counts, key: Count.steady(None if units is None else int(units))},
    )
