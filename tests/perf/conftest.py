"""The tiny DLRM, built once, and served once."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsplit.commands.output import progress
from recsplit.serving import Server, serve
from recsplit_perf.perf_analyzer import perf_analyzer


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its repository, built by the command line: inputs of one value a row, and a bag."""
    repository = tmp_path_factory.mktemp("perf") / "models"
    command = [sys.executable, "-m", "recsplit", "build", "recsplit.zoo.tiny:dlrm", "-o", str(repository), "--name", "tiny"]
    done = subprocess.run([*command, "--max-batch-size", "64"], capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    return repository


@pytest.fixture(scope="session")
def server(tiny: Path) -> Iterator[Server]:
    with serve(tiny) as running:
        yield running


@pytest.fixture(scope="session")
def analyzer() -> Path:
    return perf_analyzer.find_or_install(progress)
