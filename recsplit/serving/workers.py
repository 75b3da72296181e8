"""What recsplit's engine in a server on this machine can be asked: its workers, which change at once, what it has read, and its routers.

Over the socket that the engine listens at in the server's private folder (backends/native/triton/control.h): who may enter that folder
may change it.
"""

import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsplit.errors import InputError, RecsplitError
from recsplit.partition.access.sampled import TableSample
from recsplit.plan.routing import Routing, from_json, to_json
from recsplit.plan.strict_json import parse

#: In a server's private folder.
CONTROL_SOCKET = "engine.sock"
#: It answers in a millisecond, from a thread of its own; a server that was stopped must not hold up a controller.
_PATIENCE_S = 1.5
_LONGEST = 1 << 20


@dataclass(frozen=True)
class Read:
    """What requests of `rows` rows together have read; one row in `stride` was sampled."""

    rows: int
    stride: int
    tables: tuple[TableSample, ...]


def workers(folder: Path) -> dict[str, int]:
    """Workers of each model that the engine has loaded. Raises RecsplitError where no engine answers."""
    return _ask(folder, {})


def set_workers(folder: Path, model: str, count: int) -> dict[str, int]:
    """Give a model so many workers, in all its versions; what all have then.

    Raises InputError where the engine has no such model or the count can't be, RecsplitError where no engine answers.
    """
    return _ask(folder, {"model": model, "workers": count})


def read(folder: Path, model: str, *, clear: bool = False) -> Read:
    """What requests to a model have read since it was loaded, or since the last time that `clear` was set.

    Raises InputError where the engine has no such model or doesn't do its lookups, RecsplitError where no engine answers.
    """
    with _connected(folder) as connection:
        said, rest = _answer(connection, {"access": model, "clear": clear}, "recsplit access DIR --trace FILE counts what clients sent")
        about = said["access"]
        sizes = [4 * table["sampled"] for table in about["tables"]]
        data = rest + _exactly(folder, connection, sum(sizes) - len(rest))
    ends = np.cumsum([0, *sizes])
    tables = tuple(
        TableSample(item["name"], item["rows"], item["ids"], item["read"], item["unknown"], np.frombuffer(data[first:last], np.uint32))
        for item, first, last in zip(about["tables"], ends[:-1], ends[1:], strict=True)
    )
    return Read(about["rows"], about["stride"], tables)


def route(folder: Path, model: str, routing: Routing | None = None) -> dict[str, Any]:
    """What a router has done since it was loaded, by variant and server; `routing`: other settings for it first, for queries from now on.

    Raises InputError where the engine has no such router or refuses the settings, RecsplitError where no engine answers.
    """
    question: dict[str, Any] = {"route": model}
    if routing is not None:
        question["settings"] = to_json(routing)
    with _connected(folder) as connection:
        said, _ = _answer(connection, question, "see the models that the server has: recsplit serve shows them")
    routed: dict[str, Any] = said["route"]
    return routed


def running_routing(folder: Path, model: str) -> Routing:
    """What a running router does now. Raises as `route` does."""
    return from_json(json.dumps(route(folder, model)["settings"]), origin=f"the running router {model!r}")


def _ask(folder: Path, question: dict[str, object]) -> dict[str, int]:
    with _connected(folder) as connection:
        said, _ = _answer(connection, question, "see the models that the server has: recsplit serve shows them")
    counts: dict[str, int] = said["workers"]
    return counts


@contextlib.contextmanager
def _connected(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE_S)
        try:
            connection.connect(str(folder / CONTROL_SOCKET))
            yield connection
        except TimeoutError as error:
            hint = "its process is stopped, or the machine is very busy: try again"
            raise RecsplitError(f"the engine in {folder} doesn't answer within {_PATIENCE_S:g} s", hint=hint) from error
        except OSError as error:
            hint = "is the server one of `recsplit serve`, and does it serve a build of --embedding-runtime native?"
            raise RecsplitError(f"no engine answers in {folder}: {error.strerror or error}", hint=hint) from error


def _answer(connection: socket.socket, question: dict[str, object], hint: str) -> tuple[dict[str, Any], bytes]:
    """The line that answers, read, and what came behind it. Raises InputError with `hint` where the engine refuses."""
    connection.sendall(json.dumps(question).encode() + b"\n")
    answer = b""
    while b"\n" not in answer and len(answer) < _LONGEST and (part := connection.recv(65536)):
        answer += part
    line, _, rest = answer.partition(b"\n")
    said = parse(line, origin="the engine's answer", again="report this as a fault")
    if "error" in said:
        raise InputError(f"the engine refuses: {said['error']}", hint=hint)
    return said, rest


def _exactly(folder: Path, connection: socket.socket, size: int) -> bytes:
    parts = []
    while size > 0:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            raise RecsplitError(f"the engine in {folder} ended in the middle of its answer", hint="ask again")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
