import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit.capacity.ids import TwoLevel, share
from recsplit.capacity.profile import Fit, fit
from recsplit.errors import InputError
from recsplit.partition import algorithms, cost, heat
from recsplit.partition.cost import CallBound, CostSettings, Front, Piece, Prices, ShardLoad
from recsplit.partition.heat import Heat
from recsplit.partition.partition_file import Partition
from recsplit.partition.programme import solve
from recsplit.plan.plan import Table

ROWS = 20_000_000


def elasticrec(tables: int, gathers: float, locality: float = 0.9, rows: int = ROWS) -> list[Heat]:
    """Tables of the paper: 20 million rows of 32 floats, the hottest tenth read by `locality` of the gathers."""
    law = TwoLevel(locality)
    return [
        heat.from_share(Table(f"t{n}", rows, 32, "FP32", "FP32", rows * 128), lambda hottest: share(law, rows, hottest), gathers, 1.0)
        for n in range(tables)
    ]


def test_e1_the_papers_own_example_comes_out() -> None:
    """ElasticRec figure 10: COST(i, j) = (j - i + 1)^2 / i over a table of five."""
    costs = np.full((6, 6), math.inf)
    for first, last in itertools.combinations_with_replacement(range(1, 6), 2):
        costs[first - 1, last] = (last - first + 1) ** 2 / first
    solution = solve(costs, 3)
    assert solution.cost[0] == pytest.approx(4) and solution.path() == (0, 1, 3, 5)


def test_e3_figure_9_is_a_line() -> None:
    qps = {1: 86.7, 5: 56.5, 10: 39.2, 15: 30.2, 20: 24.7}
    line = fit(list(qps), [[1000 / rate] for rate in qps.values()])
    assert line.a_ms == pytest.approx(10.0, abs=0.1) and line.b_ms == pytest.approx(1.524, abs=0.015) and line.r2 > 0.999


def er_bytes(partition: Partition, settings: CostSettings, dense_qps: float) -> float:
    """Bytes of all of ElasticRec's containers: the shards', and dense replicas of the minimum allocation each."""
    return partition.cost + math.ceil(settings.target_qps / dense_qps) * settings.min_bytes


@pytest.mark.parametrize(
    ("tables", "gathers", "dense_qps", "gigabytes", "replicas"),
    [(10, 128, 20.6, 145, [10, 10, 2, 2]), (10, 32, 5.0, 84, [3, 3, 2])],
    ids=["E4 RM1", "E5 RM3"],
)
def test_e4_and_e5_the_papers_models_take_what_was_reckoned(
    tables: int, gathers: int, dense_qps: float, gigabytes: float, replicas: list[int]
) -> None:
    asked = CostSettings(100, max_shards=4)
    partition = algorithms.partition("rm", elasticrec(tables, gathers), asked, "whole")
    assert er_bytes(partition, asked, dense_qps) / 1e9 == pytest.approx(gigabytes, abs=1)
    first = [shard.replicas for shard in partition.shards if shard.segments[0].table == "t0"]
    assert first == replicas and len(partition.shards) == tables * len(replicas)


def test_e7_less_locality_takes_more_memory() -> None:
    """Figure 12b of the paper: 221, 150 and 145 GB."""
    asked = CostSettings(100, max_shards=4)
    low, middle, high = (
        er_bytes(algorithms.partition("rm1", elasticrec(10, 128, locality), asked, "whole"), asked, 20.6) / 1e9
        for locality in (0.1, 0.5, 0.9)
    )
    assert low == pytest.approx(225, abs=3) and high == pytest.approx(144, abs=2) and high < middle < low


@pytest.mark.parametrize("points", [300, 600])
def test_a_few_hundred_candidate_cuts_are_enough(points: int) -> None:
    law, table = TwoLevel(0.9), Table("t", ROWS, 32, "FP32", "FP32", ROWS * 128)
    costs = []
    for count in (points, 2400):
        one = heat.from_share(table, lambda hottest: share(law, ROWS, hottest), 128, 1.0, points=count)
        costs.append(algorithms.partition("rm1", [one], CostSettings(100, max_shards=4), "whole").cost)
    assert costs[0] == pytest.approx(costs[1], rel=0.01)


# ------------------------------------------------------------------------------------------------------------------------------------------

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=8)
SETTINGS = st.builds(
    CostSettings,
    target_qps=st.floats(1, 500),
    fit=st.builds(Fit, st.floats(0.1, 20), st.floats(0, 3), st.just(1.0)),
    min_bytes=st.integers(0, 2000),
    whole_replicas=st.booleans(),
    max_shards=st.integers(1, 9),
    prices=st.none() | st.builds(Prices, st.floats(0, 2e6), st.floats(0, 5), st.floats(0, 100)),
)


def of_counts(counts: list[int], name: str = "t") -> Heat:
    return heat.from_counts(Table(name, len(counts), 8, "FP32", "FP32", 32 * len(counts)), np.array(counts, np.uint32), 7, 2.0)


def cheapest(asked: CostSettings, heats: list[Heat]) -> float:
    """The objective of the best of all partitions of one table, tried one by one."""
    rows = heats[0].rows
    return min(
        cost.total(asked, heats, [Piece(((0, first, last),)) for first, last in itertools.pairwise((0, *inner, rows))])
        for count in range(min(asked.max_shards, rows))
        for inner in itertools.combinations(range(1, rows), count)
    )


@given(COUNTS, SETTINGS)
def test_the_programme_finds_the_cheapest_of_all_partitions(counts: list[int], asked: CostSettings) -> None:
    heats = [of_counts(counts)]
    pieces = algorithms.whole(asked, heats)
    assert cost.total(asked, heats, pieces) == pytest.approx(cheapest(asked, heats), rel=1e-9)


@given(COUNTS, SETTINGS)
def test_the_programme_knows_the_best_rest_behind_every_cut(counts: list[int], asked: CostSettings) -> None:
    one = of_counts(counts)
    solved = solve(algorithms.costs(asked, one), asked.max_shards)
    for start in range(one.rows):
        path = solved.path(start)
        assert path[0] == start and path[-1] == one.rows and 2 <= len(path) <= asked.max_shards + 1
        pieces = [Piece(((0, first, last),)) for first, last in itertools.pairwise(path)]
        assert cost.total(asked, [one], pieces) == pytest.approx(solved.cost[start], rel=1e-9)


@settings(max_examples=40)
@given(st.lists(COUNTS, min_size=1, max_size=4), SETTINGS, st.sampled_from(list(algorithms.ALGORITHMS)), st.booleans(), st.booleans())
def test_every_algorithm_puts_every_row_into_one_shard_and_joint_is_never_dearer(
    tables: list[list[int]], asked: CostSettings, name: str, bounded: bool, known: bool
) -> None:
    heats = [of_counts(counts, f"t{n}") for n, counts in enumerate(tables)]
    asked = dataclasses.replace(
        asked, bound=CallBound(2000.0) if bounded else None, front=Front(3.0, 0.1, 5000) if known or name == "front" else None
    )
    partition = algorithms.partition("m", heats, asked, name)
    rows = {one.table: np.zeros(one.rows, int) for one in heats}
    for shard in partition.shards:
        assert len({segment.table for segment in shard.segments}) == len(shard.segments)
        for segment in shard.segments:
            assert segment.first < segment.last
            rows[segment.table][segment.first : segment.last] += 1
    assert all((count == 1).all() for count in rows.values())
    assert sum(shard.size_bytes for shard in partition.shards) == sum(32 * one.rows for one in heats)
    assert sum(shard.gathers_per_query for shard in partition.shards) == pytest.approx(sum(one.gathers[-1] for one in heats))
    best = algorithms.partition("m", heats, asked, "joint")
    assert best.cost <= partition.cost * (1 + 1e-9)


def test_fractions_of_replicas_cut_finer_than_whole_ones_and_cost_more_in_the_end() -> None:
    heats, asked = elasticrec(1, 128), CostSettings(100, max_shards=16)
    paper, whole = (algorithms.partition("rm1", heats, asked, name) for name in ("paper", "whole"))
    assert len(paper.shards) > len(whole.shards) and paper.cost > whole.cost


def test_with_a_price_on_cores_a_table_is_cut_into_fewer_servers() -> None:
    heats = elasticrec(1, 128)
    priced = [CostSettings(100, prices=Prices(0.004, core, 0.0)) for core in (0.0, 0.03)]
    free, dear = (algorithms.partition("rm1", heats, asked, "whole") for asked in priced)
    assert sum(shard.replicas for shard in dear.shards) < sum(shard.replicas for shard in free.shards)
    again = cost.total(priced[1], heats, algorithms.whole(priced[0], heats))
    assert dear.cost < again and dear.cost_unit == "USD/hour"


def test_a_price_on_the_network_makes_fewer_shards() -> None:
    heats = [dataclasses.replace(one, vectors=1000.0) for one in elasticrec(2, 128)]
    cheap, dear = (CostSettings(100, prices=Prices(0.004, 0.0, sent)) for sent in (0.0, 10.0))
    counts = [len(algorithms.partition("rm1", heats, asked, "joint").shards) for asked in (cheap, dear)]
    assert counts[1] < counts[0]


@given(st.floats(0.5, 20), st.floats(1.5, 10), st.floats(60, 99.9), st.integers(1, 50))
def test_a_bound_holds_in_a_queue_that_is_simulated(service_ms: float, slack: float, percentile: float, calls: int) -> None:
    """Waiting times by Lindley's recursion; the union over calls leaves each call late in (1 - percentile) / calls of all cases."""
    bound = CallBound(service_ms * slack, percentile, calls)
    asked = CostSettings(100, fit=Fit(service_ms, 0.0, 1.0), bound=bound)
    qps = float(cost.most_qps(asked, 0.0))
    assert 0 < qps < 1000 / service_ms
    rng = np.random.default_rng(0)
    steps = service_ms - rng.exponential(1000 / qps, 40_000)
    walk = np.concatenate([[0.0], np.cumsum(steps)])
    waits = walk - np.minimum.accumulate(walk)
    late = float((waits + service_ms > bound.bound_ms).mean())
    allowed = (1 - percentile / 100) / calls
    assert late <= allowed + 4 * math.sqrt(allowed / 4000)


def test_a_tighter_bound_asks_for_more_and_one_that_no_call_keeps_is_refused() -> None:
    heats = elasticrec(2, 128)
    costs = [
        algorithms.partition("rm1", heats, CostSettings(100, bound=bound), "whole").cost
        for bound in (None, CallBound(1000.0), CallBound(200.0), CallBound(100.0), CallBound(100.0, 99.0))
    ]
    assert costs == sorted(costs) and len(set(costs)) == len(costs)
    with pytest.raises(InputError, match="within 9 ms") as error:
        algorithms.partition("rm1", heats, CostSettings(100, bound=CallBound(9.0)), "joint")
    assert "--bound-ms" in error.value.hint


def test_a_bound_counts_the_shards_that_a_query_really_calls() -> None:
    heats = elasticrec(3, 128)
    asked = CostSettings(100, bound=CallBound(150.0))
    pieces = algorithms.whole(asked, heats)
    settled = cost.with_calls(asked, pieces)
    assert settled.bound is not None and settled.bound.calls == len(pieces) > len(heats)


def test_small_tables_share_a_server() -> None:
    heats = [*elasticrec(1, 128), *(of_counts([3, 2, 1], f"small{n}") for n in range(20))]
    asked = CostSettings(20)
    apart, together = (algorithms.partition("m", heats, asked, name) for name in ("whole", "grouped"))
    assert len(apart.shards) >= 21 and len(together.shards) < len(apart.shards) - 18 and together.cost < apart.cost


def test_rows_are_kept_in_front_only_where_front_servers_have_the_time() -> None:
    heats = elasticrec(2, 128, rows=100_000)
    idle, busy = (
        algorithms.partition("m", heats, CostSettings(100, fit=Fit(10.0, 0.001, 1.0), front=Front(dense_ms, 0.001, 10**10)), "front")
        for dense_ms in (1.0, 9.999)
    )
    in_front = [sum(s.gathers_per_query for s in partition.shards if s.location == "front") for partition in (idle, busy)]
    assert in_front[0] == pytest.approx(256) and in_front[1] < 10


def test_hot_rows_in_front_save_what_their_calls_cost() -> None:
    """Calls that cost much and rows that cost little: two tables' hottest tenth takes nine of ten reads from the shards."""
    heats = elasticrec(2, 128, rows=10_000_000)
    asked = CostSettings(1000, fit=Fit(2.0, 0.02, 1.0), prices=Prices(0.004, 0.03, 0.01), front=Front(1.0, 0.001, 300_000_000))
    front, whole = (algorithms.partition("m", heats, asked, name) for name in ("front", "whole"))
    assert front.cost < whole.cost and front.shards[0].location == "front"
    front_bytes = front.shards[0].size_bytes
    assert 0 < front_bytes <= 2 * 10_000_000 * 128


def test_rows_in_front_keep_to_their_room_and_then_the_hottest_are_there() -> None:
    heats = [*elasticrec(1, 128, rows=10_000_000), *elasticrec(1, 1, rows=10_000_000)]
    asked = CostSettings(100, fit=Fit(2.0, 0.2, 1.0), prices=Prices(0.004, 0.03, 0.01))
    kept = []
    for most in (math.inf, 100e6, 1e6, 0.0):
        partition = algorithms.partition("m", heats, dataclasses.replace(asked, front=Front(1.0, 0.0001, 10**8, most)), "front")
        front = [shard for shard in partition.shards if shard.location == "front"]
        kept.append(sum(shard.size_bytes for shard in front))
        assert kept[-1] <= most and all(segment.first == 0 for shard in front for segment in shard.segments)
        if most == 100e6:
            assert front[0].segments[0].last > 100 * sum(segment.last for segment in front[0].segments[1:])
    assert kept == sorted(kept, reverse=True) and kept[1] > 40e6 and kept[3] == 0


def test_layers_call_fewer_shards() -> None:
    """A call that costs what 300 rows do, as on a fast machine: ten calls a layer are worth less than one."""
    heats = elasticrec(10, 128)
    asked = CostSettings(300, fit=Fit(0.4, 0.0012, 1.0))
    layers, whole, joint = (algorithms.partition("m", heats, asked, name) for name in ("layers", "whole", "joint"))
    assert len(layers.shards) <= 8 < len(whole.shards) and joint.cost <= min(layers.cost, whole.cost)


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_qps": 0.0},
        {"target_qps": math.inf},
        {"target_qps": 1.0, "max_shards": 0},
        {"target_qps": 1.0, "min_bytes": -1},
        {"target_qps": 1.0, "fit": Fit(0.0, 0.0, 1.0)},
        {"target_qps": 1.0, "fit": Fit(-1.0, 2.0, 1.0)},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        CostSettings(**wrong)  # type: ignore[arg-type]


def test_unknown_algorithms_and_an_unknown_front_server_are_refused() -> None:
    heats = [of_counts([1, 2])]
    with pytest.raises(InputError, match="no algorithm 'best'"):
        algorithms.partition("m", heats, CostSettings(1.0), "best")
    with pytest.raises(InputError, match="front server"):
        algorithms.partition("m", heats, CostSettings(1.0), "front")
    with pytest.raises(InputError, match="no tables"):
        algorithms.partition("m", [], CostSettings(1.0))


@given(st.integers(1, 10**7), st.integers(1, 700), st.integers(0, 10**7))
def test_candidates_rise_from_0_to_the_last_row(rows: int, points: int, also: int) -> None:
    cuts = heat.candidates(rows, points, also=(also,))
    assert cuts[0] == 0 and cuts[-1] == rows and (np.diff(cuts) > 0).all() and len(cuts) <= max(points + 4, 3) + 1
    assert not 0 < also < rows or also in cuts


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=300), st.integers(2, 50))
def test_reads_before_a_cut_are_those_of_the_hottest_rows(counts: list[int], points: int) -> None:
    one = heat.from_counts(Table("t", len(counts), 8, "FP32", "FP32", 32 * len(counts)), np.array(counts, np.uint32), 1, 1.0, points=points)
    hottest = sorted(counts, reverse=True)
    assert one.gathers.tolist() == [pytest.approx(sum(hottest[:cut])) for cut in one.cuts]


def test_rows_read_seldom_are_taken_for_what_they_will_be_read() -> None:
    """Two counts of the same heat: the second tells how often the rows of each count are read again."""
    rng = np.random.default_rng(0)
    means = 3e6 / 14 / np.arange(1, 300_001) ** 1.0
    was, again = (rng.poisson(means).astype(np.uint32) for _ in range(2))
    will = heat.expected(was)
    assert will.sum(dtype=np.float64) == pytest.approx(was.sum(), rel=1e-5)
    for often in range(8):
        chosen = was == often
        assert will[chosen].mean() == pytest.approx(again[chosen].mean(), rel=0.05)
    one = heat.from_counts(Table("t", 300_000, 8, "FP32", "FP32", 32 * 300_000), was, 1, 1.0)
    never = np.searchsorted(one.cuts, np.count_nonzero(was))
    assert one.gathers[-1] - one.gathers[never] == pytest.approx(again[was == 0].sum(), rel=0.05)


def test_costs_of_many_shards_at_once_are_those_of_each_alone() -> None:
    asked = CostSettings(100, prices=Prices(0.004, 0.03, 0.1), bound=CallBound(300.0, calls=3))
    gathers, sizes = np.array([0.0, 5.0, 100.0]), np.array([1e9, 2e9, 0.0])
    at_once = cost.of(asked, ShardLoad(gathers, 40.0, sizes))
    alone = [float(cost.of(asked, ShardLoad(x, 40.0, size))) for x, size in zip(gathers, sizes, strict=True)]
    assert at_once.tolist() == pytest.approx(alone)
