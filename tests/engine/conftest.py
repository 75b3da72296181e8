"""What tests of the engine share."""

from pathlib import Path
from typing import Any

import pytest

from tests.engine.models import written
from tests.engine.two_tables import two_tables


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with a model of two lookups, and its config."""
    folder = tmp_path_factory.mktemp("model")
    return folder, written(two_tables(), folder)
