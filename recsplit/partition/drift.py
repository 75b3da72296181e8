"""Drift: what a partition is worth when the heat has moved, and which of its boundaries are worth moving.

ElasticRec's plan is static (the paper doesn't treat this). Here every table keeps its shards, in their order, and may move the boundaries
between them, in the old order of rows, in the old one mended, or in the new one. A row that comes to another shard is copied to each of
that shard's replicas. The dynamic programme weighs both: what the new cut saves for as long as the new heat is thought to last, and what
the copies cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from recsplit.errors import InputError
from recsplit.partition import cost
from recsplit.partition.access.frequencies import WIDEST, Counts, order
from recsplit.partition.cost import NOTHING, CostSettings, Numbers, ShardLoad
from recsplit.partition.heat import POINTS, Heat, candidates, expected, read_before
from recsplit.partition.partition_file import Partition, ShardLayout
from recsplit.plan.plan import Segment, Table

#: Orders of a table's rows: by the old counts, by the old with the rows that have moved put right, by the new.
Order = Literal["old", "mended", "new"]
#: Standard deviations by which counts of a row may differ without its heat having moved.
_SIGMAS = 3.0


@dataclass(frozen=True)
class Pay:
    """`hours`: how long the new heat is thought to last. `copy_hours`: a copied byte costs as much as holding it so long."""

    hours: float = 24.0
    copy_hours: float = 1.0


@dataclass(frozen=True)
class Moved:
    """What becomes of one table: the order that its ranks now follow, rows that change their shard, bytes copied to all replicas."""

    table: str
    order: Order
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
    order: Order


def update(
    old: Partition,
    tables: Sequence[Table],
    was: Mapping[str, Counts],
    now: Mapping[str, Counts],
    was_queries: int,
    queries: int,
    vectors: Mapping[str, float],
    settings: CostSettings,
    pay: Pay,
) -> Update:
    """Move the boundaries whose move saves more than its copies cost.

    `was`: the counts that the old partition's ranks follow, over `was_queries`; `now`: the new heat's.
    `vectors`: vectors of each table that a query gets. The ranks of the new partition follow `was`, `mended` or `now`, as `tables`
    says of each; its `access` is None, for the caller to fill in. Raises InputError for a partition one of whose
    shards holds a table in several pieces.
    """
    for shard in old.shards:
        if len({segment.table for segment in shard.segments}) < len(shard.segments):
            raise InputError("a shard of the partition holds a table in several pieces", hint="make a new one: recsplit partition DIR")
    settings = _with_calls(settings, old)
    loads = [NOTHING] * len(old.shards)
    views: dict[str, list[_Seen]] = {}
    for table in tables:
        before, after = was[table.name], now[table.name]
        keys: dict[Order, Counts] = {"old": before, "mended": mended(before, after, was_queries, queries), "new": after}
        views[table.name] = _views(table, old, keys, after, queries, vectors[table.name])
        seen = views[table.name][0]
        for number, segment in _segments(old, table.name):
            loads[number] += _between(seen.heat, _at(seen, segment.first), _at(seen, segment.last))
    kept_cost = _total(settings, old, loads)
    carried = min((_carried(settings, shard, load) for shard, load in zip(old.shards, loads, strict=True)), default=0.0)
    shards, moves = list(old.shards), []
    for table in tables:
        holding = _segments(old, table.name)
        seen = views[table.name][0]
        base = {
            number: _minus(loads[number], _between(seen.heat, _at(seen, segment.first), _at(seen, segment.last)))
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
        moves.append(Moved(table.name, seen.order if moved_rows else "old", moved_rows, round(copied)))
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
    partition = Partition(old.model, None, settings.target_qps, old.algorithm, price, settings.unit, done)
    return Update(partition, kept_cost, price, carried, tuple(moves))


def mended(was: Counts, now: Counts, was_queries: int, queries: int) -> Counts:
    """The old counts, but for rows whose new ones can't be the same heat counted again: those get the new, scaled to the old queries.

    Ordered by these, rows that stayed as warm as they were stay where they are, though no two counts of a row are alike: two Poisson counts
    differ by more than three standard deviations of their difference (one more read added to its variance) in few rows.
    """
    ratio = was_queries / queries
    scaled = now * ratio
    moved = (scaled - was) ** 2 > _SIGMAS**2 * (scaled * ratio + was + 1)
    mended_counts = was.astype(np.uint64)
    mended_counts[moved] = np.rint(scaled[moved]).astype(np.uint64)
    return mended_counts if int(mended_counts.max(initial=0)) > WIDEST else mended_counts.astype(np.uint32)


def _views(table: Table, old: Partition, keys: Mapping[Order, Counts], now: Counts, queries: int, vectors: float) -> list[_Seen]:
    """The table under the new heat, in each order of rows; the first is the old one."""
    bounds = np.array([segment.first for _, segment in _segments(old, table.name)] + [table.rows], dtype=np.int64)
    was_in = np.empty(table.rows, dtype=np.uint16)
    was_in[order(keys["old"])] = np.repeat(np.arange(len(bounds) - 1, dtype=np.uint16), np.diff(bounds))
    views = []
    for name, key in keys.items():
        by_heat = order(key)
        # An order made from these very counts puts rows first that were read by chance more often than they will be; an older one doesn't.
        hot, places = expected(now[by_heat]) if name == "new" else now[by_heat], was_in[by_heat]
        cuts = candidates(table.rows, POINTS, also=(*bounds.tolist(), int(np.count_nonzero(key))))
        held = np.stack([read_before((places == place).astype(np.uint32), cuts) for place in range(len(bounds) - 1)])
        heat = Heat(table.name, table.size_bytes // table.rows, 4 * table.dim, vectors, cuts, read_before(hot, cuts) / queries)
        views.append(_Seen(heat, held, name))
    return views


def _best(
    settings: CostSettings, pay: Pay, old: Partition, seen: _Seen, holding: Sequence[tuple[int, Segment]], base: Mapping[int, ShardLoad]
) -> tuple[float, list[int]]:
    """The cheapest boundaries of a table among its shards, what other tables ask of these being given; cost times hours, with copies."""
    heat, ends = seen.heat, len(seen.heat.cuts)
    inside = np.triu(np.ones((ends, ends), dtype=bool), 1)
    copy = copy_price(settings, pay)
    between = ShardLoad(
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


def copy_price(settings: CostSettings, pay: Pay) -> float:
    """What a copied byte costs, in the cost's unit times hours: held for `copy_hours`, and sent."""
    held = float(cost.held(replace(settings, prices=replace(settings.prices, core_hour=0.0)) if settings.prices else settings, 1.0, 1.0))
    return pay.copy_hours * held + (settings.prices.gb_sent / 1e9 if settings.prices else 0.0)


def _came(seen: _Seen, place: int) -> Numbers:
    """Rows between two cuts that the table's old shard of this place doesn't hold, [cuts, cuts]."""
    others = seen.heat.cuts - seen.held[place]
    missing_rows: Numbers = others[None, :] - others[:, None]
    return missing_rows


def _between(heat: Heat, first: int, last: int) -> ShardLoad:
    size = float((heat.cuts[last] - heat.cuts[first]) * heat.row_bytes)
    return ShardLoad(float(heat.gathers[last] - heat.gathers[first]), cost.answer_bytes(heat), size)


def _minus(one: ShardLoad, other: ShardLoad) -> ShardLoad:
    return ShardLoad(
        np.maximum(one.gathers - other.gathers, 0.0),
        one.answer_bytes - other.answer_bytes,
        np.maximum(one.size_bytes - other.size_bytes, 0.0),
    )


def _at(seen: _Seen, rank: int) -> int:
    return int(np.searchsorted(seen.heat.cuts, rank))


def _segments(partition: Partition, table: str) -> list[tuple[int, Segment]]:
    """The shards that hold a table's rows, with their segment of it, by rank."""
    segments = [(number, one) for number, shard in enumerate(partition.shards) for one in shard.segments if one.table == table]
    return sorted(segments, key=lambda item: item[1].first)


def _price(settings: CostSettings, shard: ShardLayout, load: ShardLoad) -> Numbers:
    return cost.of_front(settings, load) if shard.location == "front" else cost.of(settings, load)


def _count(settings: CostSettings, shard: ShardLayout, load: ShardLoad) -> Numbers:
    return cost.front_replicas(settings, load.gathers) if shard.location == "front" else cost.replicas(settings, load.gathers)


def _carried(settings: CostSettings, shard: ShardLayout, load: ShardLoad) -> float:
    if shard.location == "front":
        return (
            settings.target_qps
            * shard.replicas
            / max(float(cost.front_replicas(replace(settings, whole_replicas=False), load.gathers)), 1e-12)
        )
    return shard.replicas * float(cost.most_qps(settings, load.gathers))


def _total(settings: CostSettings, partition: Partition, loads: Sequence[ShardLoad]) -> float:
    """The objective, cost.total, for shards whose loads are known."""
    price = sum(float(_price(settings, shard, load)) for shard, load in zip(partition.shards, loads, strict=True))
    if settings.front is not None and all(shard.location == "own" for shard in partition.shards):
        price += float(cost.of_front(settings))
    return price


def _with_calls(settings: CostSettings, partition: Partition) -> CostSettings:
    if settings.bound is None:
        return settings
    calls = max(sum(shard.location == "own" for shard in partition.shards), 1)
    return replace(settings, bound=replace(settings.bound, calls=calls))
