"""What `recsplit control --kubernetes` acts on: Deployments that the settings name, and the Lease of who may."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recsplit.errors import InputError

if TYPE_CHECKING:
    from recsplit_controller.actuate.protocol import Actuator
    from recsplit_controller.lease.leading import Renewed
    from recsplit_controller.targets.targets import Asked


@dataclass(frozen=True)
class Deployments:
    """The ensemble that clients call, what is asked for, who acts, and the lease (None in a dry run, which needs none)."""

    ensemble: str
    asked: "Asked"
    actuator: "Actuator"
    lease: "Renewed | None"


def deployments(
    stack: contextlib.ExitStack, repository: Path | None, file: Path | None, namespace: str | None, lease: str, *, dry_run: bool
) -> Deployments:
    """Read the settings and open the cluster until `stack` ends. Raises InputError where they don't do, MissingExtra without kr8s."""
    from recsplit_controller.actuate.cluster import Cluster
    from recsplit_controller.actuate.dry import DryActuator
    from recsplit_controller.actuate.kubernetes import KubernetesActuator
    from recsplit_controller.lease.kubernetes import KubernetesLease
    from recsplit_controller.targets.replicas import read_replicas

    if repository is not None:
        raise InputError("--kubernetes needs no DIR", hint="Deployments are named in --settings FILE.toml")
    if file is None:
        raise InputError("--kubernetes needs --settings FILE.toml", hint="it names the Deployments; controller/README.md shows one")
    found = read_replicas(file)
    cluster = Cluster(namespace)
    stack.callback(cluster.close)
    acting = KubernetesActuator(cluster, found.asked.targets)
    if dry_run:
        return Deployments(found.ensemble, found.asked, DryActuator(acting, lambda _text: None), None)
    held = KubernetesLease(cluster, lease, found.asked.settings.interval_s)
    stack.callback(held.release)
    return Deployments(found.ensemble, found.asked, acting, held)
