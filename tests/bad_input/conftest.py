"""A folder with a good build in it, and the check that bad input leaves it as it was."""

import contextlib
import io
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from recsplit.cli import main
from tests.bad_input.kinds import Answer, Kind, contents, read
from tests.bad_input.models import models

Refused = Callable[[Kind], Answer]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with one good build, `shop`. Copy it."""
    folder = tmp_path_factory.mktemp("built")
    models.saved()(folder / "shop.onnx")
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = main(["build", str(folder / "shop.onnx"), "-o", str(folder / "models"), "--name", "shop", "--max-batch-size", "8"])
    assert code == 0, said.getvalue()
    return folder / "models"


@pytest.fixture
def folder(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a test: the good model `shop.onnx`, and its repository `models`."""
    shutil.copytree(built.parent, tmp_path / "here")
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # what Python keeps of a user's module is not ours to judge
    return tmp_path / "here"


@pytest.fixture
def refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Make the input, run the command, and check everything that is true of all kinds; what was said comes back."""

    def run(kind: Kind) -> Answer:
        kind.make(folder)
        before = contents(folder)
        capfd.readouterr()
        code = main(shlex.split(kind.arguments))
        stdout, stderr = capfd.readouterr()
        print(f"$ recsplit {kind.arguments}\n{stdout}{stderr}")  # noqa: T201 (pytest shows it where the test fails)
        answer = read(code, stderr)
        assert kind.error in answer.error
        assert kind.hint in answer.hint
        assert code == kind.code
        assert contents(folder) == before
        return answer

    return run
