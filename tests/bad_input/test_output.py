"""Places where a build can't be written, and builds that are cut off: what was there stays byte for byte."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recsplit.cli import main
from recsplit.repository.find import find
from recsplit.repository.staging import staging
from tests.bad_input.conftest import Refused
from tests.bad_input.kinds import Kind, contents, nothing, read
from tests.bad_input.models import models
from tests.bad_input.models.models import Make

MOUNTS = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")


def place(name: str, error: str, hint: str, make: Make, *, out: str = "out", code: int = 2, model: str = "shop") -> Kind:
    """The kind of a bad place; `make` makes what lies at the path of -o."""
    return Kind(name, f"build shop.onnx -o {out} --name {model}", error, hint, code, lambda folder: make(folder / out))


def foreign(name: str) -> Make:
    def make(path: Path) -> None:
        (path / name).mkdir(parents=True)
        (path / name / "config.pbtxt").write_text(f'name: "{name}"\nbackend: "pytorch"\n')

    return make


def area_in_the_way(path: Path) -> None:
    path.with_name(f".{path.name}.recsplit").write_text("mine")


KINDS = [
    place("a file", "out is a file, and a model repository is a folder", "choose another folder", Path.touch),
    place("a dangling link", "nowhere/at doesn't exist", "mkdir -p", lambda path: path.symlink_to("nowhere/at/all")),
    place("a link to itself", "can't be followed: Symlink loop", "mend its links", lambda path: path.symlink_to(path)),
    place("a socket or device", "/dev/null is a file", "choose another folder", nothing, out="/dev/null"),
    place("parent missing", "doesn't exist", "mkdir -p ", nothing, out="no/such/folder"),
    place("parent is a file", "file is a file, and", "choose another folder", lambda path: path.parent.touch(), out="file/models"),
    place("name too long for the file system", "file name too long", "a shorter name", nothing, out="x" * 300, code=1),
    place("a file system of the kernel's", "/proc can't be written", "choose another folder", nothing, out="/proc/models"),
    place("a foreign model of that name", "out/shop exists, and recsplit didn't write it", "choose another --name", foreign("shop")),
    place("a foreign part of that name", "out/shop_dense exists, and recsplit didn't write it", "another --name", foreign("shop_dense")),
    place(
        "a part of another ensemble",
        "it is a part of another ensemble",
        "another --name",
        nothing,
        out="models",
        model="shop_dense",
    ),
    place("the staging area in the way", ".out.recsplit is in the way", "move it away", area_in_the_way),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_place_that_can_not_be_written_is_refused(kind: Kind, refused: Refused) -> None:
    refused(kind)


@contextlib.contextmanager
def mounted(path: Path, *arguments: str) -> Iterator[None]:
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", *arguments, str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


@MOUNTS
@pytest.mark.parametrize("size_kb", [4, 500, 800, 806, 830, 900])
def test_a_full_disk_is_named_and_nothing_is_left_on_it(size_kb: int, folder: Path, refused: Refused) -> None:
    """The tables take 801 kB: the disk is full before they are written, while they are, or while the configs or references are."""
    models.saved(users=np.ones((25_000, 8), np.float32))(folder / "large.onnx")
    with mounted(folder / "disk", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs"):
        refused(Kind("full", "build large.onnx -o disk --name shop", "no space left in ", "free some space", code=1))


@MOUNTS
def test_a_result_that_does_not_fit_on_the_disk_leaves_no_half(folder: Path, refused: Refused) -> None:
    with mounted(folder / "disk", "-t", "tmpfs", "-o", "size=16k", "tmpfs"):
        refused(Kind("full", "perf-data models -b 8 -n 5000 -o disk/data.json", "no space left on device", "free some space", code=1))


@MOUNTS
def test_a_full_temporary_disk_is_named(folder: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Path(tempfile.mkdtemp(dir="/tmp"))  # a short path: a server's private folder goes elsewhere than into a long one
    with mounted(disk, "-t", "tmpfs", "-o", "size=16k", "tmpfs"):
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        refused(Kind("full", "serve models", "no space left on device", "free some space", code=1))


@MOUNTS
def test_a_read_only_disk_is_named(folder: Path, refused: Refused) -> None:
    with mounted(folder / "disk", "-t", "tmpfs", "-o", "ro", "tmpfs"):
        refused(Kind("read-only", "build shop.onnx -o disk --name shop", "disk can't be written: its disk is read-only", "another disk"))


@MOUNTS
def test_a_read_only_repository_is_named(folder: Path, refused: Refused) -> None:
    with mounted(folder / "models", "--bind", "-o", "ro", str(folder / "models")):
        refused(
            Kind("read-only", "build shop.onnx -o models --name shop", "models can't be written: its disk is read-only", "another disk")
        )


def test_a_second_build_at_once_is_refused(folder: Path, refused: Refused) -> None:
    with staging(folder / "models", "other"):
        refused(Kind("at once", "build shop.onnx -o models --name shop", "another build is writing to", "wait until it has finished"))
    assert main(["build", "shop.onnx", "-o", "models", "--name", "shop"]) == 0


@contextlib.contextmanager
def half_way(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A build as a process that has written its tables and configs, and goes on."""
    command = [sys.executable, "-m", "recsplit", "build", "shop.onnx", "-o", "models", "--name", "shop"]
    heard = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    for number in heard:
        signal.signal(number, signal.SIG_DFL)  # tests may run under nohup, which children inherit
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for number, handler in heard.items():
        signal.signal(number, handler)
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("asking the source"):
                break
        assert list(folder.glob(".models.recsplit/models/shop_embedding/2/tables.bin"))
        yield process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_build_leaves_nothing(number: signal.Signals, folder: Path) -> None:
    before = contents(folder)
    with half_way(folder) as process:
        process.send_signal(number)
        said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said[1]
    assert contents(folder) == before


def test_a_killed_build_leaves_the_old_one_and_its_own_leftovers_go_with_the_next(folder: Path) -> None:
    before = contents(folder / "models")
    with half_way(folder) as process:
        process.kill()
        process.communicate(timeout=60)
    assert contents(folder / "models") == before
    assert find(folder / "models").plan.version == 1
    assert main(["build", "shop.onnx", "-o", "models", "--name", "shop"]) == 0
    assert find(folder / "models").plan.version == 2
    assert not list(folder.glob(".*"))


def run(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A shell command line, in which $RECSPLIT is ours."""
    environment = os.environ | {"RECSPLIT": f"{sys.executable} -m recsplit"}
    return subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize(
    ("command", "code", "error", "hint"),
    [
        ("$RECSPLIT inspect shop.onnx > /dev/full", 1, "no space left on device", "free some space"),
        ("ulimit -f 2; $RECSPLIT build shop.onnx -o new --name shop", 1, "tables.bin can't be written: File too large", "ulimit -f"),
        ("ulimit -n 30; $RECSPLIT serve models", 1, "Triton can't start: no more than 30 files may be open here", "ulimit -n 4096"),
        ("mkdir gone; cd gone; rmdir ../gone; $RECSPLIT build x.onnx", 2, "the working directory is gone", "cd to a folder that exists"),
    ],
)
def test_what_the_shell_does_not_give_is_named(command: str, code: int, error: str, hint: str, folder: Path) -> None:
    before = contents(folder)
    done = run(command, folder)
    answer = read(done.returncode, done.stderr)
    assert error in answer.error
    assert hint in answer.hint
    assert answer.code == code
    assert contents(folder) == before


def test_a_closed_stdout_is_no_error(folder: Path) -> None:
    done = run("$RECSPLIT inspect shop.onnx >&-", folder)
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, "loading shop.onnx")
