"""What is rendered, and the controller's own manifests, are taken whole by the API server, and without a warning."""

from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Apply
from tests.cluster.kept import lost
from tests.controller.test_manifests import built as controllers
from tests.kubernetes.test_kustomize import built, manifests

#: What has to be installed in a cluster first.
INSTALLED = {"PodMonitor", "ScaledObject"}


def known(objects: list[Any], namespace: str, kinds: set[str]) -> list[Any]:
    """Those of kinds that the server has, for the namespace of the tests."""
    assert {item["kind"] for item in objects} - kinds <= INSTALLED
    return [
        item | {"metadata": item["metadata"] | {"namespace": namespace}}
        for item in objects
        if item["kind"] in kinds and item["kind"] != "Namespace"
    ]


def taken(objects: list[Any], apply: Apply) -> None:
    answers = apply(objects, "--dry-run=server")
    assert len(answers) == len(objects)
    for sent, answer in zip(objects, answers, strict=True):
        name = f"{sent['kind']} {sent['metadata']['name']}"
        assert [f"{name}{path}" for path in lost(sent, answer)] == []


@pytest.mark.parametrize("autoscaler", ["hpa", "keda"])
@pytest.mark.parametrize("overlay", ["dev", "prod"])
def test_an_overlay(tmp_path: Path, autoscaler: str, overlay: str, apply: Apply, namespace: str, kinds: set[str]) -> None:
    taken(known(built(manifests(tmp_path / "k8s", autoscaler) / "overlays" / overlay), namespace, kinds), apply)


@pytest.mark.parametrize("name", ["replicas", "in-place"])
def test_the_controller(name: str, apply: Apply, namespace: str, kinds: set[str]) -> None:
    taken(known(controllers(name), namespace, kinds), apply)
