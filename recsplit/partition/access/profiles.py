"""Access profiles made from what there is: traces of what clients sent, or a law that their ids follow."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from recsplit.capacity.ids import Skew
from recsplit.partition.access.counting import Counter, Inputs, drawable
from recsplit.partition.access.frequencies import AccessProfile
from recsplit.partition.access.live import is_live
from recsplit.partition.access.traces import CHUNK, chunks
from recsplit.plan.plan import Plan
from recsplit.rendering.progress import Progress, in_silence, step

#: So many rows of clients' inputs, drawn from a generator.
MakeRows = Callable[[int, np.random.Generator], Inputs]


def from_traces(plan: Plan, paths: Sequence[Path], query_size: float | None = None, *, progress: Progress = in_silence) -> AccessProfile:
    """Count what the traces hold, in queries of `query_size` rows. Without a size a query has one row, or, where all traces are Triton's
    own, as many as a request had in the mean. Raises InputError and MissingExtra as `chunks`, `Counter.add` and `Counter.profile` do."""
    counter, chunk_count = Counter(plan), 0
    for path in paths:
        advance = step(progress, f"Counting {path}", path.stat().st_size if path.is_file() else 0)
        for chunk in chunks(path, plan, advance):
            counter.add(chunk)
            chunk_count += 1
    if query_size is None and all(map(is_live, paths)):
        query_size = counter.rows / chunk_count
    return counter.profile(query_size or 1, tuple(str(path) for path in paths))


def from_law(
    plan: Plan,
    law: Skew,
    queries: int,
    query_size: float | None = None,
    *,
    source: str,
    make_rows: MakeRows,
    seed: int = 0,
    progress: Progress = in_silence,
) -> AccessProfile:
    """Count the reads of so many queries, of `query_size` rows (None: one), whose ids follow the law; `source` says in words where from.

    Counts are drawn where that is quicker; else `make_rows` makes inputs by the law, as proof.samples does, which are counted.
    """
    rows = max(round(queries * (query_size or 1)), 1)
    advance = step(progress, f"Drawing {rows:,} rows", rows)
    counter, rng = Counter(plan), np.random.default_rng(seed)
    if drawable(plan, rows):
        counter.add_drawn(law, rows, rng, advance)
    else:
        width = sum(array.size for array in make_rows(1, rng).values())
        most = max(CHUNK // max(width, 1), 1)
        for first in range(0, rows, most):
            chunk_rows = min(most, rows - first)
            counter.add(make_rows(chunk_rows, rng))
            advance(chunk_rows)
    return counter.profile(query_size or 1, (source,))
