"""The controller on a real API server: counts, floors of autoscalers, the Lease, and its ServiceAccount's rights and namespace."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recsplit_controller.actuate.cluster import FIELD_MANAGER, Cluster, ClusterError
from recsplit_controller.actuate.kubernetes import KubernetesActuator
from recsplit_controller.lease.kubernetes import COORDINATION, KubernetesLease
from recsplit_controller.values.decision import Action
from recsplit_controller.values.settings import Target
from tests.cluster.conftest import Apply, kubectl
from tests.cluster.test_objects import known
from tests.controller.actuate.test_kubernetes_actuator import done
from tests.controller.test_manifests import built as controllers
from tests.waiting import until

ACCOUNT = "recsplit-controller"
#: Names that the controller's example is for, and one that it isn't.
FRONT, SHARD, OTHER = "shop-front", "shop-shard-1", "somebody-elses"
TARGETS = [Target(FRONT, "shop", "front", "replica"), Target(SHARD, "shop_embedding_1", "shard", "replica")]


def deployment(name: str) -> dict[str, Any]:
    """One whose pods nobody can schedule; its replicas are for others to say."""
    labels = {"app": name}
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod = {
        "nodeSelector": {"recsplit.invalid/no-node": "true"},
        "containers": [{"name": "none", "image": "recsplit.invalid/none", "securityContext": security}],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def autoscaler(name: str, least: int) -> dict[str, Any]:
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}
    scaled = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    spec = {"scaleTargetRef": scaled, "minReplicas": least, "maxReplicas": 9, "metrics": [metric]}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def cluster(namespace: str) -> Iterator[Cluster]:
    opened = Cluster(namespace, timeout_s=20)
    yield opened
    opened.close()


def scaled(actuator: KubernetesActuator, name: str, count: int) -> str | None:
    """How the action ended."""
    (outcome,) = done(actuator, Action("scale", name, count, 0.0, "a test's"))
    return outcome.error


def test_a_count_is_asked_for_and_an_apply_takes_nothing_back(apply: Apply, cluster: Cluster) -> None:
    objects = [deployment(FRONT), deployment(SHARD)]
    apply(objects)
    actuator = KubernetesActuator(cluster, TARGETS)
    assert scaled(actuator, FRONT, 3) is None
    apply(objects)
    count = actuator.counts()[FRONT]
    assert (count.serving, count.asked, count.floor) == (0, 3, None)


def test_where_an_autoscaler_has_the_count_its_floor_is_set_and_by_this_controller(apply: Apply, cluster: Cluster, namespace: str) -> None:
    apply([deployment(SHARD), autoscaler(SHARD, 1)])
    actuator = KubernetesActuator(cluster, TARGETS)
    assert actuator.counts()[SHARD].floor == 1
    assert scaled(actuator, SHARD, 4) is None
    assert actuator.counts()[SHARD].floor == 4
    answer = json.loads(kubectl("get", "hpa", SHARD, "-n", namespace, "-o", "json", "--show-managed-fields"))
    owners = {
        each["manager"] for each in answer["metadata"]["managedFields"] if "f:minReplicas" in each.get("fieldsV1", {}).get("f:spec", {})
    }
    assert FIELD_MANAGER in owners
    kubectl("delete", "hpa", SHARD, "-n", namespace)


def test_of_two_controllers_one_holds_the_lease(cluster: Cluster) -> None:
    first, second = (KubernetesLease(cluster, "recsplit-check", 5.0) for _ in range(2))
    assert first.hold() is None and first.hold() is None
    assert "holds the lease" in str(second.hold())
    first.release()
    assert second.hold() is None
    stale = {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": first.identity}}  # of one who read it before it was taken
    with pytest.raises(ClusterError) as refused:
        cluster.run(cluster.ask("PATCH", COORDINATION, "leases/recsplit-check", stale))
    assert refused.value.status == 409
    second.release()


@pytest.fixture
def account(namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A ServiceAccount's folder, as the kubelet mounts it, its token with a line break at the end; and the server's address."""
    view = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    server = view["clusters"][0]["cluster"]
    beyond = {"insecure-skip-tls-verify", "tls-server-name", "proxy-url"} & {key for key, value in server.items() if value}
    if beyond:
        pytest.skip(f"no pod's address of the API server: the kubeconfig has {', '.join(sorted(beyond))}")
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "namespace").write_text(namespace)
    (folder / "token").write_text(kubectl("create", "token", ACCOUNT, "-n", namespace).strip() + "\n")
    if "certificate-authority-data" in server:
        (folder / "ca.crt").write_bytes(base64.b64decode(server["certificate-authority-data"]))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # where there is none either
    return folder, server["server"]


@pytest.fixture
def rights(apply: Apply, namespace: str, kinds: set[str]) -> None:
    """The ServiceAccount, its Role, the empty Lease, and three Deployments."""
    needed = {"ServiceAccount", "Role", "RoleBinding", "Lease"}
    apply([item for item in known(controllers("replicas"), namespace, kinds) if item["kind"] in needed])
    apply([deployment(name) for name in (FRONT, SHARD, OTHER)])


@pytest.mark.usefixtures("rights")
def test_a_pod_acts_in_its_own_namespace_and_on_nothing_but_what_its_role_names(account: tuple[Path, str]) -> None:
    folder, server = account
    cluster = Cluster(account=folder, url=server, timeout_s=20)
    try:
        actuator = KubernetesActuator(cluster, [*TARGETS, Target(OTHER, "x", "front", "replica")])
        # The server's authorizer learns of a RoleBinding a moment after it is made.
        until(lambda: None not in [count.asked for count in actuator.counts().values()], "the Role is in force", within_s=20)
        assert scaled(actuator, FRONT, 2) is None
        assert "refused" in str(scaled(actuator, OTHER, 2))
        lease = KubernetesLease(cluster, ACCOUNT, 5.0)
        assert lease.hold() is None
        lease.release()
        for method, version, path in (("GET", "v1", "secrets"), ("GET", "v1", "pods"), ("GET", "apps/v1", f"deployments/{OTHER}")):
            with pytest.raises(ClusterError) as refused:
                cluster.run(cluster.ask(method, version, path))  # type: ignore[arg-type]
            assert refused.value.status == 403
    finally:
        cluster.close()
