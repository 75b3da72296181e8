"""How many workers recsplit's engine has in a server on this machine: asked and changed at once, while it serves.

Over the socket that the engine listens at in the server's private folder (recsplit/backends/native/control.h): who may enter that folder
may change it.
"""

import json
import socket
from pathlib import Path

from recsplit.errors import InputError, RecsplitError
from recsplit.plan.strict_json import parse

#: In a server's private folder.
CONTROL_SOCKET = "engine.sock"
#: It answers in a millisecond, from a thread of its own; a server that was stopped must not hold up a controller.
_PATIENCE_S = 1.5
_LONGEST = 1 << 20


def workers(folder: Path) -> dict[str, int]:
    """Workers of each model that the engine has loaded. Raises RecsplitError where no engine answers."""
    return _ask(folder, {})


def set_workers(folder: Path, model: str, count: int) -> dict[str, int]:
    """Give a model so many workers, in all its versions; what all have then.

    Raises InputError where the engine has no such model or the count can't be, RecsplitError where no engine answers.
    """
    return _ask(folder, {"model": model, "workers": count})


def _ask(folder: Path, question: dict[str, object]) -> dict[str, int]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE_S)
            connection.connect(str(folder / CONTROL_SOCKET))
            connection.sendall(json.dumps(question).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n") and len(answer) < _LONGEST and (part := connection.recv(65536)):
                answer += part
    except OSError as error:
        hint = "is the server one of `recsplit serve`, and does it serve a build of --embedding-runtime native?"
        raise RecsplitError(f"no engine answers in {folder}: {error.strerror or error}", hint=hint) from error
    said = parse(answer, origin="the engine's answer", again="report this as a fault")
    if "error" in said:
        raise InputError(f"the engine refuses: {said['error']}", hint="see the models that the server has: recsplit serve shows them")
    counts: dict[str, int] = said["workers"]
    return counts
