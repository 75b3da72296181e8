"""The processes of one server, as the kernel tells of them: memory, processor time, and the cores they may use."""

import os
from collections.abc import Iterable
from pathlib import Path


def members(session: int) -> dict[int, list[str]]:
    """Process ids in a session (a server's own is its process id), with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == session:
                    found[int(entry.name)] = (entry / "cmdline").read_text(errors="replace").split("\0")
            except (ProcessLookupError, FileNotFoundError, PermissionError):
                continue
    return found


def pss_bytes(pid: int) -> int:
    """Proportional set size: private memory, and of each shared page the part that falls to this process. 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (ProcessLookupError, FileNotFoundError, PermissionError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def cpu_s(pids: Iterable[int]) -> float:
    """Processor time that the threads these processes have now used so far, in s, exact to the scheduler's clock."""
    total_ns = 0
    for pid in pids:
        for task in _tasks(pid):
            try:
                total_ns += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
            except (ProcessLookupError, FileNotFoundError):
                continue
    return total_ns / 1e9


def pin(pids: Iterable[int], cores: set[int]) -> None:
    """Let every thread of these processes run on `cores` only; threads that they start later inherit it."""
    for pid in pids:
        for task in _tasks(pid):
            try:
                os.sched_setaffinity(task, cores)
            except ProcessLookupError:
                continue


def _tasks(pid: int) -> list[int]:
    try:
        return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    except (ProcessLookupError, FileNotFoundError):
        return []
