"""Bad requests beside good ones, on a real Triton that doesn't try requests alone."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny:dlrm", "bags:sum_offsets_weights"])
def test_no_good_request_fails_or_changes_beside_a_bad_one(model: str) -> None:
    """Under every policy for unknown ids, and in both forms of ragged bags."""
    command = [sys.executable, "-m", "recsplit_perf.benchmarks.neighbours", "--model", model]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout
    assert "good requests beside bad ones: 0 failed, 0 changed" in done.stdout
