"""Zip files that users give: what their directory says is checked before anything is unpacked, and no member gives more than it says.

A few kB can unpack to a TB. zipfile trusts the directory's length, and `ZipFile.read` unpacks a member whole before it looks at the size
that the directory gives it: members are read here by so many bytes at a time.
"""

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from recsplit.disk import bounded, npy
from recsplit.disk.files import size_text
from recsplit.errors import InputError

#: Of the directory of a zip: some ten thousands of members.
DIRECTORY_BYTES = 1 << 22
STORED = (zipfile.ZIP_STORED,)
#: What numpy writes. Other packings give whatever they hold at once.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

#: What a zip that is none, is damaged, is of a newer kind (NotImplementedError) or encrypted (RuntimeError) raises.
_BROKEN = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, KeyError, ValueError, OverflowError, struct.error, zlib.error)
_WORDS = 200


@contextlib.contextmanager
def opened(path: Path, complaint: str, *, packings: tuple[int, ...] = PACKED, hint: str) -> Iterator[zipfile.ZipFile]:
    """The zip at `path`, whose members are packed in one of these ways.

    Raises InputError, which says `complaint` ("is no access profile"), for anything else and for what is wrong with a member while it is
    read.
    """
    bounded.require_regular(path, hint=hint)
    try:
        with _Directory(path) as file, zipfile.ZipFile(file) as archive:
            file.most_bytes = None
            for member in archive.infolist():
                if member.compress_type not in packings:
                    raise zipfile.BadZipFile(f"{member.filename[:80]!r} is packed in another way than recsplit reads")
            yield archive
    except OSError as error:
        raise InputError(f"{path} can't be read: {bounded.reason(error)}", hint=hint) from error
    except _BROKEN as error:
        words = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        raise InputError(f"{path} {complaint}: {words[:_WORDS] or type(error).__name__}", hint=hint) from error


def read(archive: zipfile.ZipFile, name: str, most_bytes: int) -> bytes:
    """A whole member of at most `most_bytes`. Raises KeyError where there is none, zipfile.BadZipFile where it has more or is damaged."""
    member = archive.getinfo(name)
    if member.file_size > most_bytes:
        raise zipfile.BadZipFile(f"{name} has {size_text(member.file_size)}, and at most {size_text(most_bytes)} of it are read")
    with archive.open(member) as file:
        return file.read(member.file_size + 1)  # not without a number: see the module


def arrays(path: Path, complaint: str, most_bytes: int, *, names: tuple[str, ...] | None = None, hint: str) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz by name (all of them without `names`), of at most `most_bytes` together.

    Raises InputError as `opened` does, where one is absent, can't be read without unpickling, or where they unpack to more.
    """
    with opened(path, complaint, hint=hint) as archive:
        if names is None:
            names = tuple(name.removesuffix(".npy") for name in archive.namelist())
        members = {name: archive.getinfo(f"{name}.npy") for name in names}
        size = sum(member.file_size for member in members.values())
        if size > most_bytes:
            raise InputError(f"{path} unpacks to {size_text(size)}, and at most {size_text(most_bytes)} are read", hint=hint)
        arrays_by_name: dict[str, NDArray[Any]] = {}
        for name, member in members.items():
            try:
                with archive.open(member) as file:
                    arrays_by_name[name] = npy.array(file, member.file_size)
                    if file.read(1):  # at the end the checksum is compared
                        raise ValueError("it has more than its header promises")
            except ValueError as error:
                raise ValueError(f"{name[:80]!r} is no array: {error}") from error
        return arrays_by_name


class _Directory(io.BufferedReader):
    """A file of which no more than `most_bytes` are read at a time, while zipfile reads the directory by the length that it claims."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.most_bytes: int | None = DIRECTORY_BYTES

    def read(self, size: int | None = -1) -> bytes:
        """As a file's. Raises zipfile.BadZipFile where it would be too much."""
        if self.most_bytes is None:
            return super().read(size)
        data = super().read(self.most_bytes + 1 if size is None or size < 0 else min(size, self.most_bytes + 1))
        if len(data) > self.most_bytes:
            raise zipfile.BadZipFile(f"its directory has more than {size_text(self.most_bytes)}")
        return data
