"""Drift: what a partition is worth when the heat has moved, and which of its boundaries are worth moving.

ElasticRec's plan is static (the paper doesn't treat this). Here every table keeps its shards, in their order, and may move the boundaries
between them, in the old order of rows or in the new one. A row that comes to another shard is copied to each of that shard's replicas. The
dynamic programme weighs both: what the new cut saves for as long as the new heat is thought to last, and what the copies cost.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import InputError
from recsplit.partition import cost
from recsplit.partition.access import Counts, order, ranks
from recsplit.partition.cost import NOTHING, Load, Numbers, Settings
from recsplit.partition.heat import POINTS, Heat, candidates, read_before
from recsplit.partition.layout import Partition, ShardLayout
from recsplit.plan import Segment, Table


@dataclass(frozen=True)
class Pay:
    """`hours`: how long the new heat is thought to last. `copy_hours`: a copied byte costs as much as holding it so long."""

    hours: float = 24.0
    copy_hours: float = 1.0


@dataclass(frozen=True)
class Moved:
    """What becomes of one table: whether its rows are ordered anew, rows that change their shard, bytes copied to all replicas."""

    table: str
    reordered: bool
    rows: int
    copied_bytes: int


@dataclass(frozen=True)
class Update:
    """`kept_cost`: what the old partition costs under the new heat, its replicas as they must then be; `cost`: after the moves.

    `carried_qps`: queries a second that the old partition's replicas, as many as it says, can answer under the new heat.
    """

    partition: Partition
    kept_cost: float
    cost: float
    carried_qps: float
    tables: tuple[Moved, ...]

    @property
    def copied_bytes(self) -> int:
        """Bytes copied in all."""
        return sum(table.copied_bytes for table in self.tables)


@dataclass(frozen=True, eq=False)
class _Seen:
    """One table in one order of rows, under the new heat; `held` [shards, cuts]: rows of each of its old shards in ranks [0, cut)."""

    heat: Heat
    held: Numbers
    reordered: bool


def update(
    old: Partition,
    tables: Sequence[Table],
    was: Mapping[str, Counts],
    now: Mapping[str, Counts],
    queries: int,
    vectors: Mapping[str, float],
    settings: Settings,
    pay: Pay,
) -> Update:
    """Move the boundaries that pay. `was`: the counts that the old partition's ranks follow; `now`: those of the new heat, over `queries`.

    `vectors`: vectors of each table that a query gets. The ranks of the new partition follow `was` for tables that were not
    `reordered`, and `now` for the others; its `access` is None, for the caller to fill in. Raises InputError for a partition one of whose
    shards holds a table in several pieces.
    """
    for shard in old.shards:
        if len({segment.table for segment in shard.segments}) < len(shard.segments):
            raise InputError("a shard of the partition holds a table in several pieces", hint="make a new one: recsplit partition DIR")
    settings = _with_calls(settings, old)
    loads = [NOTHING] * len(old.shards)
    views: dict[str, tuple[_Seen, _Seen]] = {}
    for table in tables:
        views[table.name] = _views(table, old, was[table.name], now[table.name], queries, vectors[table.name])
        seen = views[table.name][0]
        for number, segment in _segments(old, table.name):
            loads[number] += _between(seen.heat, _at(seen, segment.first), _at(seen, segment.last))
    kept_cost = _total(settings, old, loads)
    carried = min((_carried(settings, shard, load) for shard, load in zip(old.shards, loads, strict=True)), default=0.0)
    shards, moves = list(old.shards), []
    for table in tables:
        holding = _segments(old, table.name)
        before = views[table.name][0]
        base = {
            number: _minus(loads[number], _between(before.heat, _at(before, segment.first), _at(before, segment.last)))
            for number, segment in holding
        }
        tried = [_best(settings, pay, old, seen, holding, base) for seen in views[table.name]]
        chosen = int(np.argmin([price for price, _ in tried]))
        seen, path = views[table.name][chosen], tried[chosen][1]
        moved_rows, copied = 0, 0.0
        for place, (number, segment) in enumerate(holding):
            first, last = path[place], path[place + 1]
            loads[number] = base[number] + _between(seen.heat, first, last)
            came = _came(seen, place)[first, last]
            moved_rows += int(came)
            copied += float(_count(settings, old.shards[number], loads[number])) * came * seen.heat.row_bytes
            fresh = Segment(table.name, int(seen.heat.cuts[first]), int(seen.heat.cuts[last]))
            shards[number] = replace(shards[number], segments=tuple(fresh if one == segment else one for one in shards[number].segments))
        moves.append(Moved(table.name, seen.reordered and moved_rows > 0, moved_rows, round(copied)))
    price = _total(settings, old, loads)
    done = tuple(
        replace(
            shard,
            replicas=int(np.ceil(_count(settings, shard, load) - 1e-9)),
            gathers_per_query=float(load.gathers),
            size_bytes=int(load.size_bytes),
        )
        for shard, load in zip(shards, loads, strict=True)
    )
    made = Partition(old.model, None, settings.target_qps, old.algorithm, price, settings.unit, done)
    return Update(made, kept_cost, price, carried, tuple(moves))


def _views(table: Table, old: Partition, was: Counts, now: Counts, queries: int, vectors: float) -> tuple[_Seen, _Seen]:
    """The table under the new heat, in its old order and in its new one."""
    old_order = order(was)
    bounds = np.array([segment.first for _, segment in _segments(old, table.name)] + [table.rows], dtype=np.int64)
    old_cuts = candidates(table.rows, POINTS, also=tuple(bounds.tolist()))
    held = np.stack([np.clip(old_cuts - low, 0, high - low) for low, high in itertools.pairwise(bounds)]).astype(np.float64)
    before = _Seen(_heat(table, now[old_order], old_cuts, queries, vectors), held, reordered=False)
    new_order = order(now)
    hot = now[new_order]
    cuts = candidates(table.rows, POINTS, also=(*bounds.tolist(), int(np.count_nonzero(hot))))
    was_in = (np.searchsorted(bounds, ranks(old_order)[new_order], side="right") - 1).astype(np.uint16)
    kept = [read_before((was_in == place).astype(np.uint32), cuts) for place in range(len(bounds) - 1)]
    return before, _Seen(_heat(table, hot, cuts, queries, vectors), np.stack(kept), reordered=True)


def _heat(table: Table, counts: Counts, cuts: NDArray[np.int64], queries: int, vectors: float) -> Heat:
    return Heat(table.name, table.size_bytes // table.rows, 4 * table.dim, vectors, cuts, read_before(counts, cuts) / queries)


def _best(
    settings: Settings, pay: Pay, old: Partition, seen: _Seen, holding: Sequence[tuple[int, Segment]], base: Mapping[int, Load]
) -> tuple[float, list[int]]:
    """The cheapest boundaries of a table among its shards, what other tables ask of these being given; cost times hours, with copies."""
    heat, ends = seen.heat, len(seen.heat.cuts)
    inside = np.triu(np.ones((ends, ends), dtype=bool), 1)
    copy = copy_price(settings, pay)
    between = Load(
        np.maximum(heat.gathers[None, :] - heat.gathers[:, None], 0.0),
        cost.answer_bytes(heat),
        np.maximum(heat.cuts[None, :] - heat.cuts[:, None], 0) * float(heat.row_bytes),
    )
    best = np.full(ends, np.inf)
    best[0] = 0.0
    came_from = []
    for place, (number, _) in enumerate(holding):
        load, shard = base[number] + between, old.shards[number]
        with np.errstate(invalid="ignore"):
            copies = _count(settings, shard, load) * np.maximum(_came(seen, place), 0.0) * heat.row_bytes * copy
        through = best[:, None] + np.where(inside, pay.hours * _price(settings, shard, load) + copies, np.inf)
        came_from.append(through.argmin(axis=0))
        best = through.min(axis=0)
    path = [ends - 1]
    for sources in reversed(came_from):
        path.append(int(sources[path[-1]]))
    return float(best[-1]), path[::-1]


def copy_price(settings: Settings, pay: Pay) -> float:
    """What a copied byte costs, in the cost's unit times hours: held for `copy_hours`, and sent."""
    held = float(cost.held(replace(settings, prices=replace(settings.prices, core_hour=0.0)) if settings.prices else settings, 1.0, 1.0))
    return pay.copy_hours * held + (settings.prices.gb_sent / 1e9 if settings.prices else 0.0)


def _came(seen: _Seen, place: int) -> Numbers:
    """Rows between two cuts that the table's old shard of this place doesn't hold, [cuts, cuts]."""
    others = seen.heat.cuts - seen.held[place]
    found: Numbers = others[None, :] - others[:, None]
    return found


def _between(heat: Heat, first: int, last: int) -> Load:
    size = float((heat.cuts[last] - heat.cuts[first]) * heat.row_bytes)
    return Load(float(heat.gathers[last] - heat.gathers[first]), cost.answer_bytes(heat), size)


def _minus(one: Load, other: Load) -> Load:
    return Load(
        np.maximum(one.gathers - other.gathers, 0.0),
        one.answer_bytes - other.answer_bytes,
        np.maximum(one.size_bytes - other.size_bytes, 0.0),
    )


def _at(seen: _Seen, rank: int) -> int:
    return int(np.searchsorted(seen.heat.cuts, rank))


def _segments(partition: Partition, table: str) -> list[tuple[int, Segment]]:
    """The shards that hold a table's rows, with their segment of it, by rank."""
    found = [(number, one) for number, shard in enumerate(partition.shards) for one in shard.segments if one.table == table]
    return sorted(found, key=lambda item: item[1].first)


def _price(settings: Settings, shard: ShardLayout, load: Load) -> Numbers:
    return cost.of_front(settings, load) if shard.place == "front" else cost.of(settings, load)


def _count(settings: Settings, shard: ShardLayout, load: Load) -> Numbers:
    return cost.front_replicas(settings, load.gathers) if shard.place == "front" else cost.replicas(settings, load.gathers)


def _carried(settings: Settings, shard: ShardLayout, load: Load) -> float:
    if shard.place == "front":
        return (
            settings.target_qps
            * shard.replicas
            / max(float(cost.front_replicas(replace(settings, whole_replicas=False), load.gathers)), 1e-12)
        )
    return shard.replicas * float(cost.most_qps(settings, load.gathers))


def _total(settings: Settings, partition: Partition, loads: Sequence[Load]) -> float:
    """The objective, cost.total, for shards whose loads are known."""
    price = sum(float(_price(settings, shard, load)) for shard, load in zip(partition.shards, loads, strict=True))
    if settings.front is not None and all(shard.place == "own" for shard in partition.shards):
        price += float(cost.of_front(settings))
    return price


def _with_calls(settings: Settings, partition: Partition) -> Settings:
    if settings.bound is None:
        return settings
    calls = max(sum(shard.place == "own" for shard in partition.shards), 1)
    return replace(settings, bound=replace(settings.bound, calls=calls))
