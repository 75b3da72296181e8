"""Triton's log: where it is written, and what its end says about a failure."""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from recsplit.errors import InputError, RecsplitError

TAIL_LINES = 30
#: "failed to load 'shop_embedding' version 1: Internal: <reason>" in the server's log.
REFUSAL = re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.+)")


@dataclass(frozen=True)
class Log:
    """A log file; what was in it before `start` belongs to an earlier server."""

    path: Path
    start: int
    temporary: bool

    @classmethod
    def open(cls, path: Path | None) -> "Log":
        """The user's file, which is appended to, or a temporary one. Raises InputError where it can't be written."""
        if path is None:
            handle, name = tempfile.mkstemp(prefix="recsplit-serve-", suffix=".log")
            os.close(handle)
            return cls(Path(name), 0, temporary=True)
        try:
            with path.open("ab") as file:
                return cls(path.resolve(), file.tell(), temporary=False)
        except OSError as error:
            raise InputError(
                f"can't write the log {path}: {error.strerror}", hint="choose a file in a folder that you can write to"
            ) from error

    def text(self) -> str:
        """What this server has written."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read().decode(errors="replace")

    def failure(self, message: str, *, hint: str = "") -> RecsplitError:
        """The error that says `message` and shows the end of the log."""
        tail = "\n".join(self.text().splitlines()[-TAIL_LINES:])
        return RecsplitError(message, hint=f"{hint}{'; ' if hint else ''}the whole log is in {self.path}", detail=tail)

    def refusal(self) -> str | None:
        """Why Triton refused a model, in its own words; None where the log holds no refusal."""
        match = REFUSAL.search(self.text())
        return None if match is None else f"Triton did not load model '{match['model']}': {match['reason']}"

    def discard(self) -> None:
        """Remove the file, unless it is the user's."""
        if self.temporary:
            self.path.unlink(missing_ok=True)
