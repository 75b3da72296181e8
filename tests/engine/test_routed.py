"""A router with simulated servers: the compiled loop against a plain one, and what its decisions are worth."""

import heapq
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit.capacity.service import affine, exponential
from recsplit.engine.compilation import make, unavailable
from recsplit.engine.deciding import SERVER, VARIANT, Rules, decide
from recsplit.engine.library import Library
from recsplit.engine.routed import Behind, Turn, round_robin, simulate
from recsplit.errors import InputError

pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture(scope="module")
def engine() -> Library:
    return Library(make())


def plainly(
    engine: Library,
    rules: Rules,
    turns: Sequence[Turn],
    servers: Sequence[Behind],
    arrivals_s: list[float],
    sizes: list[int],
    within_ms: float | None,
) -> list[float]:
    """Latencies, ms, by the same decision and a heap of Python's."""
    variants, known = np.zeros(len(turns), VARIANT), np.zeros(len(servers), SERVER)
    for place, turn in enumerate(turns):
        variants[place] = (turn.weight, 0.0, turn.split_rows)
    for place, server in enumerate(servers):
        known[place] = (server.a_ms, server.b_ms, 0.0, 0, server.at_once, server.variant, 1)
    free = [[0.0] * server.at_once for server in servers]
    under_way: list[tuple[float, int, float, float]] = []
    latencies = []
    for arrival_s, rows in zip(arrivals_s, sizes, strict=True):
        now = 1e3 * arrival_s
        while under_way and under_way[0][0] <= now:
            known[heapq.heappop(under_way)[1]]["under_way"] -= 1
        known["work_ms"] = 0.0
        for _, number, start, thought_ms in under_way:
            known[number]["work_ms"] += thought_ms - min(thought_ms, max(now - start, 0.0))
        parts = decide(engine, rules, variants, known, rows, within_ms)
        if isinstance(parts, str):
            latencies.append(math.nan)
            continue
        last = now
        for part in parts:
            number, part_rows = int(part["server"]), int(part["rows"])
            slot = free[number].index(min(free[number]))
            start = max(now, free[number][slot])
            end = start + float(servers[number].service.table_ms(part_rows)[part_rows])
            free[number][slot] = end
            last = max(last, end)
            heapq.heappush(under_way, (end, number, start, float(part["ms"])))
        latencies.append(last - now)
    return latencies


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 300)), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.floats(0.1, 20), st.floats(0, 0.5), st.integers(1, 3)), min_size=1, max_size=5),
    st.lists(st.tuples(st.floats(0, 0.02), st.integers(1, 900)), min_size=1, max_size=60),
    st.one_of(st.none(), st.floats(1, 200)),
    st.integers(0, 500),
)
@settings(max_examples=60)
def test_it_is_what_a_plain_loop_does(
    engine: Library,
    turns: list[tuple[float, int]],
    behind: list[tuple[int, float, float, int]],
    traffic: list[tuple[float, int]],
    within_ms: float | None,
    large_rows: int,
) -> None:
    variants = [Turn(*turn) for turn in turns]
    servers = [Behind(variant % len(turns), affine(a, b), a, b, at_once) for variant, a, b, at_once in behind]
    arrivals_s = np.cumsum([gap for gap, _ in traffic])
    sizes = np.array([rows for _, rows in traffic])
    rules = Rules(large_rows, len(turns) - 1)
    run = simulate(engine, rules, variants, servers, arrivals_s, sizes, within_ms=within_ms)
    plain = plainly(engine, rules, variants, servers, arrivals_s.tolist(), sizes.tolist(), within_ms)
    np.testing.assert_allclose(run.latency_ms, plain, rtol=1e-9, atol=1e-6)
    assert int(run.requests.sum()) >= int((~np.isnan(run.latency_ms)).sum())
    np.testing.assert_array_equal(run.variant < 0, np.isnan(run.latency_ms))


def test_a_server_alone_is_the_queue_of_the_books(engine: Library) -> None:
    """M/M/1 at 70 %: waits and service together take 1 / (mu - lambda)."""
    random = np.random.default_rng(0)
    arrivals_s = np.cumsum(random.exponential(1 / 70, 200_000))
    run = simulate(engine, Rules(), [Turn(1.0)], [Behind(0, exponential(10.0), 10.0, 0.0)], arrivals_s, np.ones(len(arrivals_s), int))
    assert float(run.latency_ms.mean()) == pytest.approx(1000 / 30, rel=0.05)


@pytest.mark.parametrize(("slower", "of_turns"), [(1.0, 0.7), (2.0, 0.3), (4.0, 0.15)])
def test_who_is_done_first_has_a_p99_30_percent_below_that_of_turns_at_80_percent(engine: Library, slower: float, of_turns: float) -> None:
    """Query sizes of DeepRecSys's heavy tail on two servers, of which one may be slower; what they do together is used to 80 %, but where
    turns would drown the slower one by more than it can do."""
    random = np.random.default_rng(1)
    sizes = np.clip(random.lognormal(4.6, 1.0, 100_000), 1, 1000).astype(np.int64)
    servers = [Behind(0, affine(1.0, 0.05), 1.0, 0.05), Behind(0, affine(slower, 0.05 * slower), slower, 0.05 * slower)]
    mean_ms = [float(server.service.table_ms(1000)[sizes].mean()) for server in servers]
    # Turns give each half: no more than the slower one can do.
    rate = 0.8 * min(sum(1e3 / each for each in mean_ms), 2e3 / max(mean_ms))
    arrivals_s = np.cumsum(random.exponential(1 / rate, len(sizes)))
    least = simulate(engine, Rules(), [Turn(1.0)], servers, arrivals_s, sizes)
    turns, alone = round_robin(servers)
    others = simulate(engine, Rules(), turns, alone, arrivals_s, sizes)
    assert np.percentile(least.latency_ms, 99) <= of_turns * np.percentile(others.latency_ms, 99)


def test_what_is_refused_by_its_deadline_would_have_been_late_and_nothing_else_is(engine: Library) -> None:
    random = np.random.default_rng(2)
    arrivals_s, sizes = np.cumsum(random.exponential(1 / 120, 20_000)), np.full(20_000, 10)
    server = [Behind(0, affine(10.0, 0.0), 10.0, 0.0)]
    run = simulate(engine, Rules(), [Turn(1.0)], server, arrivals_s, sizes, within_ms=60.0)
    answered = run.latency_ms[~np.isnan(run.latency_ms)]
    assert 0.05 < np.isnan(run.latency_ms).mean() < 0.4, "more comes than can be done"
    assert answered.max() <= 60.0 + 1e-6


def test_large_queries_go_to_their_own_variant(engine: Library) -> None:
    sizes = np.array([10, 500, 499, 1000] * 100)
    servers = [Behind(0, affine(1, 0.01), 1, 0.01), Behind(1, affine(3, 0.001), 3, 0.001)]
    run = simulate(engine, Rules(500, 1), [Turn(1.0, 256), Turn(0.0)], servers, np.arange(400) * 0.1, sizes)
    np.testing.assert_array_equal(run.variant, sizes >= 500)


def test_what_makes_no_sense_is_refused(engine: Library) -> None:
    one = [Behind(0, affine(1, 0), 1, 0)]
    for turns, servers, arrivals, sizes in (
        ([], one, [0.0], [1]),
        ([Turn(1.0)], [Behind(1, affine(1, 0), 1, 0)], [0.0], [1]),
        ([Turn(1.0)], one, [1.0, 0.0], [1, 1]),
        ([Turn(1.0)], one, [0.0], [0]),
    ):
        with pytest.raises(InputError):
            simulate(engine, Rules(), turns, servers, np.array(arrivals), np.array(sizes))
