"""The key that closes Triton's model control (load, unload, index; log and trace settings) to all who don't have it.

Who may load models may run code: a load call may carry files, a Python model among them.

Triton takes it on its command line, and from nowhere else; every user of a machine may read that in /proc/PID/cmdline. The command line
lies in the process's own memory, so it is overwritten there once Triton has read it.
"""

import contextlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit.serving.logs import Log

#: Name of the key. Over HTTP it is a header so named; over gRPC the prefix "triton-grpc-protocol-" stands before it.
NAME = "recsplit-control"
GRPC_HEADER = f"triton-grpc-protocol-{NAME}"
#: What loads models, and so runs code; and what writes to files that the caller names.
_APIS = "model-repository,logging,trace"
#: What passes through Triton's option and a header as it is.
_PLAIN = re.compile(r"[\w-]{16,256}", re.ASCII)
_HINT = "make one: (umask 077; openssl rand -hex 32 > FILE)"


def read_key(path: Path) -> str:
    """The key in a file, blanks around it left out. Raises InputError where there is none, or where others may read the file."""
    key = bounded.read_text(path, bounded.SETTINGS_BYTES, hint=_HINT).strip()
    others = path.stat().st_mode & 0o007
    if others:
        raise InputError(f"every user of this machine may use the control key {path}", hint=f"chmod o= {path}")
    if not _PLAIN.fullmatch(key):
        raise InputError(f"{path} holds no control key: 16 to 256 letters, digits, - and _ are one", hint=_HINT)
    return key


def new_key() -> str:
    """A key that nobody knows."""
    return secrets.token_hex(32)


def arguments(key: str | None) -> tuple[str, ...]:
    """What closes the APIs on tritonserver's command line, over both protocols; nothing without a key."""
    if key is None:
        return ()
    return tuple(f"--{option}={_APIS}:{NAME}={key}" for option in ("grpc-restricted-protocol", "http-restricted-api"))


def hide_once_read(pid: int, headers: Mapping[str, str], log: Log) -> None:
    """Hide the key among `headers` in the server's command line, if Triton has read that: it then logs. Nothing without a key."""
    if NAME in headers and log.begun():
        hide(pid, headers[NAME])


def hide(pid: int, key: str) -> None:
    """Overwrite the key in the command line of a process of ours, which has read it; nothing where the kernel doesn't let us
    (`man 5 proc`, /proc/PID/mem)."""
    process = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        # Where the arguments are: fields 48 and 49 of stat, counted behind the name, which may hold anything.
        first, last = (int(field) for field in (process / "stat").read_text().rpartition(")")[2].split()[45:47])
        with (process / "mem").open("r+b", buffering=0) as memory:
            memory.seek(first)
            for occurrence in re.finditer(re.escape(key.encode()), memory.read(last - first)):
                memory.seek(first + occurrence.start())
                memory.write(b"*" * len(key))


def shows(pid: int, key: str) -> bool:
    """Whether the key is in the command line of a process, where every user of the machine can read it."""
    try:
        return key.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
