"""The rendered component for recsplit's controller goes with controller/manifests/replicas, and names this very build's Deployments."""

import dataclasses
import shutil
from pathlib import Path

import kubernetes_validate
import pytest

from recsplit.kubernetes.manifests import render
from recsplit.kubernetes.rendering import FOLDER
from recsplit.rendering import rendered_folder
from recsplit_controller.core.policies import policy_of
from recsplit_controller.targets.deployments import read_replicas
from tests.kubernetes.rendered import BACKEND, files_of, sharded, values_of
from tests.kubernetes.test_kustomize import built, named
from tests.kubernetes.test_manifests import OTHERS, VERSIONS

REPLICAS = Path(__file__).parents[2] / "controller" / "manifests" / "replicas"

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def rendered(target: Path, autoscaler: str, bound: float | None) -> Path:
    values = dataclasses.replace(values_of(sharded(), p95_bound_ms=bound), autoscaler=autoscaler)  # type: ignore[arg-type]
    rendered_folder.write(target, render(sharded(), values, files_of(sharded()), {}, BACKEND), FOLDER)
    overlay = target / "overlays" / "mine"
    overlay.mkdir()
    # kubectl takes folders relative to the overlay only.
    shutil.copytree(REPLICAS.parent, target / "manifests")
    (overlay / "kustomization.yaml").write_text(
        "namespace: shop-prod\nresources: [../prod, ../../manifests/replicas]\ncomponents: [../prod/controller]\n"
    )
    return overlay


@pytest.mark.parametrize("autoscaler", ["hpa", "keda"])
def test_it_builds_with_the_controllers_manifests(tmp_path: Path, autoscaler: str) -> None:
    objects = built(rendered(tmp_path / "k8s", autoscaler, 25))
    for item in objects:
        if item["kind"] not in OTHERS:
            for version in VERSIONS:
                kubernetes_validate.validate(item, version, strict=True)
    deployments = named(objects, "Deployment")
    servers = set(deployments) - {"recsplit-controller"}
    listed, scaled, *others = named(objects, "Role")["recsplit-controller"]["rules"]
    assert (listed["resources"], listed["verbs"]) == (["deployments"], ["list"])
    assert set(scaled["resourceNames"]) == servers
    kind = "HorizontalPodAutoscaler" if autoscaler == "hpa" else "ScaledObject"
    group = "autoscaling" if autoscaler == "hpa" else "keda.sh"
    (patched,) = [rule for rule in others if rule["apiGroups"] == [group] and "patch" in rule["verbs"]]
    assert set(patched["resourceNames"]) == set(named(objects, kind)) == servers
    least = "minReplicas" if autoscaler == "hpa" else "minReplicaCount"
    assert not any(least in item["spec"] for item in named(objects, kind).values()), "the controller is the field's only owner"
    pod = deployments["recsplit-controller"]["spec"]["template"]["spec"]
    (settings,) = [name for name in named(objects, "ConfigMap") if name.startswith("recsplit-controller-settings-")]
    assert {"name": "settings", "configMap": {"name": settings}} in pod["volumes"]
    assert pod["containers"][0]["args"][0] == f"--prometheus={values_of(sharded()).prometheus.address}"
    text = named(objects, "ConfigMap")[settings]["data"]["settings.toml"]
    assert all(f'[targets."{name}"]' in text for name in servers)


@pytest.mark.parametrize("bound", [25.0, None])
def test_its_settings_are_ones_that_the_controller_takes(tmp_path: Path, bound: float | None) -> None:
    rendered(tmp_path / "k8s", "hpa", bound)
    replicas = read_replicas(tmp_path / "k8s" / "overlays" / "prod" / "controller" / "settings.toml")
    assert replicas.ensemble == "shop"
    policy_of(replicas.asked.settings, replicas.asked.targets)
    front, *shards = replicas.asked.targets
    assert (front.role, front.model) == ("front", "shop" if bound else "shop_dense")
    assert (front.minimum, front.maximum) == (2, 10)
    assert [shard.model for shard in shards] == ["shop_embedding_1", "shop_embedding_2"]
    assert all(shard.role == "shard" and shard.max_qps == 120 for shard in shards)
