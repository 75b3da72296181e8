"""Rows by heat in whole tables: which order, and how much memory the rows that are read need in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsplit.disk.files import size_text
from recsplit.errors import InputError
from recsplit.partition.access import frequencies
from recsplit.plan.plan import Resident, Table
from recsplit.rendering.progress import Progress, step

_PAGE_BYTES = 4096
SHARES = (0.9, 0.99, 0.999, 1.0)


@dataclass(frozen=True)
class ByHeat:
    """The order that an access profile gives, and its digest; `resident`: the memory that shares of its reads need."""

    profile: frequencies.AccessProfile
    digest: str
    resident: tuple[Resident, ...]

    def rows(self, table: str) -> NDArray[np.int32]:
        """The rows of a table, the most read first."""
        return frequencies.order(self.profile.tables[table])


def by_heat(path: Path, model: str, tables: Sequence[Table], progress: Progress) -> ByHeat:
    """Read a profile, and reckon what its order saves. Raises InputError where it is none, or another model's."""
    profile = frequencies.read(path)
    frequencies.check(profile, model, {table.name: table.rows for table in tables}, origin=str(path))
    advance = step(progress, "ordering rows by heat", sum(table.rows for table in tables))
    reads: dict[int, int] = {}
    for table in tables:
        for count, rows in zip(*np.unique(profile.tables[table.name], return_counts=True), strict=True):
            reads[int(count)] = reads.get(int(count), 0) + int(rows)
    if not any(reads):
        raise InputError(f"{path} counts no reads, so there is no heat to order by", hint=frequencies.AGAIN)
    least = {share: _least(reads, share) for share in SHARES}
    bytes_of: dict[float, list[int]] = {share: [0, 0] for share in SHARES}
    for table in tables:
        counts = profile.tables[table.name]
        for share, count in least.items():
            hot = np.flatnonzero(counts >= count)
            bytes_of[share][0] += _pages(np.arange(len(hot)), table)
            bytes_of[share][1] += _pages(hot, table)
        advance(table.rows)
    return ByHeat(profile, frequencies.digest(path), tuple(Resident(share, *sizes) for share, sizes in bytes_of.items()))


def words(resident: Sequence[Resident]) -> str:
    """What lying by heat saves."""
    parts = [
        f"{item.share:.1%} of the reads {size_text(item.by_heat_bytes)} (not {size_text(item.as_they_were_bytes)})" for item in resident
    ]
    return f"Rows lie by heat. Of memory need {', '.join(parts)}"


def _least(reads: dict[int, int], share: float) -> int:
    """The least count of rows which together have `share` of all reads, those with more reads counted first; never 0."""
    total = sum(count * rows for count, rows in reads.items())
    so_far = 0
    for count in sorted(reads, reverse=True):
        so_far += count * reads[count]
        if so_far >= share * total:
            return max(count, 1)
    return 1


def _pages(rows: NDArray[np.int64], table: Table) -> int:
    """Bytes of the pages in which rows, ascending, lie."""
    if not len(rows):
        return 0
    row_bytes = table.size_bytes // table.rows
    first, last = rows * row_bytes // _PAGE_BYTES, ((rows + 1) * row_bytes - 1) // _PAGE_BYTES
    pages = np.concatenate([last[:1] - first[:1] + 1, last[1:] - np.maximum(first[1:], last[:-1] + 1) + 1])
    return int(pages.sum()) * _PAGE_BYTES
