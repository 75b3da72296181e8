"""A command run to its end, with how long it took and how much memory it held."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recsplit.errors import RecsplitError


@dataclass(frozen=True)
class Peak:
    """A finished process: wall time, processor time of all its threads, largest resident memory as the kernel counts it
    (mapped pages of files too), and its private part."""

    seconds: float
    cpu_s: float
    resident_bytes: int
    anonymous_bytes: int


def recsplit(arguments: Sequence[str], folder: Path) -> Peak:
    """Run `recsplit ARGUMENTS` in a folder. Raises RecsplitError, with what it said, where it fails."""
    start = time.monotonic()
    command = [sys.executable, "-m", "recsplit", *arguments]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    anonymous = 0
    over = threading.Event()

    def poll() -> None:
        nonlocal anonymous
        while not over.wait(0.05):
            anonymous = max(anonymous, _status(process.pid, "RssAnon"))

    watcher = threading.Thread(target=poll)
    watcher.start()
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    over.set()
    watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RecsplitError(f"recsplit {' '.join(arguments[:3])} failed", hint="its own words are above", detail=said)
    return Peak(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, anonymous)


def _status(pid: int, key: str) -> int:
    """A number of bytes in /proc/PID/status; 0 where the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)
