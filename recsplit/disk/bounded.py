"""Files that users give, read within bounds: regular files only, and no more of one than a stated limit.

A device, a pipe or a folder is refused before anything is read of it: some have no end, and others wait for one who never comes.
No message holds words of a file: a path may lead to what isn't meant to be seen.
"""

import contextlib
import errno
import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from recsplit.disk.files import size_text
from recsplit.errors import InputError

#: Of a text that people write, such as settings, a workload or a template: some hundred times the longest.
SETTINGS_BYTES = 1 << 20
#: Of a text that recsplit writes for itself, such as a partition of thousands of tables.
RECORD_BYTES = 1 << 24

_BLOCK = 1 << 20
_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))


def require_regular(path: Path, *, hint: str) -> int:
    """The size in bytes of a file. Raises InputError where there is none, or where it is a folder, pipe, socket or device."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(f"{path} can't be read: {reason(error)}", hint=hint) from error
    if not stat.S_ISREG(status.st_mode):
        kind = next((text for holds, text in _KINDS if holds(status.st_mode)), "a device")
        raise InputError(f"{path} can't be read: it is {kind}, and no file", hint=hint)
    return status.st_size


def require_size(path: Path, most_bytes: int, *, hint: str) -> int:
    """The size in bytes of a file. Raises InputError as `require_regular` does, and for one of more than `most_bytes`."""
    size = require_regular(path, hint=hint)
    if size > most_bytes:
        raise too_large(path, size, most_bytes, hint=hint)
    return size


@contextlib.contextmanager
def regular(path: Path, *, hint: str) -> Iterator[BinaryIO]:
    """A file to read. Raises InputError as `require_regular` does, and in place of an OSError while it is read."""
    require_regular(path, hint=hint)
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path} can't be read: {reason(error)}", hint=hint) from error


def read_bytes(path: Path, most_bytes: int, *, hint: str) -> bytes:
    """A whole file. Raises InputError where it can't be read, isn't a regular one, or has more than `most_bytes`."""
    require_size(path, most_bytes, hint=hint)
    data = bytearray()
    with regular(path, hint=hint) as file:
        while block := file.read(_BLOCK):  # some files have more than their size says: those of /proc, and those that grow
            data += block
            if len(data) > most_bytes:
                raise too_large(path, len(data), most_bytes, hint=hint)
    return bytes(data)


def read_text(path: Path, most_bytes: int, *, hint: str) -> str:
    """A whole text, in UTF-8. Raises InputError as `read_bytes` does, and for what is no such text."""
    try:
        return read_bytes(path, most_bytes, hint=hint).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} can't be read: {reason(error)} (at byte {error.start})", hint=hint) from error


def digest(path: Path, *, hint: str) -> str:
    """The SHA-256 of a file, in hex; it may be larger than memory. Raises InputError as `regular` does."""
    sha256 = hashlib.sha256()
    with regular(path, hint=hint) as file:
        while block := file.read(_BLOCK):
            sha256.update(block)
    return sha256.hexdigest()


@contextlib.contextmanager
def text_file(path: Path, *, hint: str) -> Iterator[TextIO]:
    """A text to read a piece at a time, in UTF-8 and with its own line ends; one that ends in .gz is unpacked on the way.

    Raises InputError as `regular` does, and in place of all that is raised while it is unpacked and decoded.
    """
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(regular(path, hint=hint))
            if path.suffix == ".gz":
                file = stack.enter_context(gzip.GzipFile(fileobj=file))  # type: ignore[assignment]
            yield stack.enter_context(io.TextIOWrapper(file, encoding="utf-8", newline=""))
    except (UnicodeDecodeError, EOFError, zlib.error) as error:
        raise InputError(f"{path} can't be read: {reason(error)}", hint=hint) from error


def words(path: Path, most_bytes: int, longest: int, *, hint: str) -> Iterator[list[str]]:
    """The words of a text, what lies between blanks, some thousand at a time.

    Raises InputError as `text_file` does, for a text of more than `most_bytes` once it is unpacked, and for a word of more than `longest`.
    """
    with text_file(path, hint=hint) as file:
        read, begun = 0, ""
        while block := file.read(_BLOCK):
            read += len(block)
            if read > most_bytes:
                raise too_large(path, None, most_bytes, hint=hint)
            complete = (begun + block).split()
            begun = complete.pop() if complete and not block[-1].isspace() else ""
            if any(len(word) > longest for word in (begun, *complete)):
                raise InputError(f"{path} has a word of more than {longest} letters", hint=hint)
            yield complete
        yield [begun] if begun else []


def lines(path: Path, most_bytes: int, longest: int, *, hint: str) -> Iterator[str]:
    """The lines of a text, each with its end.

    Raises InputError as `text_file` does, for a text of more than `most_bytes` once it is unpacked, and for a line of more than `longest`.
    """
    with text_file(path, hint=hint) as file:
        read, number = 0, 0
        while line := file.readline(longest + 1):
            number += 1
            if len(line) > longest:
                raise InputError(f"{path}: line {number} is longer than {size_text(longest)}, the most that is read", hint=hint)
            read += len(line)
            if read > most_bytes:
                raise too_large(path, None, most_bytes, hint=hint)
            yield line


def too_large(path: Path, size_bytes: int | None, most_bytes: int, *, hint: str) -> InputError:
    """The error for a file over a limit; `size_bytes` is None where it isn't known, as of one that is being unpacked."""
    size = f"has {size_text(size_bytes)}" if size_bytes is not None else "has more than it should"
    return InputError(f"{path} {size}, and at most {size_text(most_bytes)} of such a file are read", hint=hint)


def reason(error: Exception) -> str:
    """Why a file can't be read, in words that hold none of its own."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no text in UTF-8"
    if isinstance(error, gzip.BadGzipFile | zlib.error | EOFError):
        return "it is no whole .gz file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return os.strerror(errno.ENOENT) if isinstance(error, ValueError) else type(error).__name__
