"""Ways to find a partition, by name: the paper's own, what improves on it, and what it is compared with. All are judged by cost.total."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsplit.errors import InputError
from recsplit.partition import cost
from recsplit.partition.cost import CostSettings, Numbers, Piece, ShardLoad
from recsplit.partition.front import best_front
from recsplit.partition.grouping import grouped
from recsplit.partition.heat import Heat
from recsplit.partition.layers import layers
from recsplit.partition.partition_file import Partition, ShardLayout
from recsplit.partition.programme import Solved, solve
from recsplit.plan.plan import Segment

Pieces = tuple[Piece, ...]

#: Shares of the minimum allocation with which `joint` cuts before it groups: what many share, each need not pay whole.
SHARES = (1.0, 0.5, 0.2, 0.05, 0.0)


@dataclass(frozen=True)
class Algorithm:
    """`find` tells the shards; `text` says how, in a line."""

    find: Callable[[CostSettings, Sequence[Heat]], Pieces]
    text: str


def partition(
    model: str, heats: Sequence[Heat], settings: CostSettings, algorithm: str = "joint", *, access: str | None = None
) -> Partition:
    """The partition that an algorithm finds, with its cost by the one objective (cost.total); `access`: the digest of the access profile.

    Raises InputError for an unknown algorithm, without tables, where the bound can't be kept, and where rows shall be kept in a front
    server of which nothing is known.
    """
    if algorithm not in ALGORITHMS:
        raise InputError(f"there is no algorithm {algorithm!r}", hint=f"one of {', '.join(ALGORITHMS)}")
    if not heats:
        raise InputError(f"{model!r} has no tables to partition")
    return as_partition(model, heats, settings, ALGORITHMS[algorithm].find(settings, heats), algorithm, access)


def as_partition(
    model: str, heats: Sequence[Heat], settings: CostSettings, pieces: Pieces, algorithm: str, access: str | None
) -> Partition:
    """The shards as a partition: what is kept in the front server first, then by table and rank. Raises InputError as `partition` does."""
    price = cost.total(settings, heats, pieces)
    if not math.isfinite(price):
        assert settings.bound is not None
        slowest = settings.fit.ms(0.0)
        raise InputError(
            f"algorithm {algorithm!r} finds no partition that answers within {settings.bound.bound_ms:g} ms: "
            f"a call that reads nothing takes {slowest:.3g} ms, a row {settings.fit.b_ms:.3g} ms more",
            hint="a larger --bound-ms, more --max-shards, or another algorithm",
        )
    settings = cost.with_calls(settings, pieces)
    inside = tuple(part for piece in pieces if piece.location == "front" for part in piece.parts)
    ordered = [Piece(inside, "front")] if inside else []
    ordered += sorted((piece for piece in pieces if piece.location == "own"), key=lambda piece: min(piece.parts))
    shards = []
    for piece in ordered:
        asked = cost.load(heats, piece)
        gathers = float(asked.gathers)
        count = float(cost.front_replicas(settings, gathers) if piece.location == "front" else cost.replicas(settings, gathers))
        segments = tuple(
            Segment(heats[table].table, int(heats[table].cuts[first]), int(heats[table].cuts[last]))
            for table, first, last in sorted(piece.parts)
        )
        shards.append(ShardLayout(segments, piece.location, math.ceil(count - 1e-9), gathers, int(asked.size_bytes)))
    return Partition(model, access, settings.target_qps, algorithm, price, settings.unit, tuple(shards))


def costs(settings: CostSettings, heat: Heat) -> Numbers:
    """The cost of every shard of a table, [n + 1, n + 1]: rows between cuts i and j > i."""
    gathers = heat.gathers[None, :] - heat.gathers[:, None]
    sizes: Numbers = np.maximum(heat.cuts[None, :] - heat.cuts[:, None], 0) * float(heat.row_bytes)
    return cost.of(settings, ShardLoad(np.maximum(gathers, 0.0), cost.answer_bytes(heat), sizes))


def one(_settings: CostSettings, heats: Sequence[Heat]) -> Pieces:
    """Everything in one shard."""
    return (Piece(tuple((table, 0, len(heat.cuts) - 1) for table, heat in enumerate(heats))),)


def tables(_settings: CostSettings, heats: Sequence[Heat]) -> Pieces:
    """Every table a shard."""
    return tuple(Piece(((table, 0, len(heat.cuts) - 1),)) for table, heat in enumerate(heats))


def whole(settings: CostSettings, heats: Sequence[Heat]) -> Pieces:
    """Every table by the dynamic programme."""
    return _settled(settings, len(heats), lambda asked: _cut(heats, _solved(asked, heats), [0] * len(heats)))


def paper(settings: CostSettings, heats: Sequence[Heat]) -> Pieces:
    """Every table by the dynamic programme with fractions of replicas, and bytes for a cost."""
    return whole(replace(settings, whole_replicas=False, prices=None), heats)


def merged(settings: CostSettings, heats: Sequence[Heat]) -> Pieces:
    """Every table by the dynamic programme; then shards put together as long as that saves."""
    return grouped(settings, heats, whole(settings, heats))


def one_order(settings: CostSettings, heats: Sequence[Heat]) -> Pieces:
    """All tables' rows in one order of heat, cut as a single table."""
    return _layers(settings, heats, [0] * len(heats))


def kept(settings: CostSettings, heats: Sequence[Heat]) -> Pieces:
    """The hottest rows in the front server, the rest of every table by the dynamic programme."""

    def find(asked: CostSettings) -> Pieces:
        solved = _solved(asked, heats)
        starts = best_front(asked, heats, solved)
        return _with_front(starts, _cut(heats, solved, starts))

    return _settled(settings, len(heats), find)


def joint(settings: CostSettings, heats: Sequence[Heat]) -> Pieces:
    """The cheapest of many: by table with shares of the minimum allocation, or by one order; with and without rows in front; grouped."""
    proposals = [one(settings, heats), tables(settings, heats), one_order(settings, heats)]
    for share in SHARES:
        asked = replace(settings, min_bytes=round(settings.min_bytes * share))
        proposals.append(whole(asked, heats))
        if settings.front is not None:
            proposals.append(kept(asked, heats))
            starts = _starts(heats, proposals[-1])
            proposals.append(_with_front(starts, _layers(settings, heats, starts)))
    proposals = list(dict.fromkeys(proposals))
    proposals += [grouped(settings, heats, pieces) for pieces in proposals]
    return min(proposals, key=lambda pieces: cost.total(settings, heats, pieces))


ALGORITHMS: dict[str, Algorithm] = {
    "one": Algorithm(one, "all tables in one shard"),
    "tables": Algorithm(tables, "one shard a table"),
    "paper": Algorithm(paper, "ElasticRec: every table for itself, fractions of replicas, memory only"),
    "whole": Algorithm(whole, "the paper's, with whole replicas and all that is set"),
    "grouped": Algorithm(merged, "whole; then shards put together where that saves"),
    "layers": Algorithm(one_order, "all tables' rows in one order of heat"),
    "front": Algorithm(kept, "whole, with the hottest rows in the front server"),
    "joint": Algorithm(joint, "the cheapest of all of these and what lies between"),
}


def _solved(settings: CostSettings, heats: Sequence[Heat]) -> list[Solved]:
    return [solve(costs(settings, heat), settings.max_shards) for heat in heats]


def _cut(heats: Sequence[Heat], solved: Sequence[Solved], starts: Sequence[int]) -> Pieces:
    """What lies behind each table's start, cut as the programme says."""
    paths = [
        solution.path(start) if start < len(heat.cuts) - 1 else () for heat, solution, start in zip(heats, solved, starts, strict=True)
    ]
    return tuple(Piece(((table, *ends),)) for table, path in enumerate(paths) for ends in itertools.pairwise(path))


def _layers(settings: CostSettings, heats: Sequence[Heat], starts: Sequence[int]) -> Pieces:
    return _settled(settings, 1, lambda asked: layers(asked, heats, starts))


def _with_front(starts: Sequence[int], rest: Pieces) -> Pieces:
    parts = tuple((table, 0, start) for table, start in enumerate(starts) if start)
    return (Piece(parts, "front"), *rest) if parts else rest


def _starts(heats: Sequence[Heat], pieces: Pieces) -> list[int]:
    """Where each table's rows in front end."""
    ends = {table: last for piece in pieces if piece.location == "front" for table, _, last in piece.parts}
    return [ends.get(table, 0) for table in range(len(heats))]


def _settled(settings: CostSettings, calls: int, find: Callable[[CostSettings], Pieces]) -> Pieces:
    """What `find` finds where the bound's calls are at least as many as the shards that come out: begun with few, and raised."""
    if settings.bound is None:
        return find(settings)
    while True:
        pieces = find(replace(settings, bound=replace(settings.bound, calls=calls)))
        shard_count = sum(piece.location == "own" for piece in pieces)
        if shard_count <= calls:
            return pieces
        calls = shard_count
