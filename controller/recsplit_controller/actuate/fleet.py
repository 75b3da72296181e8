"""Acts on a running `recsplit serve --fleet --most ...`: servers of its shards come and go.

The fleet process owns its servers, so it is asked, through two files of its control folder: `wanted.json` is ours, `state.json` its answer
(recsplit/serving/fleet/control.py is the other side). Fronts know the address of every server that may come, and probe those that are
not there, so that nothing is loaded again: docs/decisions/0013-a-fleet-scales-by-two-files.md.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit.plan.strict_json import read_json
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Target

_SCHEMA = 2
_WANTED, _STATE = "wanted.json", "state.json"


@dataclass(frozen=True)
class _Part:
    running: int
    kept: int
    most: int
    number: int
    error: str | None


@dataclass(frozen=True)
class _State:
    schema: int
    pid: int
    parts: Mapping[str, _Part]


@dataclass(frozen=True)
class _Request:
    action: Action
    number: int
    begun_s: float


class FleetActuator:
    """An Actuator for the shards of a fleet on this machine; a target's name is its part's ("0"). `folder`: what the fleet calls its
    control folder. A request without an answer for `timeout_s` is an error: the fleet may be gone.

    Raises InputError where there is no fleet, or a target is none of its shards.
    """

    def __init__(self, folder: Path, targets: Sequence[Target], *, timeout_s: float = 300.0) -> None:
        self._folder = folder
        self._names = tuple(target.name for target in targets if target.unit == "replica")
        self._timeout_s = timeout_s
        self._begun: dict[str, _Request] = {}
        known = _read(folder)
        for name in self._names:
            if name not in known:
                raise InputError(f"the fleet has no shard {name!r} that can be scaled", hint=f"it has {', '.join(known)}")

    def counts(self) -> dict[str, Count]:
        """Servers by target: those that are ready, and as many as the fleet keeps."""
        known = self._known()
        return {name: self._count(name, known[name]) if name in known else Count() for name in self._names}

    def _count(self, name: str, part: _Part) -> Count:
        begun = self._begun.get(name)
        return Count(part.running, part.kept if begun is None else begun.action.count)

    def begin(self, action: Action) -> None:
        """Ask the fleet. It heals a server that ended by itself without being asked, so a heal is the same count once more."""
        known = self._known()
        last = [known[action.target].number] if action.target in known else []
        last += [self._begun[action.target].number] if action.target in self._begun else []
        self._begun[action.target] = _Request(action, max(last, default=0) + 1, time.monotonic())
        asked = {name: {"count": request.action.count, "number": request.number} for name, request in self._begun.items()}
        new = self._folder / f"{_WANTED}.new"
        try:
            new.write_text(json.dumps({"schema": _SCHEMA, "parts": asked}), encoding="utf-8")
            new.replace(self._folder / _WANTED)
        except OSError:  # the fleet is gone: without an answer the request fails in time
            pass

    def outcomes(self) -> list[Outcome]:
        """The requests that the fleet answered since the last call, and those that it doesn't."""
        known, now_s, ended = self._known(), time.monotonic(), []
        for name, request in list(self._begun.items()):
            seconds = now_s - request.begun_s
            if name in known and known[name].number >= request.number:
                ended.append(Outcome(request.action, known[name].error, seconds))
            elif seconds > self._timeout_s:
                ended.append(Outcome(request.action, f"the fleet did not answer within {self._timeout_s:g} s", seconds))
            else:
                continue
            del self._begun[name]
        return ended

    def ill(self) -> dict[str, str]:
        """Nobody: the fleet starts a server that ended again by itself."""
        return {}

    def close(self) -> None:
        """Nothing is held."""

    def _known(self) -> Mapping[str, _Part]:
        try:
            return _read(self._folder)
        except InputError:
            return {}


def room(folder: Path) -> dict[str, int]:
    """The most servers that each shard of the fleet with this control folder may have. Raises InputError where there is none."""
    return {name: part.most for name, part in _read(folder).items()}


def _read(folder: Path) -> Mapping[str, _Part]:
    """What the fleet says of its parts. Raises InputError where it says nothing."""
    path = folder / _STATE
    again = "start the fleet with recsplit serve DIR --fleet --most 0=4, which shows its control folder"
    if not path.exists():
        raise InputError(f"no fleet answers in {folder}", hint=again)
    text = bounded.read_text(path, bounded.RECORD_BYTES, hint=again)
    state = read_json(_State, text, schema=_SCHEMA, origin=str(path), again=again)
    if not Path(f"/proc/{state.pid}").exists():  # killed, and its folder with it left behind
        raise InputError(f"the fleet of {folder} has ended", hint=again)
    return state.parts
