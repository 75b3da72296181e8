"""The controller's manifests build with the real kubectl, are valid, fit together, and give it the rights that it uses and no others."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from recsplit.commands.control import command
from recsplit_controller.actuate.cluster import Cluster
from recsplit_controller.actuate.kubernetes import KubernetesActuator
from recsplit_controller.lease.kubernetes import KubernetesLease
from recsplit_controller.targets.deployments import read_replicas
from recsplit_controller.values.decision import Action
from tests.controller.actuate.fake_cluster import kubeconfig, running
from tests.controller.actuate.test_kubernetes_actuator import done

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "controller" / "manifests"
VERSIONS = ("1.35", "1.36", "1.37")

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def built(name: str) -> list[Any]:
    command_line = ["kubectl", "kustomize", str(MANIFESTS / name)]
    kubectl_run = subprocess.run(command_line, capture_output=True, text=True, check=False, timeout=120)
    assert kubectl_run.returncode == 0 and not kubectl_run.stderr, kubectl_run.stderr
    return list(yaml.safe_load_all(kubectl_run.stdout))


def one(objects: list[Any], kind: str) -> Any:
    (item,) = [item for item in objects if item["kind"] == kind]
    return item


def rules() -> list[Any]:
    return list(one(built("replicas"), "Role")["rules"])


@pytest.mark.parametrize("name", ["replicas", "in-place"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(name: str, version: str) -> None:
    for item in built(name):
        if item["kind"] != "PodMonitor":  # the operator's, with no schema here
            kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("name", ["replicas", "in-place"])
def test_what_selects_pods_selects_the_controllers_and_no_others(name: str) -> None:
    objects = built(name)
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        one(objects, "Deployment")["spec"]["selector"],
        one(objects, "NetworkPolicy")["spec"]["podSelector"],
        one(objects, "PodMonitor")["spec"]["selector"],
    ):
        assert selector["matchLabels"] and selector["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("name", ["replicas", "in-place"])
def test_a_pod_may_do_little(name: str) -> None:
    pod = one(built(name), "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    # A token only where Kubernetes is asked for something.
    assert pod["automountServiceAccountToken"] is (name == "replicas")
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert all(mount.get("readOnly") for mount in container["volumeMounts"] if mount["name"] != "tmp")


@pytest.mark.parametrize("name", ["replicas", "in-place"])
def test_the_arguments_are_the_commands(name: str) -> None:
    objects = built(name)
    (container,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    parameters = command.make_context("control", list(container["args"])).params
    assert parameters["kubernetes"] is (name == "replicas") and parameters["as_json"]
    (port,) = container["ports"]
    assert port == {"name": "metrics", "containerPort": parameters["port"]}
    assert parameters["settings_file"] == Path("/settings/settings.toml")
    assert list(one(objects, "ConfigMap")["data"]) == ["settings.toml"]
    if name == "in-place":
        secret = next(
            volume["secret"] for volume in one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"] if "secret" in volume
        )
        assert parameters["control_key"] == Path("/key/control-key") and secret["defaultMode"] & 0o007 == 0


def test_the_role_is_for_the_deployments_of_the_settings() -> None:
    names = [target.name for target in read_replicas(MANIFESTS / "replicas" / "settings.toml").asked.targets]
    lease = one(built("replicas"), "Lease")["metadata"]["name"]
    for rule in rules():
        if rule["verbs"] != ["list"]:
            assert rule["resourceNames"] == ([lease] if rule["resources"] == ["leases"] else names)
    binding = one(built("replicas"), "RoleBinding")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "recsplit-controller"}]


def needed(method: str, path: str) -> tuple[str, str, str, str | None]:
    """Group, resource, verb and name of a question, as Kubernetes' authorization sees it."""
    group, _, resource, *rest = path.split("/")
    verb = {"GET": "get" if rest else "list", "PATCH": "patch", "POST": "create"}[method]
    return group, "/".join([resource, *rest[1:]]), verb, rest[0] if rest else None


def test_the_role_allows_what_is_asked_and_nothing_more(tmp_path: Path) -> None:
    with running() as fake:
        fake.deployment("shop-front", 1)
        fake.deployment("shop-shard-1", 1)
        fake.put("coordination.k8s.io/v1/leases/recsplit-controller", {"metadata": {"name": "recsplit-controller"}})
        cluster = Cluster(kubeconfig=kubeconfig(fake, tmp_path / "config"))
        targets = read_replicas(MANIFESTS / "replicas" / "settings.toml").asked.targets
        actuator, lease = KubernetesActuator(cluster, targets), KubernetesLease(cluster, "recsplit-controller", 5.0)
        assert lease.hold() is None
        actuator.counts()
        action = Action("scale", "shop-front", 2, 0.0, "")
        done(actuator, action)
        fake.autoscaler("shop-front", "shop-front", 1, 5)
        done(actuator, action)
        fake.autoscaler("shop-front", "shop-front", 1, 5, owner="shop-front")
        fake.put("keda.sh/v1alpha1/scaledobjects/shop-front", {"spec": {"minReplicaCount": 1}})
        assert [outcome.error for outcome in done(actuator, action)] == [None]
        lease.release()
        asked = {needed(method, path) for method, path in fake.asked}
        actuator.close()
    granted = {
        (group, resource, verb, name)
        for rule in rules()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [None])
    }
    assert asked <= granted
    assert {question[:3] for question in granted} == {question[:3] for question in asked}
