"""What writing a file needs: it appears whole or not at all, it is forced to the disk, and a full disk is told with sizes in words."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from recsplit.errors import RecsplitError

#: OSError codes of a full disk and of a full quota.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears at `path` once it is complete, or not at all; a pipe or device is written to as it is."""
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    path = path.resolve()  # a link stays a link
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def flush(folder: Path) -> None:
    """Force a tree to the disk, so that a power cut after the move can't leave names without contents."""
    for path in folder.rglob("*"):
        flush_one(path)
    flush_one(folder)


def flush_one(path: Path) -> None:
    """Force one file, or the names in one folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_full(folder: Path, *, needed: int | None = None, free: int | None = None) -> RecsplitError:
    """The error for a full disk, or quota, under `folder`; sizes in bytes where they are known."""
    sizes = "" if needed is None or free is None else f": {size_text(needed)} needed, {size_text(free)} free"
    return RecsplitError(
        f"no space left in {folder}{sizes}",
        hint="free some space or choose another folder; a build needs room for the new version beside the old one",
    )


def size_text(size_bytes: float) -> str:
    """A size for people: 512 B, 1.5 MB, 10.2 GB (powers of 1000, as disks and Triton count)."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
