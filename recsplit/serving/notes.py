"""A note of each server that recsplit started, for recsplit's own commands: where it is, what it serves, the key to its model control.

The note lies in the server's private folder, which its owner alone may open, and goes with it.
"""

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recsplit.disk import bounded
from recsplit.disk.files import whole_file
from recsplit.errors import InputError
from recsplit.plan.strict_json import read_json

SCHEMA = 1
_FILE = "server.json"
#: How the private folders of servers begin.
PREFIX = "recsplit-serve-"
#: A note is some hundred bytes; more is none of ours.
_MOST_BYTES = 65536


@dataclass(frozen=True)
class Note:
    """A running server. `key` None: its model control is open. `prometheus_url`: of the Prometheus that runs beside it, if one does."""

    pid: int
    repository: str
    http_url: str
    grpc_url: str
    metrics_url: str
    key: str | None = dataclasses.field(repr=False)
    prometheus_url: str | None = None
    schema: int = SCHEMA


def write(folder: Path, note: Note) -> None:
    """Leave a note in a server's private folder, or another in its place."""
    with whole_file(folder / _FILE) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(json.dumps(dataclasses.asdict(note)).encode())


def add_prometheus(folder: Path, url: str) -> None:
    """Tell in a server's note of the Prometheus beside it."""
    note = _read(folder / _FILE)
    if note is not None:
        write(folder, dataclasses.replace(note, prometheus_url=url))


def only(repository: Path) -> Note:
    """The note of the one server that serves this folder. Raises InputError where there is none, or several."""
    return one_of(serving(repository), repository)


def one_of(there: Sequence[Note], repository: Path, hint: str = "say which one with --grpc-url") -> Note:
    """The one note of several that is there; InputError otherwise, with `hint` where there are several."""
    if not there:
        raise InputError(
            f"no server of yours on this machine serves {repository}",
            hint=f"recsplit serve {repository} starts one; another one is named by --grpc-url HOST:PORT",
        )
    if len(there) > 1:
        listing = ", ".join(note.grpc_url for note in there)
        raise InputError(f"{len(there)} servers of yours serve {repository}: {listing}", hint=hint)
    return there[0]


def running() -> tuple[Note, ...]:
    """The notes of this user's servers on this machine that run now."""
    return tuple(note for _, note in _all())


def serving(repository: Path) -> tuple[Note, ...]:
    """The notes of the servers that serve this folder."""
    return tuple(note for note in running() if note.repository == str(repository.resolve()))


def at(grpc_url: str) -> Note | None:
    """The note of the server at this gRPC address; None where it is none of ours."""
    return next((note for note in running() if _is_at(note, grpc_url)), None)


def folder_of(grpc_url: str) -> Path | None:
    """The private folder of the server at this gRPC address; None where it is none of ours."""
    return next((folder for folder, note in _all() if _is_at(note, grpc_url)), None)


def own_folder(grpc_url: str) -> Path:
    """The private folder of the server at this gRPC address. Raises InputError where it is none of ours."""
    folder = folder_of(grpc_url)
    if folder is None:
        hint = "recsplit serve DIR says its address; leave --grpc-url out"
        raise InputError(f"no server of yours on this machine is at {grpc_url}", hint=hint)
    return folder


def key_of(grpc_url: str) -> str | None:
    """The key to the model control of the server at this gRPC address; None where it is none of ours, or open."""
    note = at(grpc_url)
    return None if note is None else note.key


def _is_at(note: Note, grpc_url: str) -> bool:
    host, _, port = grpc_url.rpartition(":")
    hosts = ("127.0.0.1", "[::1]") if host == "localhost" else (host,)
    return any(note.grpc_url == f"{one}:{port}" for one in hosts)


def _all() -> Iterator[tuple[Path, Note]]:
    for base in sorted({Path(tempfile.gettempdir()), Path("/tmp")}):
        for path in sorted(base.glob(f"{PREFIX}*/{_FILE}")):
            note = _read(path)
            if note is not None:
                yield path.parent, note


def _read(path: Path) -> Note | None:
    """None where it isn't this user's own, can't be read, or its server has ended."""
    try:
        if path.parent.stat().st_uid != os.geteuid():
            return None
        note = read_json(
            Note, bounded.read_text(path, _MOST_BYTES, hint=""), schema=SCHEMA, origin=str(path), again="start the server again"
        )
        command = Path(f"/proc/{note.pid}/cmdline").read_bytes()
    except (OSError, InputError):
        return None
    return note if path.parent.name.encode() in command else None
