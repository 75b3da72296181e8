"""The skew of an access profile: which part of each table's reads falls in its hottest rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from recsplit.partition.access.frequencies import AccessProfile, Counts
from recsplit.partition.heat import candidates, read_before

#: Share of rows, and share of reads in the hottest ones of them: float64 [n] each, from 0 to 1.
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class TableSkew:
    """One table: its rows, how many a query reads in the mean, how many were read at all; `share`: by share of rows, as "0.01", the part
    of the reads that falls in so many of the hottest rows, None where nothing was read."""

    table: str
    rows: int
    gathers_per_query: float
    rows_read: int
    share: Mapping[str, float | None]


@dataclass(frozen=True)
class AccessSkew:
    """What a profile is of, as its About says, and the skew of each table."""

    model: str
    queries: int
    rows: int
    unknown: int
    tables: tuple[TableSkew, ...]


def skew_of(profile: AccessProfile, shares: Sequence[float]) -> AccessSkew:
    """The skew at these shares of rows, each in (0, 1]: counts of one table in memory at a time."""
    tables = []
    for name, counts in profile.tables.items():
        hot = np.sort(counts)[::-1]
        total = int(hot.sum(dtype=np.uint64))
        share = {
            f"{part:g}": float(hot[: max(round(part * len(hot)), 1)].sum(dtype=np.uint64)) / total if total else None for part in shares
        }
        tables.append(TableSkew(name, len(hot), total / profile.queries, int(np.count_nonzero(hot)), share))
    about = profile.about
    return AccessSkew(about.model, about.queries, about.rows, about.unknown, tuple(tables))


def curves(profile: AccessProfile, skew: AccessSkew, most: int) -> dict[str, Curve]:
    """The curves of the tables that are read most, at most so many, and of none that isn't read."""
    by_table = {}
    for one in sorted(skew.tables, key=lambda one: -one.gathers_per_query)[:most]:
        if one.gathers_per_query > 0:
            cuts = candidates(one.rows)
            reads = read_before(cast(Counts, np.sort(profile.tables[one.table])[::-1]), cuts)
            by_table[one.table] = (cuts / one.rows, reads / reads[-1])
    return by_table
