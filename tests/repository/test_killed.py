"""kill -9 at random moments: what is left is the old build, the new one, or a mixture that `find` refuses."""

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

KILLS = 40


def test_a_killed_build_never_leaves_a_mixture_that_passes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.repository.builds", str(tmp_path / "models"), str(KILLS)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    *killed, last = json.loads(done.stdout)
    assert len(killed) == KILLS
    assert [left for left in killed if left != "whole" and "come from different builds" not in left] == []
    assert last == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
