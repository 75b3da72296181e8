"""The processes of one server, as the kernel tells of them: memory, processor time, and the cores they may use."""

import os
from collections.abc import Iterable
from pathlib import Path


def members(group: int) -> dict[int, list[str]]:
    """Process ids in a process group (a server leads one of its own), with their command lines."""
    command_lines = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getpgid(int(entry.name)) == group:
                    command_lines[int(entry.name)] = (entry / "cmdline").read_text(errors="replace").split("\0")
            except (ProcessLookupError, FileNotFoundError, PermissionError):
                continue
    return command_lines


def pss_bytes(pid: int) -> int:
    """Proportional set size: private memory, and of each shared page the part that falls to this process. 0 where it has ended."""
    return next((int(line.split()[1]) * 1024 for line in _lines(f"/proc/{pid}/smaps_rollup") if line.startswith("Pss:")), 0)


def apart_bytes(pids: Iterable[int]) -> int:
    """Memory of these processes together as if no other shared their pages: anonymous pages by PSS, resident pages of a file once."""
    anonymous, files = 0, dict[str, int]()
    for pid in pids:
        file_bytes: dict[str, int] = {}
        file = ""
        for line in _lines(f"/proc/{pid}/smaps"):
            fields = line.split(maxsplit=5)
            if not fields[0].endswith(":"):  # "7f12-7f13 r--p 0000 00:00 17 /path": a mapping's first line
                file = fields[5] if len(fields) > 5 and fields[5].startswith("/") else ""
            elif fields[0] == "Rss:" and file:
                file_bytes[file] = file_bytes.get(file, 0) + int(fields[1]) * 1024
            elif fields[0] == "Pss:" and not file:
                anonymous += int(fields[1]) * 1024
        for name, size in file_bytes.items():
            files[name] = max(files.get(name, 0), size)
    return anonymous + sum(files.values())


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


def _lines(path: str) -> list[str]:
    """The lines of a process's file in /proc, none where it has ended."""
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except (ProcessLookupError, FileNotFoundError, PermissionError):
        return []
