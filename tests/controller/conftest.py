"""Repositories that the controller's tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from recsplit.plan.plan import Plan
from recsplit.repository.find import find
from recsplit.serving import Server, serve
from recsplit_perf.processes.heavier import heavier
from tests.conftest import built
from tests.controller.faults import faults


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, built as "shop"."""
    return built(tmp_path_factory.mktemp("controller") / "models", faults.NAME)


@pytest.fixture(scope="session")
def plan(light: Path) -> Plan:
    return find(light).plan


@pytest.fixture
def heavy(light: Path, tmp_path: Path) -> Path:
    """The small model with a heavy dense model."""
    return heavier(light, tmp_path / "models", faults.MODEL, faults.HEAVY_MS)


@pytest.fixture
def hooks(heavy: Path, tmp_path: Path) -> faults.Hooks:
    """What hinders new instances of the heavy model."""
    return faults.hinder(heavy, tmp_path)


@pytest.fixture
def heavy_server(heavy: Path, hooks: faults.Hooks) -> Iterator[Server]:
    with serve(heavy) as running:
        yield running
