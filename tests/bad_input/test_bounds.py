"""Every file that a user gives is read within bounds: what is no file, has no end, unpacks without one, or is nested is refused.

Each reader is given all of it in one process, which measures how much memory that takes.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from recsplit.capacity.profile import to_json
from tests.bad_input import abuse, kinds
from tests.bad_input.abuse import ANY, SECRET, TEXTS, Make, archives, zipped
from tests.capacity.profiles import small
from tests.conftest import REPOSITORY

MOST_GROWTH = 100_000_000
BURSTS = str(REPOSITORY / "perf/scenarios/half-hourly-bursts.txt")
WORKLOAD = str(REPOSITORY / "perf/scenarios/elasticrec.toml")
ABOUT = json.dumps({"model": "shop", "queries": 1, "rows": 1, "unknown": 0, "sources": [], "schema": 1}).encode()


def access(counts: bytes, size: int | None = None) -> dict[str, tuple[bytes, int]]:
    """Members of an access profile of `shop`, the first with these bytes."""
    other = abuse.header("(40,)", "<u4") + bytes(160)
    return {
        "about.json": (ABOUT, len(ABOUT)),
        "counts/users.npy": (counts, len(counts) if size is None else size),
        "counts/tag_rows.npy": (other, len(other)),
    }


COUNTS: dict[str, Make] = ANY | {
    "a bomb": zipped(access(abuse.header("(100,)", "<u4"), 4 * 10**9)),
    "about without an end": zipped({"about.json": (b"{", 4 * 10**9)}, packing=0),
    "about that unpacks": zipped({"about.json": (b" ", 10_000)}),
    "about of brackets": zipped({"about.json": (b"[" * 100_000, 100_000)}, packing=0),
    "counts that aren't there": zipped(access(abuse.header("(100,)", "<u4")), packing=0),
    "a header without an end": zipped(access(b"\x93NUMPY\2\0\xff\xff\xff\x7f", 4 * 10**9), packing=0),
    "a header of secrets": zipped(access(b"\x93NUMPY\1\0\x50\0" + SECRET.encode().ljust(80)), packing=0),
    "half a million members": abuse.many_members,
}


#: An empty file sets nothing, which is fine.
SETTINGS = {kind: make for kind, make in TEXTS.items() if kind != "nothing"}


@dataclass(frozen=True)
class Reader:
    """A command that reads the file FILE with this suffix; `beside` writes what else it reads, by the file's name."""

    id: str
    suffix: str
    arguments: str
    files: Mapping[str, Make]
    beside: Callable[[Path, str], object] = lambda folder, name: None

    def __str__(self) -> str:
        return self.id


def workload(text: str) -> Callable[[Path, str], object]:
    """A workload FILE.toml with these tables in place of others."""
    parts = {"sizes": 'law = "fixed"\nsize = 10', "arrivals": 'process = "poisson"\nrate = 10', "ids": 'law = "uniform"'}
    table, _, law = text.partition(" ")

    def write(folder: Path, name: str) -> None:
        tables = parts | {table: f'{law}\npath = "{name}"'}
        texts = "".join(f"[{key}]\n{value}\n" for key, value in tables.items())
        (folder / f"{name}.toml").write_text(f'name = "w"\n[latency]\nbound_ms = 20\n{texts}')

    return write


def placed(path: str) -> Callable[[Path, str], object]:
    """The file, as a link, at another path, in which FILE stands for its name."""

    def write(folder: Path, name: str) -> None:
        link = folder / path.replace("FILE", name)
        link.parent.mkdir(parents=True)
        link.symlink_to(folder / name)

    return write


def _closed(path: Path) -> None:
    if path.is_file():
        path.chmod(0o600)


def _event(path: Path) -> None:
    path.write_bytes(b'[{"a": "')
    with path.open("ab") as file:
        for _ in range(100):
            file.write(b"b" * 1_000_000)


def in_build(path: str) -> Callable[[Path, str], object]:
    """The file, as a link, in place of one in a build at FILE.d."""

    def write(folder: Path, name: str) -> None:
        build = folder / f"{name}.d"
        shutil.copytree(folder / "models", build, copy_function=os.symlink)
        (build / path).unlink()
        (build / path).symlink_to(folder / name)

    return write


SIMULATE = "simulate profile.json --workload FILE.toml"
LYING_GZ = TEXTS | {"a bomb": abuse.gz}
READERS = [
    Reader("plan", "json", "verify FILE.d", TEXTS, in_build("shop/1/plan.json")),
    Reader("config", "pbtxt", "verify FILE.d", SETTINGS, in_build("shop_dense/config.pbtxt")),
    Reader("references", "safetensors", "verify FILE.d", ANY, in_build("shop/1/references.safetensors")),
    Reader("control key", "txt", "serve models --control-key FILE", TEXTS, lambda folder, name: _closed(folder / name)),
    Reader("partition", "json", "partition models --access counts.npz --qps 1 --update FILE --was counts.npz", TEXTS),
    Reader("access profile", "npz", "partition models --access FILE --qps 1", COUNTS),
    Reader("access profile to add", "npz", "access models --merge FILE", COUNTS),
    Reader("profile", "json", f"simulate FILE --workload {WORKLOAD}", TEXTS),
    Reader("workload", "toml", "simulate profile.json --workload FILE", TEXTS),
    Reader("sizes", "txt", SIMULATE, TEXTS, workload('sizes law = "file"')),
    Reader("arrivals", "gz", SIMULATE, LYING_GZ, workload('arrivals process = "trace"')),
    Reader("ids, npz", "npz", SIMULATE, archives("ids.npy"), workload('ids law = "trace"')),
    Reader(
        "ids, npy",
        "npy",
        SIMULATE,
        ANY | {"a header alone": lambda path: path.write_bytes(abuse.header("(1000000000000,)"))},
        workload('ids law = "trace"'),
    ),
    Reader("trace, npz", "npz", "access models --trace FILE", archives("tags.npy", "user.npy")),
    Reader("trace, json", "json", "access models --trace FILE", TEXTS | {"an event without an end": _event}),
    Reader("trace, parquet", "parquet", "access models --trace FILE", ANY),
    Reader("run", "npz", "report models --run FILE -o report.html", archives("about.npy", "sent_s.npy", "late_ms.npy", "latency_ms.npy")),
    Reader("result, npz", "npz", "perf compare FILE FILE", archives("about.npy", "sent_s.npy", "latency_ms.npy", dtype="<U9")),
    Reader("result, json", "json", "perf compare FILE FILE", TEXTS),
    Reader("journal", "jsonl", "control --replay FILE", TEXTS),
    Reader("settings", "toml", "control models --metrics-url http://127.0.0.1:1/m --once --dry-run --settings FILE", SETTINGS),
    Reader("trace of rates", "txt", "forecast FILE", TEXTS),
    Reader("trace of rates, gz", "gz", "forecast FILE", LYING_GZ),
    Reader("trace of rates, csv", "csv", "forecast FILE --column x", TEXTS),
    Reader("forecaster", "safetensors", f"forecast {BURSTS} --forecaster lstm:FILE", ANY),
    Reader("values", "yaml", "render kubernetes models -o k8s-FILE", TEXTS, placed("k8s-FILE/values.yaml")),
    Reader("digests", "json", "render kubernetes models -o k8s-FILE", TEXTS, placed("k8s-FILE/.recsplit.json")),
    Reader("template", "j2", "build shop.onnx -o models --name shop --templates FILE.d", TEXTS, placed("FILE.d/dense.pbtxt.j2")),
    Reader("example", "npz", "build shop.onnx -o models --name shop --example FILE", archives("dense.npy", "user.npy", "tags.npy")),
    # protobuf takes a file whole, and a model may well have 1 GB
    Reader("model, onnx", "onnx", "inspect FILE", {kind: make for kind, make in ANY.items() if kind != "a line of 1 GB"}),
    Reader("model, pt2", "pt2", "inspect FILE", ANY | {"a bomb": zipped({"m/models/model.json": (b"[", 4 * 10**9)})}),
    Reader("weights", "safetensors", "inspect recsplit.zoo.ranker:clicks --weights FILE", ANY),
]


@pytest.fixture(scope="module")
def shop(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what readers need beside the file that is abused."""
    folder = tmp_path_factory.mktemp("bounds")
    for name in ("models", "shop.onnx"):
        (folder / name).symlink_to(built.parent / name)
    (folder / "profile.json").write_text(to_json(small()))
    counts = zipped(access(abuse.header("(100,)", "<u4") + bytes(400)), packing=0)
    counts(folder / "counts.npz")
    return folder


@pytest.mark.parametrize("reader", READERS, ids=str)
def test_no_file_is_too_much_for_its_reader(reader: Reader, shop: Path) -> None:
    folder = shop / reader.id
    folder.mkdir()
    for path in shop.iterdir():
        if path != folder:
            (folder / path.name).symlink_to(path)
    lines: dict[str, list[str]] = {}
    for number, (kind, make) in enumerate(reader.files.items()):
        name = f"file{number}.{reader.suffix}"
        make(folder / name)
        reader.beside(folder, name)
        lines[kind] = [word.replace("FILE", name) for word in reader.arguments.split()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bad_input.measured"],
        input=json.dumps(list(lines.values())),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), *sys.path))},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    problems = []
    for kind, answer in zip(lines, json.loads(done.stdout), strict=True):
        print(f"{kind}: {answer}")  # noqa: T201 (pytest shows it where the test fails)
        try:
            kinds.read(answer["code"], answer["stderr"])
        except AssertionError as error:
            problems.append(f"{kind}: {error}")
        if answer["code"] not in (1, 2):
            problems.append(f"{kind}: exit code {answer['code']}")
        if "S3CRET" in answer["stderr"] or len(answer["stderr"]) > 2000:
            problems.append(f"{kind}: too much is said: {answer['stderr'][:2000]}")
        if answer["grown_bytes"] > MOST_GROWTH:
            problems.append(f"{kind}: {answer['grown_bytes'] >> 20} MiB")
    assert not problems, "\n\n".join(problems)
