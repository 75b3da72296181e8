"""Heat: how many of a table's reads fall in its hottest rows, known at candidate cut points.

A table of 20 million rows is not cut between any two of them: with 300 to 600 candidates, half of them spaced geometrically and half
linearly, the cost of the best cut is stable to a fraction of a percent (facts in docs/partition.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from recsplit.partition.access.frequencies import Counts
from recsplit.plan.plan import Plan, Table

#: Candidate cut points of a table, unless told otherwise.
POINTS = 400

#: Counts below this are estimated by Good and Turing's formula, where so many rows have them.
_SELDOM = 8
_ENOUGH = 100

#: Poolings that make one vector of all ids of a lookup.
_POOLED = ("sum", "mean", "max")


@dataclass(frozen=True, eq=False)
class Heat:
    """One table: `cuts` [n + 1] are ranks, 0 first and the table's rows last, rising; `gathers` [n + 1] how many of the rows that one
    query reads lie in ranks [0, cut), in the mean: 0 first, all of a query's gathers last.

    `vectors`: vectors that one query gets of the table, each of `vector_bytes`; a shard answers with a partial sum for each.
    """

    table: str
    row_bytes: int
    vector_bytes: int
    vectors: float
    cuts: NDArray[np.int64]
    gathers: NDArray[np.float64]

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return int(self.cuts[-1])


def candidates(rows: int, points: int = POINTS, also: tuple[int, ...] = ()) -> NDArray[np.int64]:
    """Ranks at which a table of `rows` rows may be cut, both ends included: all of them where they are no more than `points`.

    Otherwise half of them rise geometrically from 1 and half linearly; those of `also` that lie inside are added.
    """
    if rows <= points:
        return np.arange(rows + 1, dtype=np.int64)
    half = max(points // 2, 1)
    spaced = np.concatenate([np.geomspace(1, rows, half), np.linspace(0, rows, half + 1)])
    inside = [rank for rank in also if 0 < rank < rows]
    ranks: NDArray[np.int64] = np.unique(np.concatenate([np.rint(spaced).astype(np.int64), np.array([0, rows, *inside], dtype=np.int64)]))
    return ranks


def from_counts(table: Table, counts: Counts, queries: int, vectors: float, *, points: int = POINTS) -> Heat:
    """A table's heat by its counts [rows] over `queries` queries: as the next ones are expected to read the rows so ordered (`expected`).

    The rank from which on no row was read is a candidate too.
    """
    hot = cast(Counts, np.sort(counts)[::-1])
    cuts = candidates(len(counts), points, also=(int(np.count_nonzero(hot)),))
    return _heat(table, vectors, cuts, read_before(expected(hot), cuts) / queries)


def from_share(table: Table, share: Callable[[int], float], gathers_per_query: float, vectors: float, *, points: int = POINTS) -> Heat:
    """A table's heat by a law: `share(hottest)` is the part of the reads that falls in so many of the hottest rows."""
    cuts = candidates(table.rows, points)
    inner = [share(int(rank)) for rank in cuts[1:-1]]
    return _heat(table, vectors, cuts, gathers_per_query * np.array([0.0, *inner, 1.0]))


def expected(counts: Counts) -> Counts | NDArray[np.float32]:
    """How often rows with these counts will be read when as many reads are counted again, [rows]; the sum stays.

    A row that was never read isn't one that never will be, and rows that were read once will be read less often: ordered by a count, they
    were chosen for it. Good and Turing's estimate (Good 1953) for rows read c times, (c + 1) N[c + 1] / N[c], where N[c] rows were read c
    times; from c = 0 on, as long as both N are at least 100 and the estimates rise. Others keep their count.
    """
    seen = np.bincount(counts[counts <= _SELDOM], minlength=_SELDOM + 1)
    estimates: list[float] = []
    for often in range(_SELDOM):
        if min(seen[often], seen[often + 1]) < _ENOUGH:
            break
        estimate = (often + 1) * seen[often + 1] / seen[often]
        if estimates and estimate <= estimates[-1]:
            break
        estimates.append(estimate)
    if not estimates or estimates[-1] >= len(estimates):
        return counts
    will = counts.astype(np.float32)
    seldom = counts < len(estimates)
    will[seldom] = np.array(estimates, dtype=np.float32)[counts[seldom]]
    will *= float(counts.sum(dtype=np.uint64)) / float(will.sum(dtype=np.float64))
    return will


def read_before(counts: Counts | NDArray[np.float32], cuts: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many reads fall in [0, cut) for each cut, [n + 1], by counts in the order of ranks; cuts rise from 0 to the length."""
    exact = np.float64 if counts.dtype.kind == "f" else np.uint64
    sums = np.add.reduceat(counts, cuts[:-1], dtype=exact)  # without a cumulative sum of the table's length
    return np.concatenate([[0.0], np.cumsum(sums, dtype=exact).astype(np.float64)])


def vectors_per_row(plan: Plan) -> dict[str, int]:
    """Vectors of each table that one row of a query gets: one for each pooled lookup, one for each id where nothing is pooled."""
    vectors = {table.name: 0 for table in plan.tables}
    for lookup in plan.lookups:
        vectors[lookup.table] += 1 if lookup.pooling in _POOLED else lookup.width
    return vectors


def _heat(table: Table, vectors: float, cuts: NDArray[np.int64], gathers: NDArray[np.float64]) -> Heat:
    return Heat(table.name, table.size_bytes // table.rows, 4 * table.dim, vectors, cuts, gathers)
