"""The guard: a small process that outlives its owner, and leaves nothing of a server behind.

Run as a script beside every server. Its standard input is a pipe from the owner: a line "PID SECONDS FOLDER", and then
nothing until it closes, because the server was stopped or because the owner was killed. Then the guard ends the server
if it still runs, and sweeps up. Standard library only, and quick to start.
"""

import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
#: Triton starts its stubs through a shell, which has the stub's arguments in its own.
TRITON = {"tritonserver", "triton_python_backend_stub", "bash", "sh"}
#: So often is looked again: what is killed may have started another a moment before.
LOOKS = 50


def sweep(folder: Path) -> None:
    """End Triton's processes that have the folder's name in their arguments, drop shared memory so named, remove the folder.

    The name is unique to one server: it is in the paths of its backends and the prefix of its shared memory. Triton ends
    its stubs and removes its regions itself when it ends well; after a kill -9 they stay.
    """
    for _ in range(LOOKS):
        if not _kill(folder.name):
            break
        time.sleep(0.01)
    for region in SHARED_MEMORY.glob(f"{folder.name}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _kill(name: str) -> bool:
    """Kill what is Triton's and has `name` in its arguments; whether there was anything."""
    killed = False
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text(errors="replace")
            if name in command and Path(command.partition("\0")[0]).name in TRITON:
                os.kill(int(process.name), signal.SIGKILL)
                killed = True
        except OSError:  # it ended meanwhile, or it is not ours
            continue
    return killed


def end(process: int, seconds: float) -> None:
    """Ask the process behind this pidfd to end, and kill it when it has not after `seconds`."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 10.0)):
        try:
            signal.pidfd_send_signal(process, number)
        except ProcessLookupError:
            return
        if select.select([process], [], [], patience)[0]:
            return


def main() -> None:
    """Wait for the owner's end, then see to the server's."""
    line = sys.stdin.readline().rstrip("\n")
    if not line:  # the owner was interrupted before it could tell, and sweeps up itself
        return
    pid, seconds, folder = line.split(" ", 2)
    try:
        process = os.pidfd_open(int(pid))
    except ProcessLookupError:
        process = None
    sys.stdin.read()
    if process is not None:
        end(process, float(seconds))
    sweep(Path(folder))


if __name__ == "__main__":
    main()
