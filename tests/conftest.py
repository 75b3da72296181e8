"""What every test shares: the command line as a process, and how Hypothesis runs."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

from recsplit.cli import main
from tests.sooner import few_objects_are_gone_through, searches_are_short, torchs_operators_are_read_once

__all__ = ["few_objects_are_gone_through", "searches_are_short", "torchs_operators_are_read_once"]

REPOSITORY = Path(__file__).parent.parent

# No deadline: a machine shared by a server and a compiler has slow moments that say nothing about the code.
# The same examples every time: a red run must be red again.
settings.register_profile("recsplit", deadline=None, derandomize=True)
settings.load_profile("recsplit")

# A shell without job control starts background jobs deaf to Ctrl-C, and so would be every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def built(repository: Path, name: str) -> Path:
    """The tiny DLRM of the zoo, built by the command line in `repository`: inputs of one value a row, and a bag. For ONNX Runtime: what is
    tested with it are Triton's instances, and processes that die."""
    arguments = ["build", "recsplit.zoo.tiny:dlrm", "-o", str(repository), "--name", name, "--max-batch-size", "64"]
    arguments += ["--embedding-runtime", "onnxruntime"]
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    assert code == 0, said.getvalue()
    return repository


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the build `tiny`, which all tests share: copy it to change it."""
    return built(tmp_path_factory.mktemp("tiny") / "models", "tiny")


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture
def run_here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """As run_recsplit, in this process: for what a process of its own adds nothing to but the time of its start."""

    def run(*arguments: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        capfd.readouterr()
        with monkeypatch.context() as patch:
            if cwd is not None:
                patch.chdir(cwd)
            code = main(list(map(str, arguments)))
        return subprocess.CompletedProcess(["recsplit", *map(str, arguments)], code, *capfd.readouterr())

    return run


@pytest.fixture
def run_recsplit() -> Run:
    """Run `recsplit ARGUMENTS...` as a process of its own, in `cwd` and with `env` added: returns exit code, stdout, stderr."""

    def run(*arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "recsplit", *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, env=os.environ | dict(env or {}), capture_output=True, text=True, timeout=280, check=False)

    return run
