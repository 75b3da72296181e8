import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit.capacity.profile import Fit
from recsplit.errors import InputError
from recsplit.partition import algorithms, drift, heat
from recsplit.partition.access.frequencies import Counts, order
from recsplit.partition.cost import CallBound, CostSettings, Front, Prices
from recsplit.partition.drift import Pay
from recsplit.partition.partition_file import Partition, ShardLayout, check
from recsplit.plan.plan import Segment, Table

ROW_BYTES = 32


def table(rows: int, name: str = "t") -> Table:
    return Table(name, rows, 8, "FP32", "FP32", ROW_BYTES * rows)


def cut(was: Counts, asked: CostSettings, algorithm: str = "whole", queries: int = 100) -> Partition:
    """The partition of one table under its old heat."""
    return algorithms.partition("m", [heat.from_counts(table(len(was)), was, queries, 1.0)], asked, algorithm)


def updated(old: Partition, was: Counts, now: Counts, asked: CostSettings, pay: Pay, queries: int = 100) -> drift.Update:
    return drift.update(old, [table(len(was))], {"t": was}, {"t": now}, queries, queries, {"t": 1.0}, asked, pay)


def zipf(rows: int, reads: int, seed: int) -> Counts:
    """Reads of rows whose heat falls with the rank, ranks dealt to rows at random."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, rows + 1) ** 1.05
    return rng.permutation(rng.poisson(reads * share / share.sum())).astype(np.uint32)


HEAT = st.lists(st.integers(0, 300), min_size=3, max_size=7)


@settings(max_examples=60)
@given(HEAT, st.data(), st.floats(0.01, 100), st.floats(0, 10), st.booleans())
def test_the_boundaries_are_the_best_there_are_in_either_order(
    was: list[int], data: st.DataObject, hours: float, copy_hours: float, priced: bool
) -> None:
    rows = len(was)
    now = data.draw(st.lists(st.integers(0, 300), min_size=rows, max_size=rows))
    inner = sorted(data.draw(st.sets(st.integers(1, rows - 1), max_size=rows - 1)))
    asked = CostSettings(100.0, fit=Fit(5.0, 2.0, 1.0), min_bytes=40, prices=Prices(1e6, 0.1, 100.0) if priced else None)
    before, after = np.array(was, np.uint32), np.array(now, np.uint32)
    bounds = (0, *inner, rows)
    old = Partition("m", None, 100.0, "by hand", 0.0, "bytes", tuple(
        ShardLayout((Segment("t", *ends),), "own", 1, 0.0, 0) for ends in itertools.pairwise(bounds)
    ))  # fmt: skip
    update = updated(old, before, after, asked, Pay(hours, copy_hours), queries=10)

    held = [set(order(before)[first:last].tolist()) for first, last in itertools.pairwise(bounds)]
    each = drift.copy_price(asked, Pay(hours, copy_hours))

    def whole(rows_of: list[list[int]]) -> float:
        price = 0.0
        for mine, shard in zip(held, rows_of, strict=True):
            gathers = float(after[shard].sum()) / 10
            replicas = max(math.ceil(100.0 * (5.0 + 2.0 * gathers) / 1000 - 1e-9), 1)
            size = ROW_BYTES * len(shard) + 40
            now_price = replicas * size * 1.0
            if asked.prices is not None:
                sent = 500 + 4 * gathers + 36
                now_price = replicas * (size / 1e9 * 1e6 + 0.1) + 100.0 * 3600 * sent / 1e9 * 100.0
            price += hours * now_price + replicas * ROW_BYTES * len(set(shard) - mine) * each
        return price

    between = drift.mended(before, after, 10, 10)
    orders = {"old": order(before), "mended": order(between), "new": order(after)}
    best = min(
        whole([by[first:last].tolist() for first, last in itertools.pairwise((0, *ends, rows))])
        for by in orders.values()
        for ends in itertools.combinations(range(1, rows), len(inner))
    )
    by = orders[update.tables[0].order]
    shard_rows = [by[shard.segments[0].first : shard.segments[0].last].tolist() for shard in update.partition.shards]
    assert whole(shard_rows) == pytest.approx(best, rel=1e-9)
    came = [len(set(shard) - mine) for mine, shard in zip(held, shard_rows, strict=True)]
    assert update.tables[0].rows == sum(came)
    assert update.copied_bytes == sum(
        shard.replicas * ROW_BYTES * count for shard, count in zip(update.partition.shards, came, strict=True)
    )


def test_nothing_moves_while_the_heat_stays() -> None:
    was, asked = zipf(20_000, 10**6, 0), CostSettings(100, fit=Fit(5.0, 0.01, 1.0), min_bytes=20_000)
    old = cut(was, asked, queries=1000)
    update = updated(old, was, was, asked, Pay(), queries=1000)
    assert update.copied_bytes == 0 and update.partition.shards == old.shards
    assert update.cost == pytest.approx(update.kept_cost) == pytest.approx(old.cost) and update.carried_qps >= 100


def test_when_the_heat_moves_the_old_partition_fails_its_target_and_moving_pays_only_for_long_enough() -> None:
    """Half of the reads now follow another random order of the rows."""
    rows, asked = 20_000, CostSettings(100, fit=Fit(5.0, 0.01, 1.0), min_bytes=20_000)
    was = zipf(rows, 10**6, 0)
    now = (was // 2 + zipf(rows, 10**6, 1) // 2).astype(np.uint32)
    old = cut(was, asked, queries=1000)
    updates_by_hours = {hours: updated(old, was, now, asked, Pay(hours, 1.0), queries=1000) for hours in (0.001, 1.0, 24.0, 10_000.0)}
    assert updates_by_hours[0.001].carried_qps < 90
    fresh = cut(now, asked, queries=1000)
    assert (
        updates_by_hours[0.001].copied_bytes == 0 and updates_by_hours[0.001].cost == updates_by_hours[0.001].kept_cost > 1.2 * fresh.cost
    )
    copied = [one.copied_bytes for one in updates_by_hours.values()]
    costs = [one.cost for one in updates_by_hours.values()]
    assert copied == sorted(copied) and costs == sorted(costs, reverse=True) and copied[-1] > copied[0]
    assert fresh.cost <= costs[-1] * (1 + 1e-9) and costs[-1] < 1.1 * fresh.cost
    for hours, one in updates_by_hours.items():  # what was saved is at least the price of the copies
        assert (one.kept_cost - one.cost) * hours >= one.copied_bytes * (1 - 1e-9)
        check(one.partition, {"t": rows})


def test_noise_is_no_drift_and_few_rows_are_copied_where_few_have_moved() -> None:
    """Another count of the same heat orders half of the rows anew; mended, only what has moved is copied."""
    rows, asked = 20_000, CostSettings(100, fit=Fit(5.0, 0.01, 1.0), min_bytes=20_000)
    rng = np.random.default_rng(0)
    means = rng.permutation(10**6 / 10 / np.arange(1, rows + 1) ** 1.05)
    was, again = (rng.poisson(means).astype(np.uint32) for _ in range(2))
    same = drift.mended(was, again, 1000, 1000)
    assert (same != was).mean() < 0.01
    chosen = np.concatenate([np.argsort(means)[-100:], rng.permutation(rows)[:100]])
    means[chosen] = means[chosen[::-1]]
    now = rng.poisson(means).astype(np.uint32)
    update = updated(cut(was, asked, queries=1000), was, now, asked, Pay(24.0), queries=1000)
    assert update.tables[0].order == "mended" and update.tables[0].rows < 2000 and update.cost < update.kept_cost


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), min_size=1, max_size=20), st.integers(1, 9), st.integers(1, 9)
)
def test_mended_counts_are_the_old_or_the_new_scaled(pairs: list[tuple[int, int]], was_queries: int, queries: int) -> None:
    was, now = (np.array(side, np.uint32) for side in zip(*pairs, strict=True))
    for old, new, mended_count in zip(was, now, drift.mended(was, now, was_queries, queries), strict=True):
        assert int(mended_count) in (int(old), round(int(new) * (was_queries / queries)))


def test_only_the_table_whose_heat_moved_is_ordered_anew() -> None:
    rows, asked = 5000, CostSettings(100, fit=Fit(5.0, 0.02, 1.0), min_bytes=5000)
    counts = {name: zipf(rows, 10**5, seed) for seed, name in enumerate("abc")}
    tables = [table(rows, name) for name in counts]
    old = algorithms.partition("m", [heat.from_counts(one, counts[one.name], 200, 1.0) for one in tables], asked, "grouped")
    now = {**counts, "b": zipf(rows, 10**5, 9)}
    update = drift.update(old, tables, counts, now, 200, 200, dict.fromkeys(counts, 1.0), asked, Pay(1000.0, 1.0))
    assert [one.order != "old" for one in update.tables] == [False, True, False]
    assert update.tables[1].copied_bytes == update.copied_bytes > 0 and update.cost < update.kept_cost
    check(update.partition, dict.fromkeys(counts, rows))


@pytest.mark.parametrize("bounded", [False, True])
def test_rows_in_front_are_weighed_as_front_servers(bounded: bool) -> None:
    rows = 20_000
    asked = CostSettings(
        1000, fit=Fit(1.0, 0.01, 1.0), min_bytes=10**6, front=Front(1.0, 0.0001, 10**7), bound=CallBound(20.0) if bounded else None
    )
    was, now = zipf(rows, 10**6, 0), zipf(rows, 10**6, 1)
    old = cut(was, asked, "front", queries=1000)
    assert old.shards[0].location == "front"
    update = updated(old, was, now, asked, Pay(1000.0), queries=1000)
    assert updated(old, was, was, asked, Pay(), queries=1000).kept_cost == pytest.approx(old.cost)
    assert update.cost <= update.kept_cost and update.partition.shards[0].location == "front"


def test_a_shard_with_two_pieces_of_a_table_is_refused() -> None:
    shards = (
        ShardLayout((Segment("t", 0, 1), Segment("t", 2, 4)), "own", 1, 0.0, 0),
        ShardLayout((Segment("t", 1, 2),), "own", 1, 0.0, 0),
    )
    counts = np.array([4, 3, 2, 1], np.uint32)
    with pytest.raises(InputError, match="several pieces"):
        updated(Partition("m", None, 1.0, "by hand", 0.0, "bytes", shards), counts, counts, CostSettings(1.0), Pay())


def test_copies_cost_what_is_held_and_sent_meanwhile() -> None:
    assert drift.copy_price(CostSettings(1.0), Pay(24.0, 2.0)) == 2.0
    priced = dataclasses.replace(CostSettings(1.0), prices=Prices(0.5, 7.0, 0.25))
    assert drift.copy_price(priced, Pay(24.0, 2.0)) == pytest.approx((2 * 0.5 + 0.25) / 1e9)
