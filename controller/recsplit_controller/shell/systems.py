"""What a controller acts on, put together: settings and targets, who acts, and the lease. One function for each kind of system.

Each is a context manager: what it opens is closed, and its lease given back, at the end.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recsplit.errors import InputError
from recsplit_controller.actuate.dry import DryActuator
from recsplit_controller.actuate.protocol import Actuator
from recsplit_controller.core.policies import policy_of
from recsplit_controller.forecast import Forecaster, named
from recsplit_controller.lease.protocol import Renewed
from recsplit_controller.targets.targets import Asked, of_fleet, of_plan, of_router, read_settings
from recsplit_controller.values.settings import GroupBounds, Settings, Target

#: The user's options, which come before the file of settings.
Options = Callable[[Settings], Settings]
_HERE = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class System:
    """The ensemble that clients call, settings and targets, who acts, and a lease that has to be held every tick, None without one."""

    ensemble: str
    asked: Asked
    forecaster: Forecaster
    actuator: Actuator
    lease: Renewed | None = None


@contextlib.contextmanager
def server(
    repository: Path, *, model: str | None, settings_file: Path | None, options: Options, grpc_url: str, key: Path | None, dry_run: bool
) -> Iterator[System]:
    """Instances of the models of one Triton, workers of those that the engine runs; or what is behind a router. `key` None: the one that
    recsplit serve left, if any.

    Raises InputError where settings don't do, or another controller has the lease.
    """
    from recsplit.repository.routers import router_of
    from recsplit_controller.lease.one_machine import FileLease

    router = router_of(repository, model)
    if router is not None:
        name, asked = router, _router_asked(repository, router, settings_file, options, grpc_url)
    else:
        name, asked = _plan_asked(repository, model, settings_file, options, grpc_url)
    forecaster = named(asked.settings.forecaster)
    with contextlib.ExitStack() as stack:
        if not dry_run:
            stack.enter_context(FileLease(grpc_url, f"recsplit control {repository}"))
        acting = _acting(repository, asked.targets, grpc_url, key, router)
        stack.callback(acting.close)
        yield System(name, asked, forecaster, _dry(acting) if dry_run else acting)


def _plan_asked(repository: Path, model: str | None, settings_file: Path | None, options: Options, grpc_url: str) -> tuple[str, Asked]:
    """The ensemble, and what is asked for of the models of its plan."""
    from recsplit.repository.find import find
    from recsplit_controller.actuate.workers import has_engine

    plan = find(repository, model).plan
    return plan.name, _with_budget(_asked(settings_file, of_plan(plan, engine=has_engine(grpc_url)), options), grpc_url)


def _router_asked(repository: Path, router: str, settings_file: Path | None, options: Options, grpc_url: str) -> Asked:
    """What is asked for of the variants behind a router. Without a bound of its own the group has this machine's cores: its workers compute
    all the time that they are busy, and are chosen for it."""
    from recsplit.repository.find import find
    from recsplit.repository.routers import settings_of

    routing = settings_of(repository, router)
    plans = {server.model: find(repository, server.model).plan for variant in routing.variants for server in variant.servers}
    asked = _asked(settings_file, of_router(router, routing, plans), options)
    bounds, host = asked.settings.groups.get(router, GroupBounds()), grpc_url.rpartition(":")[0]
    if bounds.cores is None and host in _HERE:
        bounds = dataclasses.replace(bounds, cores=float(len(os.sched_getaffinity(0))))
    return dataclasses.replace(asked, settings=dataclasses.replace(asked.settings, groups={router: bounds}))


def _acting(repository: Path, targets: Sequence[Target], grpc_url: str, key: Path | None, router: str | None) -> Actuator:
    """Who changes these targets' units, and a router's shares."""
    from recsplit.serving.control_key import read_key
    from recsplit_controller.actuate.router import RouterActuator
    from recsplit_controller.actuate.together import Together
    from recsplit_controller.actuate.triton import TritonActuator
    from recsplit_controller.actuate.workers import WorkersActuator

    if router is not None:
        return RouterActuator(grpc_url, router, targets)
    actuators: dict[str, Actuator] = {}
    if any(target.unit == "instance" for target in targets):
        instances = TritonActuator(grpc_url, repository, targets, key=None if key is None else read_key(key))
        actuators |= {target.name: instances for target in targets if target.unit == "instance"}
    if any(target.unit == "worker" for target in targets):
        workers = WorkersActuator(grpc_url, targets)
        actuators |= {target.name: workers for target in targets if target.unit == "worker"}
    return Together(actuators)


@contextlib.contextmanager
def fleet(
    repository: Path, folder: Path, *, model: str | None, settings_file: Path | None, options: Options, dry_run: bool
) -> Iterator[System]:
    """Servers of the shards of a running fleet that were given room; `folder` is its control folder. Raises InputError without a fleet."""
    from recsplit.repository.find import find
    from recsplit_controller.actuate.fleet import FleetActuator, room
    from recsplit_controller.lease.one_machine import FileLease

    plan = find(repository, model).plan
    asked = _asked(settings_file, of_fleet(plan, room(folder)), options)
    forecaster = named(asked.settings.forecaster)
    acting = FleetActuator(folder, asked.targets)
    with contextlib.ExitStack() as stack:
        if not dry_run:
            stack.enter_context(FileLease(str(folder.resolve()), f"recsplit control {repository} --fleet"))
        yield System(plan.name, asked, forecaster, _dry(acting) if dry_run else acting)


@contextlib.contextmanager
def deployments(settings_file: Path | None, *, options: Options, namespace: str | None, lease: str, dry_run: bool) -> Iterator[System]:
    """Replicas of the Deployments that a settings file names. Raises InputError where it doesn't do, MissingExtra without kr8s."""
    from recsplit_controller.actuate.cluster import Cluster
    from recsplit_controller.actuate.kubernetes import KubernetesActuator
    from recsplit_controller.lease.kubernetes import KubernetesLease
    from recsplit_controller.targets.deployments import read_replicas

    if settings_file is None:
        raise InputError("--kubernetes needs --settings FILE.toml", hint="it names the Deployments; controller/README.md shows one")
    replicas = read_replicas(settings_file)
    asked = _overruled(replicas.asked, options)
    forecaster = named(asked.settings.forecaster)
    with contextlib.ExitStack() as stack:
        cluster = Cluster(namespace)
        stack.callback(cluster.close)
        acting = KubernetesActuator(cluster, asked.targets)
        if dry_run:
            yield System(replicas.ensemble, asked, forecaster, _dry(acting))
            return
        kubernetes_lease = KubernetesLease(cluster, lease, asked.settings.interval_s)
        stack.callback(kubernetes_lease.release)
        yield System(replicas.ensemble, asked, forecaster, acting, kubernetes_lease)


def _asked(settings_file: Path | None, targets: Sequence[Target], options: Options) -> Asked:
    """What file and options ask for of these targets."""
    return _overruled(Asked(Settings(), tuple(targets)) if settings_file is None else read_settings(settings_file, targets), options)


def _overruled(asked: Asked, options: Options) -> Asked:
    """With the options before the file. Raises InputError where it isn't enough for the policy."""
    settings = options(asked.settings)
    policy_of(settings, asked.targets)
    return dataclasses.replace(asked, settings=settings)


def _with_budget(asked: Asked, grpc_url: str) -> Asked:
    """With a budget where none was given and the server is on this machine: as many instances as keep its cores busy, when each of
    them is busy for `busy_share` of the time. Without one, models that compute would be given more instances than could ever help."""
    settings, host = asked.settings, grpc_url.rpartition(":")[0]
    if settings.cores is not None or host not in _HERE:
        return asked
    cores = len(os.sched_getaffinity(0)) / settings.busy_share
    return dataclasses.replace(asked, settings=dataclasses.replace(settings, cores=cores))


def _dry(acting: Actuator) -> Actuator:
    return DryActuator(acting, lambda _text: None)
