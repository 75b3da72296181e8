"""The guard: a small process that outlives its owner and leaves nothing of a server behind.

Run as a script beside every server (`python -I guard.py PID PREFIX FOLDER SECONDS`). Its standard input is a pipe from
the owner; when that closes, because the server was stopped or because the owner was killed, the guard ends the server if
it still runs and sweeps up. Standard library only, and quick to start.
"""

import os
import select
import shutil
import signal
import sys
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")


def sweep(prefix: str, folder: Path) -> None:
    """End processes that have `prefix` in their arguments, drop shared memory regions so named, and remove the folder.

    Triton removes its regions itself when it ends well; after a kill -9 they stay, and they are memory. `prefix` is
    unique to one server.
    """
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.name != str(os.getpid()) and prefix.encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:  # it ended meanwhile, or it is not ours
            continue
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def end(process: int, seconds: float) -> None:
    """Ask the process behind this pidfd to end, and kill it when it has not after `seconds`."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 10.0)):
        try:
            signal.pidfd_send_signal(process, number)
        except ProcessLookupError:
            return
        if select.select([process], [], [], patience)[0]:
            return


def main(arguments: list[str]) -> None:
    """Wait for the owner's end, then see to the server's."""
    pid, prefix, folder, seconds = int(arguments[0]), arguments[1], Path(arguments[2]), float(arguments[3])
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        process = None
    sys.stdin.buffer.read()  # until the owner closes it, or dies
    if process is not None:
        end(process, seconds)
    sweep(prefix, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
