"""The project's files agree with each other: Makefile, constraints, CI, pre-commit."""

import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


def canonical(requirement: str) -> str:
    """A requirement's package name, as PyPI spells it."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def pins() -> set[str]:
    return {canonical(line) for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line}


def test_constraints_pin_every_package_that_make_installs() -> None:
    needs = metadata.requires("recsplit")
    assert needs
    requirements = [need for need in needs if not re.search(r"extra == .(tensorrt|torchrec)|python_version < ", need)]
    assert {canonical(need) for need in [*requirements, "torchrec", "fbgemm-gpu-cpu"]} - {"recsplit"} <= pins()


def test_the_default_install_and_the_tests_need_no_tensorrt() -> None:
    assert not pins() & {"tensorrt", "nvidia-pyindex", "fbgemm-gpu"}


@pytest.mark.parametrize("target", ["demo", "test", "test-all", "test-slow", "lint", "repository", "docs", "install", "test-tensorrt"])
def test_every_target_that_the_docs_name_can_be_made(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", [".ci/run", ".ci/debian"])
def test_scripts_are_executable_and_parse(script: str) -> None:
    path = Path(REPOSITORY / script)
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", path], check=True, timeout=120)


def test_pre_commit_runs_the_versions_that_make_runs() -> None:
    """Hooks are local, so that there is one version of each tool: the one in constraints.txt."""
    text = (REPOSITORY / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (\S+)", text) == ["local"]
