"""Acts on Kubernetes: the count of replicas of Deployments, through their scale sub-resource.

Where a HorizontalPodAutoscaler has a Deployment, its count is the autoscaler's, which would set any other back. Then the least that it may
have is set instead: the controller sees ahead, the autoscaler still adds what nobody foresaw, and goes on if the controller is gone. KEDA
keeps such an autoscaler as its ScaledObject says, so there that one is asked.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recsplit.errors import InputError
from recsplit_controller.actuate.cluster import Answer, Cluster, ClusterError
from recsplit_controller.values.decision import Action, Outcome
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

    Counts are of pods that run or start, as the Deployment's controller counts them. Nothing is ever reported ill: a pod that is dead is
    the business of its probes.
    """

    def __init__(self, cluster: Cluster, targets: Sequence[Target]) -> None:
        for target in targets:
            if target.unit != "replica":
                raise InputError(f"{target.name!r} is counted in {target.unit}s, and Kubernetes has replicas", hint="unit: replica")
        self._cluster, self._names = cluster, tuple(target.name for target in targets)
        self._ended: deque[Outcome] = deque()

    def counts(self) -> Mapping[str, int | None]:
        """Pods by target; None where the API server doesn't tell. Takes no longer than the cluster's time limit."""
        return self._cluster.run(self._counts())

    async def _counts(self) -> Mapping[str, int | None]:
        known: dict[str, int | None] = dict.fromkeys(self._names)

        async def count() -> None:
            for name in self._names:
                known[name] = await self._count(name)

        with contextlib.suppress(asyncio.TimeoutError):  # what is known by then is told
            await asyncio.wait_for(count(), self._cluster.timeout_s)
        return known

    async def _count(self, name: str) -> int | None:
        try:
            scale = await self._cluster.ask("GET", APPS, f"deployments/{name}/scale")
        except ClusterError as error:
            _LOG.warning("a Deployment's count is not known", extra={"fields": {"target": name, "why": str(error)}})
            return None
        return _whole(scale.get("status", {}).get("replicas"))

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
        floor = await self._floor(action.target)
        if floor is None:
            path, body = f"deployments/{action.target}/scale", {"spec": {"replicas": action.count}}
            scale = await self._cluster.ask("PATCH", APPS, path, body)
            if scale.get("spec", {}).get("replicas", 0) != action.count:  # 0 is left out of JSON
                raise ClusterError(f"asked for {action.count} replicas of {action.target}, the cluster set another count")
            return
        least = min(action.count, floor.most)
        if least != floor.least:
            await self._cluster.ask("PATCH", floor.version, floor.path, {"spec": {floor.field: least}})
        if least != action.count:
            raise ClusterError(f"asked for {action.count} replicas of {action.target}, {floor.path} allows at most {floor.most}")

    async def _floor(self, name: str) -> _Floor | None:
        """The autoscaler of a Deployment; None where nothing scales it. Raises ClusterError where there are two."""
        listed = await self._cluster.ask("GET", AUTOSCALING, "horizontalpodautoscalers")
        autoscalers = [item for item in listed.get("items", ()) if _scales(item, name)]
        if len(autoscalers) > 1:
            names = ", ".join(str(item["metadata"]["name"]) for item in autoscalers)
            raise ClusterError(f"more than one HorizontalPodAutoscaler scales {name}: {names}")
        if not autoscalers:
            return None
        (autoscaler,) = autoscalers
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


def _scales(autoscaler: Answer, name: str) -> bool:
    target = autoscaler["spec"]["scaleTargetRef"]
    return bool(target["kind"] == "Deployment" and target["name"] == name)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
