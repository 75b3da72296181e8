"""Targets on Kubernetes: Deployments that a settings file names in full, since the repository isn't at hand there.

ensemble = "shop"
policy = "elasticrec"
bound_ms = 25

[targets.shop-front]
model = "shop"
role = "front"
maximum = 6
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsplit.disk import toml_file
from recsplit.errors import InputError
from recsplit.plan.strict_json import read
from recsplit_controller.targets.targets import Asked, changed, checked, settings_of
from recsplit_controller.values.settings import Role, Target

_AGAIN = "controller/README.md shows such a file"
#: What a file may say of a Deployment, beside the model and the role that it must.
_OWN = ("minimum", "maximum", "cores", "max_qps", "instances", "group", "accuracy")


@dataclass(frozen=True)
class Replicas:
    """What is controlled in a namespace: settings and Deployments, and the ensemble that clients call."""

    ensemble: str
    asked: Asked


def read_replicas(path: Path) -> Replicas:
    """Read such a file. Raises InputError where it can't be used."""
    value = toml_file.read(path, hint=_AGAIN)
    ensemble, tables = value.pop("ensemble", None), value.pop("targets", None)
    if not isinstance(ensemble, str) or not ensemble:
        raise InputError(f"{path}: ensemble: expected the name of the model that clients call", hint=_AGAIN)
    if not isinstance(tables, dict) or not tables:
        raise InputError(f"{path}: targets: expected a table for each Deployment, as [targets.shop-front]", hint=_AGAIN)
    targets = tuple(_target(name, table, f"{path}: {name[:60]}") for name, table in tables.items())
    return Replicas(ensemble, checked(Asked(settings_of(value, path), targets), path))


def _target(name: str, table: Mapping[str, Any], where: str) -> Target:
    if not isinstance(table, dict) or "model" not in table or "role" not in table:
        raise InputError(f"{where}: expected a model and a role", hint=_AGAIN)
    rest = dict(table)
    model, role = read(str, rest.pop("model"), f"{where}: model", _AGAIN), read(Role, rest.pop("role"), f"{where}: role", _AGAIN)
    return changed(Target(name, model, role, "replica"), rest, where, _OWN)  # type: ignore[no-any-return]
