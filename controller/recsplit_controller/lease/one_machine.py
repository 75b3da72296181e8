"""Two controllers never fight over one server: the one that holds its lease acts, any other is refused.

On one machine the lease is a file, locked by the kernel for as long as the controller lives, however it ends. It carries the server's
address in its name. Another user can't lock it, and is refused even when nobody holds it.
"""

import contextlib
import json
import os
import re
import socket
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from recsplit.disk import bounded
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.strict_json import parse

#: Not $TMPDIR: two shells of one machine may differ in it.
_FOLDER = Path("/tmp")
_LOCAL = {"localhost", "::1", "[::1]", "0.0.0.0", "[::]", ""}


class FileLease:
    """The lease of the server at `address` ("127.0.0.1:8001"); a context manager that takes it, and gives it back.

    `holder` says in words who holds it, for whoever is refused. Entering raises RecsplitError where another controller of this machine
    holds it, InputError where `folder` can't hold a lease.
    """

    def __init__(self, address: str, holder: str, folder: Path = _FOLDER) -> None:
        self.path = folder / f"recsplit-control-{_plain(address)}.lock"
        self._address = address
        self._holder = holder
        self._lock = FileLock(self.path, timeout=0, thread_local=False)

    def __enter__(self) -> "FileLease":
        self.take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.release()

    def take(self) -> None:
        """Take the lease, without waiting. Raises as the class says."""
        try:
            self._lock.acquire()
        except Timeout:
            raise RecsplitError(
                f"another controller acts on {self._address}: {self._told()}", hint=f"end it first; its lease is {self.path}"
            ) from None
        except OSError as error:
            raise InputError(
                f"{self.path} can't be locked: {error.strerror or error}", hint="another user's controller made it? let that user remove it"
            ) from error
        note = {"holder": self._holder, "pid": os.getpid()}
        # Who holds it is a courtesy; that it is held is the kernel's word. Anyone can make files in /tmp: a link there is not followed.
        with contextlib.suppress(OSError):
            path = os.open(self._note(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
            os.write(path, json.dumps(note).encode())
            os.close(path)

    def release(self) -> None:
        """Give the lease back. Safe to repeat."""
        if self._lock.is_locked:
            self._note().unlink(missing_ok=True)
            self._lock.release()

    def _note(self) -> Path:
        return self.path.with_suffix(".json")

    def _told(self) -> str:
        """Who holds it, as it said itself; anything may be in that file."""
        try:
            note = parse(bounded.read_text(self._note(), bounded.SETTINGS_BYTES, hint=""), origin="", again="")
            return f"{str(note['holder'])[:200]}, process {int(note['pid'])}"
        except (InputError, ValueError, KeyError, TypeError, OverflowError):
            return "it has not said who it is"


def _plain(address: str) -> str:
    """One name for one server, whichever of this machine's names it was given."""
    host, _, port = address.removeprefix("http://").removeprefix("grpc://").rpartition(":")
    if host in _LOCAL or host == socket.gethostname():
        host = "127.0.0.1"
    return re.sub(r"[^\w.-]", "_", f"{host}_{port}")
