"""Acts on Kubernetes: the count of replicas of Deployments, through their scale sub-resource.

Where a HorizontalPodAutoscaler has a Deployment, its count is the autoscaler's, which would set any other back. Then the least that it may
have is set instead: the controller sees ahead, the autoscaler still adds what nobody foresaw, and goes on if the controller is gone. KEDA
keeps such an autoscaler as its ScaledObject says, so there that one is asked.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recsplit.errors import InputError
from recsplit_controller.actuate.cluster import Answer, Cluster, ClusterError
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Target

_LOG = logging.getLogger(__name__)

APPS = "apps/v1"
AUTOSCALING = "autoscaling/v2"
KEDA = "keda.sh/v1alpha1"


@dataclass(frozen=True)
class _Floor:
    """Where the least count of an autoscaled Deployment is set: an object, its field, and the counts that it has now."""

    version: str
    path: str
    field: str
    least: int
    most: int


class KubernetesActuator:
    """Scales the Deployments that `targets` name. Raises InputError for a target that isn't counted in replicas.

    Serving are the pods that are ready; asked for is what the Deployment's own spec says, whoever wrote it. Nothing is ever reported
    ill: a pod that is dead is the business of its probes.
    """

    def __init__(self, cluster: Cluster, targets: Sequence[Target]) -> None:
        for target in targets:
            if target.unit != "replica":
                raise InputError(f"{target.name!r} is counted in {target.unit}s, and Kubernetes has replicas", hint="unit: replica")
        self._cluster, self._names = cluster, tuple(target.name for target in targets)
        self._ended: deque[Outcome] = deque()
        self._told: dict[str, str] = {}  # what isn't known and why, once for as long as it stays so

    def counts(self) -> Mapping[str, Count]:
        """Pods by target, of two questions to the API server: all Deployments, and all autoscalers, of the namespace."""
        return self._cluster.run(self._counts())

    async def _counts(self) -> Mapping[str, Count]:
        try:
            known = await asyncio.wait_for(self._known(), self._cluster.timeout_s)
        except (ClusterError, asyncio.TimeoutError, KeyError, TypeError, AttributeError) as error:
            why = (
                str(error)
                if isinstance(error, ClusterError)
                else f"the API server's answer isn't to be had: {type(error).__name__}: {error}"
            )
            self._tell(dict.fromkeys(self._names, why))
            return dict.fromkeys(self._names, Count())
        self._tell({name: f"there is no Deployment {name}" for name in self._names if name not in known})
        return {name: known.get(name, Count()) for name in self._names}

    async def _known(self) -> Mapping[str, Count]:
        listed, floors = await self._cluster.ask("GET", APPS, "deployments"), await self._floors()
        named = {str(item["metadata"]["name"]): item for item in listed.get("items", ())}
        return {name: _count(named[name], floors.get(name)) for name in self._names if name in named}

    def _tell(self, unknown: Mapping[str, str]) -> None:
        for name, why in unknown.items():
            if self._told.get(name) != why:
                _LOG.warning("a Deployment's count is not known", extra={"fields": {"target": name, "why": why}})
        self._told = dict(unknown)

    def begin(self, action: Action) -> None:
        """Ask for the count; the answer comes with `outcomes`."""
        self._cluster.start(self._act(action))

    async def _act(self, action: Action) -> None:
        began_s = time.monotonic()
        error: str | None = None
        try:
            await self._ask(action)
        except ClusterError as refused:
            error = str(refused)
        except Exception as fault:  # without an outcome the target would wait for ever
            _LOG.exception("an action failed", extra={"fields": {"target": action.target}})
            error = f"{type(fault).__name__}: {fault}"
        self._ended.append(Outcome(action, error, time.monotonic() - began_s))

    async def _ask(self, action: Action) -> None:
        if action.kind == "heal":
            raise ClusterError("pods are replaced by their probes, not by the controller")
        floors = (await self._floors()).get(action.target, [])
        if len(floors) > 1:
            names = ", ".join(floor.path for floor in floors)
            raise ClusterError(f"more than one autoscaler scales {action.target}: {names}")
        if not floors:
            path, body = f"deployments/{action.target}/scale", {"spec": {"replicas": action.count}}
            scale = await self._cluster.ask("PATCH", APPS, path, body)
            if scale.get("spec", {}).get("replicas", 0) != action.count:  # 0 is left out of JSON
                raise ClusterError(f"asked for {action.count} replicas of {action.target}, the cluster set another count")
            return
        (floor,) = floors
        if not action.count and floor.version == AUTOSCALING:
            raise ClusterError(
                f"no replica of {action.target} is wanted, and {floor.path} has 1 or more: what may be none has no autoscaler"
            )
        least = min(action.count, floor.most)
        if least != floor.least:
            await self._cluster.ask("PATCH", floor.version, floor.path, {"spec": {floor.field: least}})
        if least != action.count:
            raise ClusterError(f"asked for {action.count} replicas of {action.target}, {floor.path} allows at most {floor.most}")

    async def _floors(self) -> Mapping[str, Sequence[_Floor]]:
        """The autoscalers of each of the targets' Deployments; where there is none, nothing scales it."""
        listed = await self._cluster.ask("GET", AUTOSCALING, "horizontalpodautoscalers")
        floors: dict[str, list[_Floor]] = {}
        for item in listed.get("items", ()):
            scaled = item["spec"]["scaleTargetRef"]
            if scaled["kind"] == "Deployment" and scaled["name"] in self._names:
                floors.setdefault(scaled["name"], []).append(await self._floor(item))
        return floors

    async def _floor(self, autoscaler: Answer) -> _Floor:
        owners = [owner["name"] for owner in autoscaler["metadata"].get("ownerReferences", ()) if owner.get("kind") == "ScaledObject"]
        if owners:
            path = f"scaledobjects/{owners[0]}"
            spec = (await self._cluster.ask("GET", KEDA, path))["spec"]
            return _Floor(KEDA, path, "minReplicaCount", spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100))
        spec = autoscaler["spec"]
        path = f"horizontalpodautoscalers/{autoscaler['metadata']['name']}"
        return _Floor(AUTOSCALING, path, "minReplicas", spec.get("minReplicas", 1), spec["maxReplicas"])

    def outcomes(self) -> Sequence[Outcome]:
        """The actions that the API server answered since the last call."""
        ended = []
        while self._ended:
            ended.append(self._ended.popleft())
        return ended

    def ill(self) -> Mapping[str, str]:
        """Nothing: see the class."""
        return {}

    def close(self) -> None:
        """Let go of the cluster."""
        self._cluster.close()


def _count(deployment: Answer, floors: Sequence[_Floor] | None) -> Count:
    """What a Deployment says of its pods. A status without ready ones leaves their number out; spec.replicas is always there."""
    serving = _whole(deployment.get("status", {}).get("readyReplicas", 0))
    return Count(serving, _whole(deployment["spec"].get("replicas", 1)), floors[0].least if floors else None)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
