"""Two files through which a controller on the same machine asks a running fleet for another number of servers.

`wanted.json` is the controller's: for a part of the fleet, how many servers, and the number of the request, which only rises.
`state.json` is the fleet's: what runs, and how the last request ended. Each is written anew and moved into its place, so that it is
never read in part. The folder is the user's alone: who can write there may start and stop servers.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recsplit.disk import bounded
from recsplit.disk.files import whole_file
from recsplit.errors import InputError
from recsplit.plan.strict_json import read_json

SCHEMA = 2
WANTED, STATE = "wanted.json", "state.json"


@dataclass(frozen=True)
class ScaleRequest:
    """So many servers of a part; `number` tells requests apart."""

    count: int
    number: int


@dataclass(frozen=True)
class ScaleRequests:
    """The controller's file."""

    schema: int
    parts: Mapping[str, ScaleRequest]


@dataclass(frozen=True)
class PartState:
    """Servers of a part that are ready, those that shall be (one that ended by itself and is started again among them), the most that
    can be, the last request that was dealt with (0: none), and what went wrong."""

    running: int
    kept: int
    most: int
    number: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Requests:
    """The fleet's side, in `folder`."""

    folder: Path
    done: dict[str, PartState] = field(default_factory=dict)

    def new(self) -> dict[str, ScaleRequest]:
        """What was asked for and not dealt with yet, by part. A file that can't be read as such is ignored, without an answer."""
        try:
            text = bounded.read_text(self.folder / WANTED, bounded.RECORD_BYTES, hint="")
            requests = read_json(ScaleRequests, text, schema=SCHEMA, origin=WANTED, again="ask again")
        except InputError:
            return {}
        return {part: asked for part, asked in requests.parts.items() if part in self.done and asked.number > self.done[part].number}

    def tell(self, part: str, state: PartState) -> None:
        """How things stand with a part; written where that is news."""
        if self.done.get(part) == state:
            return
        self.done[part] = state
        text = json.dumps(
            {"schema": SCHEMA, "pid": os.getpid(), "parts": {name: dataclasses.asdict(known) for name, known in self.done.items()}}
        )
        with whole_file(self.folder / STATE) as file:
            file.write(text.encode())
