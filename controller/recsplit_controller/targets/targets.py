"""What is controlled: the targets of a plan, and the settings and bounds that the user's file gives them."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsplit.disk import toml_file
from recsplit.errors import InputError
from recsplit.plan.plan import Plan, Submodel
from recsplit.plan.routing import Routing
from recsplit.plan.strict_json import read, shown
from recsplit_controller.values.settings import GroupBounds, Role, Settings, Target

#: The maximum where the user gives none.
MOST = 8
_AGAIN = "recsplit control --help shows a file of settings"
#: What a file may say of a target; the rest is the plan's.
_OWN = ("minimum", "maximum", "cores", "max_qps", "group", "accuracy")


@dataclass(frozen=True)
class Asked:
    """Settings, and targets in the order of the plan's steps."""

    settings: Settings
    targets: tuple[Target, ...]


def of_plan(plan: Plan, *, engine: bool) -> tuple[Target, ...]:
    """What one server has of each model that it loads, in the order of their steps: workers where its engine runs it, else instances,
    each of which keeps its threads busy. `engine`: whether the server has one.

    A fused model is sized as a front is, by the latency that its clients see.
    """
    if not plan.loaded:
        return (_of_model(plan.fused, "front", engine=engine),)
    return tuple(_of_model(model, model.role, engine=engine) for model in plan.submodels)


def _of_model(model: Submodel, role: Role, *, engine: bool) -> Target:
    if engine and model.runtime == "native":
        return Target(model.name, model.name, role, "worker", 1, max(MOST, model.workers))
    return Target(model.name, model.name, role, "instance", 1, max(MOST, model.instances), float(model.threads))


def of_router(name: str, routing: Routing, plans: Mapping[str, Plan]) -> tuple[Target, ...]:
    """The variants behind a router as one group of its name: workers of the models that answer for them in one server. `plans` by model.

    Raises InputError where a variant is on another server, or more than one model of the engine.
    """
    targets = []
    for variant in routing.variants:
        if len(variant.servers) > 1 or variant.servers[0].address:
            raise InputError(
                f"variant {variant.name!r} is answered by {len(variant.servers)} servers, or elsewhere",
                hint="what is controlled here is one model of this server for each variant",
            )
        model = plans[variant.servers[0].model]
        if model.loaded:
            raise InputError(
                f"variant {variant.name!r} is the ensemble {model.name!r}: its models are sized one by one",
                hint="recsplit build --form fused makes it one model of the engine",
            )
        target = _of_model(model.fused, "front", engine=True)
        if target.unit != "worker":
            raise InputError(
                f"variant {variant.name!r} isn't run by the engine", hint="build it with --embedding-runtime native --form fused"
            )
        targets.append(dataclasses.replace(target, name=variant.name, group=name, accuracy=variant.accuracy, max_qps=variant.max_qps))
    return tuple(targets)


def of_fleet(plan: Plan, room: Mapping[str, int]) -> tuple[Target, ...]:
    """The servers of each shard that may get more than one: `room` has the most, by part. A server has its plan's instances."""
    return tuple(
        Target(
            str(number),
            shard.model.name,
            "shard",
            "replica",
            maximum=room[str(number)],
            cores=float(shard.model.threads * shard.model.instances),
            instances=shard.model.instances,
        )
        for number, shard in enumerate(plan.shards)
        if room.get(str(number), 1) > 1
    )


def read_settings(path: Path, targets: Sequence[Target]) -> Asked:
    """Settings and targets by a TOML file: the settings' names at the top, and for a target a table [targets.NAME] of minimum, maximum,
    cores and max_qps. Raises InputError on anything else."""
    value = toml_file.read(path, hint=_AGAIN)
    tables = value.pop("targets", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise InputError(f"{path}: targets: expected a table for each target, as [targets.shop_dense]", hint=_AGAIN)
    names = {target.name: target for target in targets}
    for name in tables:
        if name not in names:
            raise InputError(f"{path}: there is no target {shown(name)}", hint=f"the targets are {', '.join(names)}")
    settings = settings_of(value, path)
    asked = tuple(changed(target, tables.get(target.name, {}), f"{path}: {target.name}", _OWN) for target in targets)
    return checked(Asked(settings, asked), path)


def settings_of(value: Mapping[str, Any], path: Path) -> Settings:
    """Settings from a file's keys, without those of its targets. Raises InputError."""
    rest = dict(value)
    tables = rest.pop("groups", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise InputError(f"{path}: groups: expected a table for each group, as [groups.ranker]", hint=_AGAIN)
    groups = {name: _bounds(table, f"{path}: groups: {shown(name)}") for name, table in tables.items()}
    settings: Settings = changed(Settings(), rest, str(path))
    return dataclasses.replace(settings, groups=groups)


def _bounds(table: Mapping[str, Any], where: str) -> GroupBounds:
    try:
        bounds: GroupBounds = changed(GroupBounds(), table, where)
    except InputError as error:
        raise error if str(error).startswith(where) else InputError(f"{where}: {error}", hint=error.hint) from error
    return bounds


def checked(asked: Asked, path: Path) -> Asked:
    """What was asked for, where its groups are those of its targets. Raises InputError."""
    names, groups = {target.name for target in asked.targets}, {target.group for target in asked.targets if target.group is not None}
    for name in asked.settings.groups:
        if name not in groups:
            hint = f"the groups are {', '.join(sorted(groups))}" if groups else "a target names its group"
            raise InputError(f"{path}: no target is of the group {shown(name)}", hint=hint)
    for name in sorted(groups & names):
        raise InputError(f"{path}: {shown(name)} is a target and a group", hint="give the group another name")
    for group in sorted(groups):
        bounds, members = asked.settings.groups.get(group, GroupBounds()), [each for each in asked.targets if each.group == group]
        if sum(target.maximum for target in members) < bounds.minimum:
            raise InputError(f"{path}: the targets of {shown(group)} may not have {bounds.minimum} units", hint="raise a maximum")
    return asked


def changed(present: Any, values: Mapping[str, object], where: str, names: Sequence[str] | None = None) -> Any:
    """A frozen dataclass with other values for some of its fields (of `names`), strictly read. Raises InputError, begun with `where`."""
    known = [field.name for field in dataclasses.fields(present) if names is None or field.name in names]
    for name in values:
        if name not in known:
            raise InputError(f"{where}: unknown key {shown(name)}", hint=f"the keys are {', '.join(known)}")
    # A set field must not turn into one of another type: 'true' is no number, 2.5 no count.
    return read(type(present), dataclasses.asdict(present) | dict(values), where, _AGAIN)
