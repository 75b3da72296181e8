"""Copying tensors into one file of ONNX external data, page-aligned, without holding them in memory.

A table that lies in a file goes from file to file through two buffers: a 10 GB model is written with a few megabytes of
memory. Several tables of one width may be laid out as one (fused): the rows of the first, of the second, and so
on, then rows of zeros.
"""

import errno
import fcntl
import mmap
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir

from recsplit.disk.files import FULL, disk_full
from recsplit.errors import InputError, RecsplitError
from recsplit.parallel import in_threads
from recsplit.plan.files import whole_pages
from recsplit.write.row_order import Encoded, Gathered, Narrowed, Picked

#: Tables that are larger together are written past the page cache: on a serving machine they would push out the tables
#: that a live model reads, and the kernel takes two to three times as long to find that many pages.
CACHED_BYTES = 1 << 30
BLOCK = 4 << 20
_WRITERS = 2

#: Called with (bytes done, bytes in all) every few megabytes, and at the end.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One initializer to be: `sources` one after the other along the first dimension, then `zero_rows` rows of zeros.

    With more than one source all are of one dtype, and of one shape but for the first dimension; with zero rows, [rows, dim].
    """

    name: str
    sources: tuple[onnx_ir.TensorProtocol | Picked | Narrowed, ...]
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
    at two blocks (8 MB), plus the one tensor at hand where a source is neither in a file nor a contiguous array. The data
    is not forced to the disk; publishing does that.

    Raises RecsplitError where the disk is (or runs) full or can't be written, InputError where sources of one entry
    don't fit together or a source's file is missing or ends too early; no file is left then.
    """
    for entry in entries:
        _refuse_misfits(entry)
    offsets, end = [], 0
    for entry in entries:
        offsets.append(whole_pages(end))
        end = offsets[-1] + entry.size_bytes
    free = shutil.disk_usage(path.parent).free
    if end > free:
        raise disk_full(path.parent, needed=end, free=free)
    try:
        with path.open("xb", buffering=0) as file:
            if end > CACHED_BYTES:
                _bypass_cache(file.fileno(), direct=True)
            for done in _copied(_blocks(_spans(entries, offsets), end), file.fileno()):
                if progress is not None:
                    progress(min(done, end), end)
            file.truncate(end)  # the last block is a whole number of pages
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
    if len(kinds) != 1 or (entry.zero_rows and len(entry.sources[0].shape) != 2):
        raise InputError(f"the tables of {entry.name!r} can't be laid out as one: {sorted(map(str, kinds))}", hint="report this as a fault")


@dataclass(frozen=True)
class _Span:
    """Bytes that go to `target` in the new file: at hand, or `size` bytes from `offset` in a tensor's own file."""

    target: int
    size: int
    source: memoryview | onnx_ir.ExternalTensor | Gathered | Encoded
    offset: int = 0


def _spans(entries: Sequence[Entry], offsets: Sequence[int]) -> Iterator[_Span]:
    for entry, target in zip(entries, offsets, strict=True):
        for source in entry.sources:
            if isinstance(source, Narrowed):
                yield _Span(target, source.nbytes, Encoded(source))
                target += source.nbytes
                continue
            tensor = source.tensor if isinstance(source, Picked) else source
            skipped = source.rows.start * source.row_bytes if isinstance(source, Picked) and isinstance(source.rows, range) else 0
            if isinstance(source, Picked) and not isinstance(source.rows, range):
                yield _Span(target, source.nbytes, Gathered(source))
            elif isinstance(tensor, onnx_ir.ExternalTensor):
                yield _Span(target, source.nbytes, tensor, (tensor.offset or 0) + skipped)
            else:
                yield _Span(target, source.nbytes, _bytes(tensor)[skipped:])
            target += source.nbytes


def _bytes(source: onnx_ir.TensorProtocol) -> memoryview:
    if source.dtype.bitwidth < 8:
        return memoryview(source.tobytes())  # several elements a byte: only onnx_ir knows how
    return np.ascontiguousarray(source.numpy()).reshape(-1).view(np.uint8).data


@dataclass(frozen=True)
class _Block:
    """What lies from `target` up to `end` in the new file: these spans, or parts of them, and zeros elsewhere."""

    target: int
    end: int
    spans: tuple[_Span, ...]


def _blocks(spans: Iterator[_Span], end: int) -> Iterator[_Block]:
    """The new file in blocks, in order; a span that is held in memory is let go with its last block."""
    following: list[_Span] = []
    for target in range(0, end, BLOCK):
        limit = min(target + BLOCK, end)
        while not following or following[-1].target < limit:
            span = next(spans, None)
            if span is None:
                break
            following.append(span)
        yield _Block(target, limit, tuple(span for span in following if span.target < limit))
        following = [span for span in following if span.target + span.size > limit]


def _copied(blocks: Iterator[_Block], file: int) -> Iterator[int]:
    """Write every block, a few at once; yields how many bytes are done."""
    buffers = [mmap.mmap(-1, BLOCK) for _ in range(_WRITERS)]  # page-aligned, as writing past the page cache needs it
    sizes: list[int] = []

    def write_one(block: _Block) -> None:
        buffer = buffers.pop()
        try:
            sizes.append(_write(block, buffer, file))
        finally:
            buffers.append(buffer)

    for _ in in_threads(blocks, write_one, _WRITERS):
        yield sum(sizes)
    yield sum(sizes)


def _write(block: _Block, buffer: mmap.mmap, file: int) -> int:
    """Put one block where it belongs; returns its size in bytes."""
    size = block.end - block.target
    with memoryview(buffer) as view:
        filled = 0
        for span in block.spans:
            first, last = max(block.target, span.target), min(block.end, span.target + span.size)
            if first < last:
                view[filled : first - block.target] = bytes(first - block.target - filled)
                filled = last - block.target
                _fill(view[first - block.target : filled], span, first - span.target)
        whole = whole_pages(size)
        view[filled:whole] = bytes(whole - filled)
        _write_all(file, view[:whole], block.target)
    return size


def _fill(view: memoryview, span: _Span, start: int) -> None:
    """Fill `view` with the span's bytes from `start` on."""
    if isinstance(span.source, memoryview):
        view[:] = span.source[start : start + len(view)]
        return
    if isinstance(span.source, Gathered | Encoded):
        span.source.fill(view, start)
        return
    tensor = span.source
    with _open(tensor) as origin:
        while view:
            read = os.preadv(origin.fileno(), [view], span.offset + start)
            if not read:
                raise InputError(
                    f"{tensor.path} ends before tensor {tensor.name!r} does ({tensor.nbytes} bytes from {tensor.offset or 0})",
                    hint="copy or save the model's data again: the file was cut short",
                )
            view, start = view[read:], start + read


def _write_all(file: int, data: memoryview, target: int) -> None:
    """A write may take less than it is given, on a disk that is nearly full."""
    while data:
        try:
            written = os.pwrite(file, data, target)
        except OSError as error:
            if error.errno != errno.EINVAL or not _bypass_cache(file, direct=False):
                raise
            continue
        data, target = data[written:], target + written


def _bypass_cache(file: int, *, direct: bool) -> bool:
    """Let writes to `file` go past the page cache, or through it again. False where that changed nothing or isn't offered."""
    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    new_flags = flags | os.O_DIRECT if direct else flags & ~os.O_DIRECT
    if new_flags == flags:
        return False
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, new_flags)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def _open(source: onnx_ir.ExternalTensor) -> BinaryIO:
    try:
        return Path(source.path).open("rb", buffering=0)
    except OSError as error:
        raise InputError(
            f"the data of tensor {source.name!r} can't be read from {source.path}: {error.strerror}",
            hint="the model's data files belong beside the model",
        ) from error
