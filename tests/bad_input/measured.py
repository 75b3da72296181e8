"""Commands in a process of their own, each with what it said and how much memory it took: `python -m tests.bad_input.measured`.

Standard input holds a list of command lines as JSON; the first is run once before, so that what it imports isn't counted.
"""

import contextlib
import io
import json
import re
import resource
import sys
from pathlib import Path

from recsplit.cli import main

#: Beyond what the process has anyway: where a reader takes all there is, the machine shall not suffer.
_ROOM = 4 << 30


def _memory(name: str) -> int:
    """VmSize, VmRSS or VmHWM of this process, in bytes."""
    matched = re.search(rf"^{name}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert matched is not None
    return int(matched[1]) << 10


def _run(arguments: list[str]) -> dict[str, object]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _memory("VmRSS")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(arguments)
    return {"code": code, "stderr": said.getvalue(), "grown_bytes": _memory("VmHWM") - before}


def _all(command_lines: list[list[str]]) -> None:
    most = _memory("VmSize") + _ROOM
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    _run(command_lines[0])
    json.dump([_run(arguments) for arguments in command_lines], sys.stdout)


if __name__ == "__main__":
    _all(json.load(sys.stdin))
