"""What every test shares: the command line as a process, and how Hypothesis runs."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).parent.parent

# No deadline: a machine shared by a server and a compiler has slow moments that say nothing about the code.
# The same examples every time: a red run must be red again.
settings.register_profile("recsplit", deadline=None, derandomize=True)
settings.load_profile("recsplit")

# A shell without job control starts background jobs deaf to Ctrl-C, and so would be every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture
def run_recsplit() -> Run:
    """Run `recsplit ARGUMENTS...` as a process of its own, in `cwd` and with `env` added: returns exit code, stdout, stderr."""

    def run(*arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "recsplit", *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, env=os.environ | dict(env or {}), capture_output=True, text=True, timeout=280, check=False)

    return run
