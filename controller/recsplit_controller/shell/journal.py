"""The journal: every tick as a line of JSON, so that each decision can be explained and made again.

A file is a sequence of sessions, one for each start of a controller. A session's first line holds the schema, settings, targets and
what it began with; a line for each tick follows. A line that was torn by a crash or a full disk is dropped.
"""

import base64
import contextlib
import json
import math
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit.plan.strict_json import parse, read, shown
from recsplit_controller.core.memory import Memory
from recsplit_controller.core.reconcile import State
from recsplit_controller.shell.earlier import EARLIER
from recsplit_controller.values.settings import Settings, Target
from recsplit_controller.values.tick import Tick

SCHEMA = 5
#: The first whose rates are packed.
_PACKED = 3
#: Of a journal that is read; one begins a new file at a quarter of that.
MOST_BYTES = 1 << 30
#: Of one line: a tick of thousands of targets.
LINE_BYTES = 1 << 24
_BEGINNING = b'{"schema":'
_AGAIN = "a journal is read by the version of recsplit that wrote it, and by later ones"
_GIVE = "give the file that `recsplit control --journal` wrote"


@dataclass(frozen=True)
class Header:
    """How a session began. `forecaster`: the digest of its weights, "" where it has none."""

    schema: int
    settings: Settings
    forecaster: str
    targets: tuple[Target, ...]
    memory: Memory
    state: State


@dataclass(frozen=True)
class Session:
    """What one controller saw, decided and did, from its start on. `forecaster`: the digest of its weights, "" where it has none."""

    settings: Settings
    forecaster: str
    targets: tuple[Target, ...]
    memory: Memory
    state: State
    records: tuple[Tick, ...]


class Journal:
    """Appends to `path`; beyond `most_bytes` the file becomes PATH.1 (an older one of that name goes) and a new one is begun.

    Every line is in the file when `write` returns. Raises InputError where `path` can't be written.
    """

    def __init__(
        self, path: Path, settings: Settings, targets: Sequence[Target], *, forecaster: str = "", most_bytes: int = 256 << 20
    ) -> None:
        self._path, self._settings, self._targets, self._most_bytes = path, settings, tuple(targets), most_bytes
        self._forecaster = forecaster
        self._headed = False
        self._header_bytes = 0  # of this session's: one larger than a whole file would turn it over at every tick
        try:
            _refuse_other(path)
            self._file = path.open("r+b" if path.exists() else "x+b", buffering=0)
            self._size = _whole(self._file.fileno())
        except OSError as error:
            raise InputError(f"the journal {path} can't be written: {error.strerror}", hint="choose another file") from error

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def write(self, record: Tick, memory: Memory, state: State) -> None:
        """Append a tick; `memory` and `state` are what it began with. Raises OSError where it can't be written; then nothing of it is."""
        if self._size - self._header_bytes >= self._most_bytes:
            self._turn()
        if not self._headed:
            before = self._size
            self._append(Header(SCHEMA, self._settings, self._forecaster, self._targets, memory, state))
            self._headed, self._header_bytes = True, self._size - before
        try:
            self._append(record)
        except OSError:
            # The next session tells what was remembered: without this record, a replay would go astray from here.
            self._headed = False
            raise

    def part(self) -> None:
        """Begin a new session with the next tick, since it doesn't go on from what the last one remembered."""
        self._headed = False

    def close(self) -> None:
        """Close the file. Safe to repeat."""
        self._file.close()

    def _append(self, value: Header | Tick) -> None:
        line = to_line(value).encode()
        try:
            self._file.seek(self._size)
            written = 0
            while written < len(line):
                written += self._file.write(line[written:]) or 0
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise
        self._size += len(line)

    def _turn(self) -> None:
        """Begin a new file beside the old one."""
        old = self._path.with_name(self._path.name + ".1")
        self._path.replace(old)
        file = self._path.open("x+b", buffering=0)
        self._file.close()
        self._file, self._size, self._headed = file, 0, False


def to_line(value: Header | Tick) -> str:
    """A line of the journal, with its end. Raises ValueError for NaN and infinities, which JSON doesn't have."""
    plain = vars(value) | {"memory": _packed(value.memory)} if isinstance(value, Header) else value
    return json.dumps(plain, default=vars, allow_nan=False, separators=(",", ":")) + "\n"


def _packed(memory: Memory) -> dict[str, Any]:
    """With each model's week of rates as float64 in base64: as numbers in text, those of 200 models took four seconds of a tick."""
    rates = {model: vars(each) | {"maxima": _text(each.maxima)} for model, each in memory.rates.items()}
    return vars(memory) | {"rates": rates}


def _text(rates: Sequence[float]) -> str:
    return base64.b64encode(array("d", rates).tobytes()).decode()


def _numbers(text: str) -> list[float]:
    """Raises ValueError where the text is none of `_text`."""
    rates = array("d")
    rates.frombytes(base64.b64decode(text, validate=True))
    if not all(map(math.isfinite, rates)):
        raise ValueError("a rate that is no number")
    return rates.tolist()


def sessions(path: Path) -> tuple[Session, ...]:
    """All sessions of a journal, oldest first. Raises InputError where it can't be read, or isn't one of this schema or an earlier one."""
    headed: list[tuple[Header, list[Tick]]] = []
    schema = SCHEMA
    bounded.require_size(path, MOST_BYTES, hint=_GIVE)
    for number, line in enumerate(bounded.lines(path, MOST_BYTES, LINE_BYTES, hint=_GIVE), 1):
        if not line.endswith("\n"):
            break
        where = f"{path}, line {number}"
        value = parse(line, origin=where, again=_GIVE)
        if not isinstance(value, dict):
            raise InputError(f"{where}: expected an object", hint=_GIVE)
        if "schema" in value:
            headed.append((_header(value, where), []))
            schema = value["schema"]
        elif not headed:
            raise InputError(f"{where}: a journal begins with its settings", hint=_GIVE)
        else:
            headed[-1][1].append(read(Tick, _of_now(value, schema, 1, where), where, _AGAIN))
    return tuple(
        Session(header.settings, header.forecaster, header.targets, header.memory, header.state, tuple(records))
        for header, records in headed
    )


def latest(path: Path) -> Session:
    """The last session that has a tick. Raises InputError where there is none, or as `sessions` does."""
    ended = [session for session in sessions(path) if session.records]
    if not ended:
        raise InputError(f"the journal {path} has no tick", hint="the controller writes a line a tick: let it run for longer")
    return ended[-1]


def _header(value: dict[str, Any], where: str) -> Header:
    schema = value["schema"]
    if schema != SCHEMA and not (isinstance(schema, int) and schema in EARLIER):
        raise InputError(f"{where} has schema {shown(schema)}, and this recsplit reads schema {SCHEMA} and earlier", hint=_AGAIN)
    header = read(Header, _of_now(value, schema, 0, where), where, _AGAIN)
    assert isinstance(header, Header)
    return header


def _of_now(value: dict[str, Any], schema: int, place: int, where: str) -> dict[str, Any]:
    """A header (0) or a tick (1) of an earlier schema as one of this."""
    try:
        if schema >= _PACKED and place == 0:
            value = value | {"memory": _unpacked(value["memory"])}
        for earlier in range(schema, SCHEMA):
            value = EARLIER[earlier][place](value)
        return value
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{where}: this is no line of a journal of schema {schema}", hint=_GIVE) from error


def _unpacked(memory: dict[str, Any]) -> dict[str, Any]:
    return memory | {"rates": {model: each | {"maxima": _numbers(each["maxima"])} for model, each in memory["rates"].items()}}


def _refuse_other(path: Path) -> None:
    """Raise InputError for a file that doesn't begin as a journal does: its end would be cut off, for a line that was torn."""
    if path.is_file():
        with path.open("rb") as file:
            begun = file.read(len(_BEGINNING))
        if not _BEGINNING.startswith(begun):
            raise InputError(f"{path} is there already, and is no journal", hint="choose a new file")


def _whole(descriptor: int) -> int:
    """The size in bytes of the file's whole lines; a torn one after them is cut off."""
    end = os.fstat(descriptor).st_size
    place = end
    while place > 0:
        start = max(0, place - 65536)
        newline = os.pread(descriptor, place - start, start).rfind(b"\n")
        if newline >= 0:
            place = start + newline + 1
            break
        place = start
    if place != end:
        os.ftruncate(descriptor, place)
    return place
