"""The base and the overlays build with the real kubectl, and what comes out is valid and fits."""

import dataclasses
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from recsplit.kubernetes.check import objects, problems
from recsplit.kubernetes.manifests import render
from recsplit.kubernetes.rendering import FOLDER
from recsplit.rendering import rendered_folder
from tests.kubernetes.rendered import BACKEND, BUILD, files_of, sharded, values_of
from tests.kubernetes.test_manifests import OTHERS, VERSIONS

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

METRICS = {("rules", "recsplit_p95_ms"), ("externalRules", "recsplit_offered_qps")}


def built(path: Path) -> list[Any]:
    done = subprocess.run(["kubectl", "kustomize", str(path)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return objects(done.stdout)


def named(built_objects: list[Any], kind: str) -> dict[str, Any]:
    return {item["metadata"]["name"]: item for item in built_objects if item["kind"] == kind}


def manifests(target: Path, autoscaler: str) -> Path:
    values = dataclasses.replace(values_of(sharded()), autoscaler=autoscaler)  # type: ignore[arg-type]
    rendered_folder.write(target, render(sharded(), values, files_of(sharded()), {}, BACKEND), FOLDER)
    return target


@needs_kubectl
@pytest.mark.parametrize("autoscaler", ["hpa", "keda"])
@pytest.mark.parametrize("part", ["base", "overlays/dev", "overlays/prod"])
def test_it_builds_to_objects_that_are_valid_and_fit(tmp_path: Path, part: str, autoscaler: str) -> None:
    built_objects = built(manifests(tmp_path / "k8s", autoscaler) / part)
    for item in built_objects:
        if item["kind"] not in OTHERS:
            for version in VERSIONS:
                kubernetes_validate.validate(item, version, strict=True)
    # kustomize has put digests into the names of ConfigMaps, in both places or in neither.
    maps = {name: list(item["data"]) for name, item in named(built_objects, "ConfigMap").items()}
    assert not list(problems(built_objects, maps, METRICS))
    plans = [set(files) for name, files in maps.items() if "-plan-" in name]
    assert len(plans) == 3 and all({"arrange.sh", "checksums", "files", "models"} <= files for files in plans)
    (remote,) = [name for name in maps if "-remote-" in name]
    assert maps[remote] == ["model.py"]
    labels = named(built_objects, "ConfigMap")[remote]["metadata"]["labels"]
    assert labels["app.kubernetes.io/version"] and labels["app.kubernetes.io/component"] == "front", "it goes with its build's front"
    if part != "base":
        namespace = f"shop-{part.removeprefix('overlays/')}"
        assert list(named(built_objects, "Namespace")) == [namespace]
        assert {item["metadata"]["namespace"] for item in built_objects if item["kind"] != "Namespace"} == {namespace}


@needs_kubectl
def test_the_overlays_bound_replicas_and_spread(tmp_path: Path) -> None:
    target = manifests(tmp_path / "k8s", "hpa")
    counts = {}
    for overlay, spread in (("dev", "ScheduleAnyway"), ("prod", "DoNotSchedule")):
        built_objects = built(target / "overlays" / overlay)
        counts[overlay] = {
            (item["spec"]["minReplicas"], item["spec"]["maxReplicas"]) for item in named(built_objects, "HorizontalPodAutoscaler").values()
        }
        for deployment in named(built_objects, "Deployment").values():
            zone, host = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
            assert (zone["topologyKey"], zone["whenUnsatisfiable"]) == ("topology.kubernetes.io/zone", spread)
            assert host["whenUnsatisfiable"] == "ScheduleAnyway"
            assert "replicas" not in deployment["spec"]
    assert counts == {"dev": {(1, 2)}, "prod": {(2, 10)}}


@needs_kubectl
def test_keda_takes_the_place_of_the_horizontal_autoscalers(tmp_path: Path) -> None:
    built_objects = built(manifests(tmp_path / "k8s", "keda") / "overlays/prod")
    scaled, deployments = named(built_objects, "ScaledObject"), named(built_objects, "Deployment")
    assert not named(built_objects, "HorizontalPodAutoscaler")
    assert {item["spec"]["scaleTargetRef"]["name"] for item in scaled.values()} == set(deployments)
    for item in scaled.values():
        (trigger,) = item["spec"]["triggers"]
        assert 'namespace="shop-prod"' in trigger["metadata"]["query"]
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert scaled[f"shop-front-{BUILD}"]["spec"]["triggers"][0]["metadata"]["threshold"] == "16.25"
    assert scaled[f"shop-shard-1-{BUILD}"]["spec"]["triggers"][0]["metadata"]["threshold"] == "96"


@needs_kubectl
def test_an_overlay_of_the_users_own_builds_on_ours_and_survives_the_next_render(tmp_path: Path) -> None:
    target = manifests(tmp_path / "k8s", "hpa")
    kustomization_file = target / "overlays" / "canary" / "kustomization.yaml"
    kustomization_file.parent.mkdir()
    kustomization_file.write_text(
        "resources: [../prod]\nimages: [{name: nvcr.io/nvidia/tritonserver, newName: registry.example/triton, newTag: '1'}]\n"
    )
    manifests(target, "keda")
    built_objects = built(kustomization_file.parent)
    images = {item["spec"]["template"]["spec"]["containers"][0]["image"] for item in named(built_objects, "Deployment").values()}
    assert images == {"registry.example/triton:1"}
    assert named(built_objects, "ScaledObject")
