"""Servers that the serving tests share, and what a server may leave behind: nothing."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recsplit.serving import Server, serve
from tests.serving import handmade

Leftovers = Callable[[], list[str]]


def leftovers(server: Server) -> list[str]:
    """Shared memory and folders with this server's name in theirs, and processes with it in their arguments."""
    name = server.running.folder.name
    leftover_paths = [str(path) for path in (*Path("/dev/shm").glob(f"{name}*"), server.running.folder) if path.exists()]
    return leftover_paths + [f"process {pid}" for pid in processes(name)]


def processes(name: str) -> list[int]:
    """Ids of the processes with `name` in their arguments; zombies have none."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) != os.getpid() and name.encode() in (process / "cmdline").read_bytes():
                pids.append(int(process.name))
        except OSError:
            continue
    return pids


def stubs(server: Server, model: str) -> set[int]:
    """Ids of the stub processes, one an instance, that serve `model`."""
    running = set()
    for pid in processes(server.running.folder.name):
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if "stub" in arguments[0] and f"/{model}/" in arguments[1]:
            running.add(pid)
    return running


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The handmade repository, served with a queue delay long enough that concurrent requests become one batch."""
    with serve(handmade.write(tmp_path_factory.mktemp("shop"), delay_us=30_000)) as server:
        yield server
