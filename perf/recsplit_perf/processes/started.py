"""A recsplit command that keeps running (a server, the controller) as a process of its own, and the JSON line that says it is ready."""

import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recsplit.errors import RecsplitError

#: A command that is asked to end has so long for it.
END_S = 30.0


@dataclass(frozen=True)
class Started:
    """A running command: `said` is its first line of JSON; `errors` its standard error so far, and for good."""

    process: "subprocess.Popen[str]"
    errors: Path
    said: Mapping[str, Any] = field(default_factory=dict)

    def end(self) -> int:
        """SIGTERM, as `kill` and Kubernetes send it, and its exit status. Raises RecsplitError, with the process killed, where it stays."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RecsplitError(f"a command did not end within {END_S:g} s", hint="it was killed", detail=self.errors.read_text()) from None


@contextmanager
def started(arguments: Sequence[str], errors: Path, *, announces: bool = True, timeout_s: float = 120.0) -> Iterator[Started]:
    """Run `recsplit ARGUMENTS`, wait for its line of JSON (where it `announces` itself), and end it on the way out.

    `errors`: a new file for its standard error; where it doesn't announce itself, its standard output goes there too. Raises
    RecsplitError, with what it said, where it ends or stays silent for `timeout_s`.
    """
    command = [sys.executable, "-m", "recsplit", *arguments]
    with errors.open("x") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if announces else file, stderr=file, text=True)
    running = Started(process, errors)
    try:
        yield Started(process, errors, _line(running, arguments, timeout_s)) if announces else running
    finally:
        running.end()
        if process.stdout is not None:
            process.stdout.close()


def _line(running: Started, arguments: Sequence[str], timeout_s: float) -> dict[str, Any]:
    stdout = running.process.stdout
    assert stdout is not None
    deadline = time.monotonic() + timeout_s
    while not select.select([stdout], [], [], 0.1)[0]:
        if time.monotonic() > deadline:
            raise RecsplitError(
                f"recsplit {' '.join(arguments[:2])} was silent for {timeout_s:g} s",
                hint="its own words are above",
                detail=running.errors.read_text(),
            )
    line = stdout.readline()
    if not line:
        running.process.wait()
        raise RecsplitError(f"recsplit {' '.join(arguments[:2])} failed", hint="its own words are above", detail=running.errors.read_text())
    announcement: dict[str, Any] = json.loads(line)
    return announcement
