"""Tables for the benchmark of lookup kernels, filled, in huge pages or in usual ones."""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from recsplit.plan.dtypes import NUMPY, SIZE_BYTES
from recsplit.rows import scaled
from recsplit.rows.stored import row_bytes

Array = NDArray[Any]
#: The scale and the bias of a scaled row, 2 ** -7 and -1, as they are stored.
HEADER = np.frombuffer(np.array([2**-7, -1], np.float16).tobytes(), np.uint8)


@dataclass(frozen=True)
class Shape:
    """A table's rows, the numbers of a row, and how these are stored: FP32, FP16, or scaled, INT8 or INT4."""

    rows: int
    dim: int
    stored: str

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return row_bytes(self.stored, self.dim, SIZE_BYTES["FP32"])

    def of(self, memory: Array) -> Array:
        """Bytes as a table: [rows, dim], or of scaled rows UINT8 [rows, row bytes]."""
        return memory.view(np.uint8 if self.stored in scaled.BITS else NUMPY[self.stored]).reshape(self.rows, -1)


#: Bytes from which on a table must lie in huge pages; of a smaller one, too much lies before the first and behind the last.
_MUST_BE_HUGE = 64 << 20


def huge(shape: Shape) -> Array:
    """Memory as the engine copies tables into: private, since the system gives no huge pages to memory that is shared."""
    before, size = _in_huge_pages(), shape.rows * shape.row_bytes
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    table = filled(shape.of(np.frombuffer(memory, np.uint8)))
    if shape.stored in scaled.BITS:
        table[:, : scaled.HEADER_BYTES] = HEADER
    if size >= _MUST_BE_HUGE and _in_huge_pages() - before < 0.8 * size:
        raise click.ClickException("this machine gave no huge pages, and the engine's cells would be of usual ones")
    return table


def usual(shape: Shape) -> Array:
    """Memory as torch makes a weight: NumPy asks for huge pages for large arrays, torch doesn't."""
    return filled(torch.empty((shape.rows, shape.dim)).numpy())


def nowhere(_shape: Shape) -> Array:
    """The form makes its table itself."""
    return np.empty(0)


def filled(table: Array) -> Array:
    """Small numbers everywhere: no page may be the kernel's one page of zeros."""
    flat = table.reshape(-1)
    random, count = np.random.default_rng(0), min(flat.size, 1 << 20)
    block = random.integers(0, 256, count, np.uint8) if table.dtype == np.uint8 else random.standard_normal(count).astype(table.dtype)
    for start in range(0, flat.size, len(block)):
        flat[start : start + len(block)] = block[: flat.size - start]
    return table


def available() -> float:
    """Bytes of memory that are free, or are soon."""
    return _bytes("/proc/meminfo", "MemAvailable")


def _in_huge_pages() -> float:
    return _bytes("/proc/self/smaps_rollup", "AnonHugePages")


def _bytes(file: str, name: str) -> float:
    lines = Path(file).read_text().splitlines()
    return 1024 * float(next(line.split()[1] for line in lines if line.startswith(name)))
