"""Memory of processes, as the kernel tells of it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from recsplit_perf.processes import kernel

SIZE = 64 << 20
HOLD = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
sum(pages[::4096])
print(flush=True)
input()
"""


@contextmanager
def mapping(path: Path, count: int) -> Iterator[list[int]]:
    """Processes that each have read the whole file through a mapping."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(count)
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield [process.pid for process in processes]
        for process in processes:
            process.communicate(b"\n")


def test_a_file_that_two_processes_map_counts_once_for_one_server_and_twice_for_two(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(b"\1" * SIZE)
    with mapping(path, 2) as pids:
        alone = [kernel.apart_bytes([pid]) for pid in pids]
        assert all(SIZE < size < 2 * SIZE for size in alone)
        assert SIZE < kernel.apart_bytes(pids) < 2 * SIZE
        assert SIZE < sum(map(kernel.pss_bytes, pids)) < 2 * SIZE


def test_a_process_that_has_ended_takes_nothing() -> None:
    assert kernel.apart_bytes([2**22 + 1]) == 0
