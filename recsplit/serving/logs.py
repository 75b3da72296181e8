"""Triton's log: where it is written, and what its end says about a failure."""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from recsplit.errors import InputError, RecsplitError

TAIL_LINES = 30
_DEAF_BYTES = 4096
#: What Triton writes when it gives up, the most telling first, and our sentence for each.
REASONS = (
    (r"(?P<reason>Too many open files)", "Triton can't start: {reason}; raise ulimit -n"),
    (
        r"Error parsing text-format inference.ModelConfig: (?P<reason>.+)\n.*Poll failed for model directory '(?P<model>[^']+)'",
        "config.pbtxt of model '{model}' can't be read: {reason}",
    ),
    (r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.+)", "Triton did not load model '{model}': {reason}"),
    (r"Poll failed for model directory '(?P<model>[^']+)': (?P<reason>.+)", "Triton did not load model '{model}': {reason}"),
    (r"failed to start \w+ service: (?P<reason>.+)", "Triton can't listen: {reason}"),
    (r"^error: (?P<reason>.+)", "Triton gave up: {reason}"),
)


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

    def begun(self) -> bool:
        """Whether Triton has logged a line, which it does after it has read its command line."""
        return re.search(r"^[IWEF]\d{4} ", self.text(), re.MULTILINE) is not None

    def failure(self, message: str, *, hint: str = "") -> RecsplitError:
        """The error that says `message` and shows the end of the log, without its wide tables of settings."""
        lines = [line for line in self.text().splitlines() if line and not line.startswith(("|", "+-"))]
        return RecsplitError(
            message, hint=f"{hint}{'; ' if hint else ''}the whole log is in {self.path}", detail="\n".join(lines[-TAIL_LINES:])
        )

    def reason(self) -> str | None:
        """Why Triton gave up, in its own words; None where the log doesn't say."""
        text = self.text()
        for pattern, sentence in REASONS:
            match = re.search(pattern, text, re.MULTILINE)
            if match is not None:
                # The Python backend adds the exception's class before and the traceback after, its newlines spelt out.
                reason = match["reason"].partition(r"\n\nAt:")[0].replace('\\"', '"').rstrip('" ')
                return sentence.format(**{**match.groupdict(), "reason": reason.replace("Internal: TritonModelException: ", "")})
        return None

    def deaf(self) -> bool:
        """Whether Triton says now that it can open no file more, to take a connection with: it says so again and again, and lives on."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self.start, size - _DEAF_BYTES))
            return b"accept() call: Too many open files" in file.read()

    def discard(self) -> None:
        """Remove the file, unless it is the user's."""
        if self.temporary:
            self.path.unlink(missing_ok=True)
