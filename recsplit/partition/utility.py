"""Memory utility: the share of a shard's rows that is read at all, expected from access frequencies or counted in a trace.

ElasticRec takes the first 1,000 queries (section 6.2 of the paper, figures 14 and 17). Rows are counted in ranks, 0 the most read.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.integer[Any]]

#: Pieces in which a law's frequency is taken for constant: more among the hottest ranks.
_PIECES = 400


def touched(cumulative: Callable[[int], float], first: int, last: int, gathers: float, *, breaks: Sequence[int] = ()) -> float:
    """The expected share of ranks [first, last) that `gathers` reads of the table touch, under a law.

    `cumulative(r)` is the share of reads that falls in the r hottest rows, smooth but at `breaks`. Reads are independent: a row that
    is read with probability p stays untouched with (1 - p)^gathers. Between neighbouring pieces the law is taken for constant.
    """
    width = last - first
    offsets = np.concatenate([[0], np.geomspace(1, width, _PIECES), np.linspace(0, width, _PIECES), np.asarray(breaks) - first])
    edges = np.unique(np.clip(np.round(offsets), 0, width).astype(np.int64)) + first
    shares = np.diff([cumulative(int(edge)) for edge in edges])
    return _expected(shares / np.diff(edges), np.diff(edges), gathers)


def touched_counts(counts: Ranks, total: int, gathers: float) -> float:
    """The same from an access profile: `counts` [rows] are the reads of each of the shard's rows, of `total` reads of the table."""
    values, rows = np.unique(counts, return_counts=True)
    return _expected(values / total, rows, gathers)


def counted(ranks: Ranks, bounds: Sequence[int]) -> tuple[float, ...]:
    """The share of ranks [bounds[k], bounds[k + 1]) that occurs in `ranks`, the reads of one table in a trace, for each k."""
    distinct_ranks = np.unique(ranks)
    inside = np.diff(np.searchsorted(distinct_ranks, bounds))
    return tuple((inside / np.diff(bounds)).tolist())


def _expected(probability: NDArray[np.float64], rows: NDArray[np.int64], gathers: float) -> float:
    """The mean over rows of 1 - (1 - p)^gathers."""
    untouched = np.exp(gathers * np.log1p(-np.clip(probability, 0, 1 - 1e-16)))
    return float((rows * (1 - untouched)).sum() / rows.sum())
