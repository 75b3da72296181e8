"""Grouping: shards put together where one server for both costs less than two, as with tables too small for a server of their own."""

from collections.abc import Sequence

import numpy as np

from recsplit.partition import cost
from recsplit.partition.cost import CostSettings, Piece, ShardLoad
from recsplit.partition.heat import Heat

Rows = tuple[int, int, int]


def grouped(settings: CostSettings, heats: Sequence[Heat], pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """Put the two shards together whose union saves most, again and again, until none saves. What is kept in front stays as it is.

    A shard holds one stretch of a table at most, so that only neighbouring shards of one table go together.
    """
    shards = [piece for piece in pieces if piece.location == "own"]
    rest = tuple(piece for piece in pieces if piece.location != "own")
    now = cost.total(settings, heats, (*rest, *shards))
    while len(shards) > 1:
        pair = _best_pair(settings, heats, shards)
        if pair is None:
            break
        one, other, union = pair
        fewer = [piece for number, piece in enumerate(shards) if number not in (one, other)] + [Piece(union)]
        then = cost.total(settings, heats, (*rest, *fewer))
        if not then < now:
            break
        shards, now = fewer, then
    return (*rest, *shards)


def _best_pair(settings: CostSettings, heats: Sequence[Heat], shards: list[Piece]) -> tuple[int, int, tuple[Rows, ...]] | None:
    """The pair of shards whose union costs least beyond what they cost apart; None where no two can be put together."""
    asked = cost.loads(heats, shards)
    gathers, answers, sizes = (np.asarray(values) for values in (asked.gathers, asked.answer_bytes, asked.size_bytes))
    after = cost.with_calls(settings, shards[:-1])
    apart = cost.of(after, asked)
    both = ShardLoad(gathers[:, None] + gathers, answers[:, None] + answers, sizes[:, None] + sizes)
    with np.errstate(invalid="ignore"):
        change = cost.of(after, both) - apart[:, None] - apart
    change = np.where(np.triu(np.ones(change.shape, dtype=bool), 1) & np.isfinite(change), change, np.inf)
    for flat in np.argsort(change, axis=None, kind="stable"):
        one, other = divmod(int(flat), len(shards))
        if not np.isfinite(change[one, other]):
            return None
        union = _union(shards[one].parts, shards[other].parts)
        if union is not None:
            return one, other, union
    return None


def _union(one: tuple[Rows, ...], other: tuple[Rows, ...]) -> tuple[Rows, ...] | None:
    """Both parts lists as one, neighbours joined; None where a table would be there twice."""
    joined: dict[int, Rows] = {}
    for table, first, last in sorted((*one, *other)):
        if table in joined:
            if joined[table][2] != first:
                return None
            first = joined[table][1]
        joined[table] = (table, first, last)
    return tuple(joined.values())
