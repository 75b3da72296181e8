"""A real API server, for `make test-cluster` alone: a KUBECONFIG that happens to be set is no leave to write to that cluster.

All that is made lies in one namespace of a new name, which is deleted at the end. No pod of it can be scheduled, so no image is pulled.
"""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ASKED = "RECSPLIT_TEST_CLUSTER"
HERE = Path(__file__).parent
#: Pod security of the namespace: what is against it is refused, and warned of for what makes pods.
LABELS = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = None
    if os.environ.get(ASKED) != "1":
        why = "a real cluster is written to by make test-cluster alone"
    elif shutil.which("kubectl") is None:
        why = "kubectl is not installed"
    for item in items:
        if why is not None and HERE in item.path.parents and "namespace" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=why))


def kubectl(*arguments: str, stdin: str | None = None, may_fail: bool = False) -> str:
    """What it prints; it must succeed without a warning."""
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False)
    assert (may_fail or done.returncode == 0) and "Warning" not in done.stderr, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


Apply = Callable[..., list[Any]]


@pytest.fixture(scope="session")
def namespace() -> Iterator[str]:
    """A namespace of our own."""
    name = f"recsplit-check-{uuid.uuid4().hex[:8]}"
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": LABELS}}
    try:
        kubectl("create", "-f", "-", stdin=json.dumps(manifest))
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="session")
def kinds(namespace: str) -> set[str]:
    """The kinds of objects that the server knows."""
    # It fails where an aggregated API is away (often metrics-server's), and lists the others all the same.
    rows = kubectl("api-resources", "--no-headers", "-o", "wide", may_fail=True).splitlines()
    return {word for row in rows for word in row.split() if word[0].isupper()}


@pytest.fixture
def apply(namespace: str) -> Apply:
    """Server-side apply into the namespace: the objects as the server has them then. `--dry-run=server`, and nothing is kept."""

    def run(objects: Sequence[Any], *arguments: str) -> list[Any]:
        text = "\n".join(map(json.dumps, objects))  # no YAML: 12e4 is text to PyYAML, and a number to kubectl
        said = kubectl(
            "apply", "--server-side", "--field-manager=recsplit-check", "-n", namespace, *arguments, "-f", "-", "-o", "json", stdin=text
        )
        answer = json.loads(said)
        return list(answer["items"]) if answer["kind"] == "List" else [answer]

    return run
