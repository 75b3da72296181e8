"""Copying tensors into one file of ONNX external data, page-aligned, without holding them in memory.

A table that lies in a file goes from file to file inside the kernel: a 10 GB model is written with a few megabytes
of memory. Several tables of one width may be laid out as one (fused): the rows of the first, of the second, and so
on, then rows of zeros.
"""

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir

from recsplit.disk import FULL, disk_full
from recsplit.errors import InputError, RecsplitError

# Page-aligned, so that every session of every process maps a table as it lies on the disk, and shares it.
PAGE = 4096
_CHUNK = 32 << 20

#: Called with (bytes done, bytes in all) every few megabytes, and at the end.
Progress = Callable[[int, int], None]
Advance = Callable[[int], None]

# Answers of kernels and file systems that can't copy between these two files: then the bytes come through us.
_NOT_IN_KERNEL = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY}


@dataclass(frozen=True)
class Entry:
    """One initializer to be: `sources` one after the other along the first dimension, then `zero_rows` rows of zeros.

    With more than one source, or zero rows, all sources are [rows, dim] of one dim and dtype.
    """

    name: str
    sources: tuple[onnx_ir.TensorProtocol, ...]
    zero_rows: int = 0

    @property
    def dtype(self) -> onnx_ir.DataType:
        """The element type of all sources."""
        return self.sources[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole."""
        first = tuple(self.sources[0].shape.numpy())
        if len(self.sources) == 1 and not self.zero_rows:
            return first
        return (sum(source.shape.numpy()[0] for source in self.sources) + self.zero_rows, *first[1:])

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        return sum(source.nbytes for source in self.sources) + self.zero_bytes

    @property
    def zero_bytes(self) -> int:
        """Bytes of the rows of zeros at the end."""
        return self.zero_rows * (self.sources[0].shape.numpy()[1] if self.zero_rows else 0) * int(self.dtype.itemsize)


def write_external(entries: Sequence[Entry], path: Path, *, progress: Progress | None = None) -> list[onnx_ir.ExternalTensor]:
    """Write `entries` into the new file `path`, each at a page boundary; returns them as tensors that lie there.

    The tensors' location is the file's bare name, as a model saved in the same folder needs it. Memory in use stays
    below two chunks (64 MB), plus the one tensor at hand where a source is neither in a file nor an array. The data
    is not forced to the disk; publishing does that.

    Raises RecsplitError where the disk is (or runs) full or can't be written, InputError where sources of one entry
    don't fit together or a source's file is missing or ends too early; no file is left then.
    """
    for entry in entries:
        _refuse_misfits(entry)
    offsets, end = [], 0
    for entry in entries:
        offsets.append(-(-end // PAGE) * PAGE)
        end = offsets[-1] + entry.size_bytes
    free = shutil.disk_usage(path.parent).free
    if end > free:
        raise disk_full(path.parent, needed=end, free=free)
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    total = sum(entry.size_bytes for entry in entries)
    try:
        with path.open("xb", buffering=0) as file:
            for entry, offset in zip(entries, offsets, strict=True):
                file.seek(offset)
                for source in entry.sources:
                    _copy(source, file, advance)
                _zeros(file, entry.zero_bytes, advance)
            file.truncate(end)  # an entry of no bytes at the end leaves its page boundary unwritten
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise disk_full(path.parent, needed=end, free=shutil.disk_usage(path.parent).free) from error
        if isinstance(error, OSError):
            raise RecsplitError(f"{path} can't be written: {error.strerror}", hint="look at the disk, and at ulimit -f") from error
        raise
    return [
        onnx_ir.ExternalTensor(
            path.name,
            offset,
            entry.size_bytes,
            entry.dtype,
            shape=onnx_ir.Shape(entry.shape),
            name=entry.name,
            base_dir=path.parent,
        )
        for entry, offset in zip(entries, offsets, strict=True)
    ]


def _refuse_misfits(entry: Entry) -> None:
    if len(entry.sources) == 1 and not entry.zero_rows:
        return
    kinds = {(source.dtype.name, tuple(source.shape.numpy()[1:]), len(source.shape)) for source in entry.sources}
    if len(kinds) != 1 or len(entry.sources[0].shape) != 2:
        raise InputError(f"the tables of {entry.name!r} can't be laid out as one: {sorted(map(str, kinds))}", hint="report this as a fault")


def _copy(source: onnx_ir.TensorProtocol, file: BinaryIO, advance: Advance) -> None:
    """Append `source` to `file`: from its own file, or from an array a chunk at a time."""
    if isinstance(source, onnx_ir.ExternalTensor):
        with _open(source) as origin:
            if not _copy_range(origin, source.offset or 0, source.nbytes, file, advance):
                raise InputError(
                    f"{source.path} ends before tensor {source.name!r} does ({source.nbytes} bytes from {source.offset or 0})",
                    hint="copy or save the model's data again: the file was cut short",
                )
    elif source.dtype.bitwidth < 8:
        _write(file, source.tobytes(), advance)  # several elements a byte: only onnx_ir knows how
    else:
        array = np.atleast_1d(source.numpy())
        rows = max(1, _CHUNK // max(1, array[:1].nbytes))
        for first in range(0, len(array), rows):
            # Contiguous already, as a rule; else one chunk at a time is made so.
            _write(file, np.ascontiguousarray(array[first : first + rows]).reshape(-1).view(np.uint8).data, advance)


def _open(source: onnx_ir.ExternalTensor) -> BinaryIO:
    try:
        return Path(source.path).open("rb", buffering=0)
    except OSError as error:
        raise InputError(
            f"the data of tensor {source.name!r} can't be read from {source.path}: {error.strerror}",
            hint="the model's data files belong beside the model",
        ) from error


def _copy_range(origin: BinaryIO, offset: int, size: int, file: BinaryIO, advance: Advance) -> bool:
    """Copy `size` bytes to the end of `file`, inside the kernel where the two file systems allow it; False where origin ends early."""
    origin.seek(offset)
    in_kernel = True
    while size:
        if in_kernel:
            try:
                copied = os.copy_file_range(origin.fileno(), file.fileno(), min(size, _CHUNK))
            except OSError as error:
                if error.errno not in _NOT_IN_KERNEL:
                    raise
                in_kernel = False
                continue
            advance(copied)
        else:
            copied = _write(file, origin.read(min(size, _CHUNK)), advance)
        if not copied:
            return False
        size -= copied
    return True


def _zeros(file: BinaryIO, size: int, advance: Advance) -> None:
    block = bytes(min(size, _CHUNK))
    while size:
        size -= _write(file, block[:size], advance)


def _write(file: BinaryIO, data: bytes | memoryview, advance: Advance) -> int:
    """Write all of `data`; a raw file may take it in pieces. Returns its length."""
    view = memoryview(data)
    while view:
        written = file.write(view)
        advance(written)
        view = view[written:]
    return len(data)
