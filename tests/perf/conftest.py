"""The tiny DLRM, served once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from recsplit.commands.output import progress
from recsplit.serving import Server, serve
from recsplit_perf.perf_analyzer import perf_analyzer


@pytest.fixture(scope="session")
def server(tiny: Path) -> Iterator[Server]:
    with serve(tiny) as running:
        yield running


@pytest.fixture(scope="session")
def analyzer() -> Path:
    return perf_analyzer.find_or_install(progress)
