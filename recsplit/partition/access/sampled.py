"""An access profile out of a sample of reads, as recsplit's engine keeps one of what it serves.

Rows that were sampled often are as hot as their share of the sample says. Of the others a sample sees some and misses most, and taken at
its word it would make a few rows warm and the rest dead: a partition by it would think too little of the cold shards. How many rows were
sampled 0, 1, 2, ... times tells how their rates must be spread: the mixture of Poisson laws that makes these numbers likeliest (Kiefer and
Wolfowitz 1956; by expectation and maximisation over a grid of rates, Laird 1978). A row is given the mean rate of rows that were sampled as
often as it was (Robbins 1956), so that rows which a partition chooses by the sample are read as often as it reckons, not less. Nothing is
assumed of the law: it may be Zipf's, or have plateaus.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import InputError
from recsplit.partition.access.frequencies import WIDEST, About, AccessProfile, Counts
from recsplit.plan.plan import Plan

#: Sampled so often, a row's own count says more than those of others.
_OFTEN = 400
#: Rates that are tried, and steps; with more the shares of the hottest rows stay within a thousandth.
_GRID, _STEPS = 200, 1000
_HINT = "recsplit serve DIR, and some traffic; or count a trace: recsplit access DIR --trace FILE"


@dataclass(frozen=True)
class TableSample:
    """What a server read of one table: how many ids it was given, rows it read, ids that were outside, and rows at random out of those
    reads, UINT32 [sampled]."""

    name: str
    rows: int
    ids: int
    read: int
    unknown: int
    sampled: NDArray[np.uint32]


def profile(plan: Plan, requests_rows: int, tables: Sequence[TableSample], query_size: float | None, source: str) -> AccessProfile:
    """The profile of `requests_rows` rows of requests, in queries of `query_size` rows (None: one).

    Raises InputError where the samples aren't of the plan's tables, or there is less than one query.
    """
    by_name = {table.name: table for table in tables}
    rows = {table.name: table.rows for table in plan.tables}
    if {name: table.rows for name, table in by_name.items()} != rows:
        raise InputError(f"the server's tables aren't those of {plan.name!r}", hint="does it serve this build? recsplit update DIR")
    queries = round(requests_rows / (query_size or 1))
    if queries < 1:
        raise InputError(f"the server has answered {requests_rows} rows, less than one query", hint=_HINT)
    unsampled = [table.name for table in tables if table.read and not len(table.sampled)]
    if unsampled:
        raise InputError(f"no read of {unsampled[0]!r} was sampled yet, of {by_name[unsampled[0]].read:,}", hint=_HINT)
    sampled = sum(len(table.sampled) for table in tables)
    words = f"{source}: {sampled:,} reads at random out of {sum(table.read for table in tables):,}"
    about = About(plan.name, queries, requests_rows, sum(table.unknown for table in tables), (words,))
    return AccessProfile(about, {name: counts(by_name[name]) for name in rows})


def share_error(tables: Sequence[TableSample]) -> float:
    """The largest 95 % error of any share of a table's reads, by the table that was sampled least."""
    return max((0.98 / math.sqrt(len(table.sampled)) for table in tables if table.read and len(table.sampled)), default=0.0)


def counts(table: TableSample) -> Counts:
    """Reads of each row, [rows], which add up to all reads of the table but for rounding."""
    seen = np.bincount(table.sampled, minlength=table.rows).astype(np.int64)
    reads = np.zeros(table.rows)
    if not len(table.sampled):
        return reads.astype(np.uint32)
    scale = table.read / len(table.sampled)
    often = seen >= _OFTEN
    reads[often] = seen[often] * scale
    if not often.all():
        reads[~often] = _rates(seen[~often]) * scale
    hottest_first = np.argsort(-reads, kind="stable")
    whole = np.diff(np.floor(np.cumsum(np.concatenate([[0.0], reads[hottest_first]])) + 0.5))
    result = np.zeros(table.rows, np.uint64)
    result[hottest_first] = whole.astype(np.uint64)
    return result if int(result.max()) > WIDEST else result.astype(np.uint32)


def _rates(seen: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often rows are sampled in the mean, [rows], which were sampled `seen` times, each less than _OFTEN times."""
    numbers = np.bincount(seen, minlength=_OFTEN).astype(np.float64)
    grid = np.geomspace(1e-4, 2 * _OFTEN, _GRID)
    times = np.arange(_OFTEN)
    log_factorial = np.cumsum(np.log(np.maximum(times, 1)))
    likely = np.exp(times[:, None] * np.log(grid) - grid - log_factorial[:, None])  # of each number at each rate
    share, tiny = np.full(_GRID, 1 / _GRID), np.finfo(float).tiny
    for _ in range(_STEPS):
        share *= (numbers / len(seen) / np.maximum(likely @ share, tiny)) @ likely
    means = (likely @ (share * grid)) / np.maximum(likely @ share, tiny)
    rates: NDArray[np.float64] = means[seen] * (seen.sum() / max(means[seen].sum(), tiny))
    return rates
