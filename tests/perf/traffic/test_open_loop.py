"""Open-loop load on a real server: due times, lateness, failures, interruptions."""

import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient

from recsplit.capacity import ids, sizes
from recsplit.errors import InputError, RecsplitError
from recsplit.plan.plan import Plan
from recsplit.proof import samples
from recsplit.repository.find import find
from recsplit.serving import Server, serve
from recsplit_perf.traffic import live, open_loop, queries
from recsplit_perf.traffic.queries import Ready
from tests.perf.workloads import SMALL
from tests.waiting import until


class Fateful(Sequence[Ready]):
    """A pool that calls `act` when query `at` is the next to be sent: what befalls a load comes at a query, not at a time."""

    def __init__(self, pool: list[Ready], at: int, act: Callable[[], object]) -> None:
        self.pool, self.at, self.act = pool, at, act
        self.taken = -1  # the one that is sent before the clock starts is none of the load's

    def __len__(self) -> int:
        return len(self.pool)

    def __iter__(self) -> Iterator[Ready]:
        return iter(self.pool)

    def __getitem__(self, number: Any) -> Any:
        if self.taken == self.at:
            self.act()
        self.taken += 1
        return self.pool[number]


@pytest.fixture(scope="module")
def plan(tiny: Path) -> Plan:
    return find(tiny).plan


@pytest.fixture(scope="module")
def pool(plan: Plan) -> list[Ready]:
    return queries.pool(plan, SMALL, np.random.default_rng(0))


def test_a_pool_has_the_sizes_of_the_law(plan: Plan, pool: list[Ready]) -> None:
    rows = np.array([query.rows for query in pool])
    assert len(pool) == queries.DISTINCT
    assert np.bincount(rows, minlength=10)[1:] / len(rows) == pytest.approx([1 / 9] * 9, abs=0.01)
    assert all(len(query.parts) == 1 for query in pool)
    assert len({query.parts for query in pool}) > 990  # all but a few small ones differ


def test_every_query_is_sent_when_it_is_due(server: Server, pool: list[Ready]) -> None:
    times = np.sort(np.random.default_rng(1).random(100))
    choice = np.arange(100)
    sent = open_loop.send(server.http_url, pool, times, choice, warmup_s=0.2, seconds=0.8)
    kept = times >= 0.2
    assert np.allclose(sent.due_s, times[kept] - 0.2)
    assert (sent.query_rows == [pool[n].rows for n in choice[kept]]).all()
    assert (sent.late_ms >= 0).all()
    assert (sent.latency_ms > sent.late_ms).all()
    assert np.isfinite(sent.latency_ms).all()
    assert not sent.errors and not sent.interrupted


def test_a_server_that_pauses_is_charged_for_every_query_that_was_due(server: Server, pool: list[Ready]) -> None:
    """No coordinated omission: queries go on being due while nobody answers."""
    again = threading.Timer(0.6, os.kill, (server.pid, signal.SIGCONT))

    def pause() -> None:
        os.kill(server.pid, signal.SIGSTOP)
        again.start()

    times, same = np.arange(200) / 100, np.zeros(200, dtype=np.int64)
    try:
        sent = open_loop.send(server.http_url, Fateful(pool, 70, pause), times, same, warmup_s=0, seconds=2, timeout_s=60)
    finally:
        again.cancel()
        os.kill(server.pid, signal.SIGCONT)
    assert len(sent.due_s) == 200
    # From when query 69 was sent, 0.6 s and more: query 70 is due 0.01 s after that, and 110 is 0.41 s.
    assert sent.latency_ms[70] > 550
    assert (sent.latency_ms[70:110] > 150).all()


def test_queries_that_are_never_answered_time_out_in_line_too(server: Server, pool: list[Ready], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "MOST_CONNECTIONS", 4)
    silenced = Fateful(pool, 40, lambda: os.kill(server.pid, signal.SIGSTOP))
    times, same = np.arange(100) / 100, np.zeros(100, dtype=np.int64)
    try:
        sent = open_loop.send(server.http_url, silenced, times, same, warmup_s=0, seconds=1, timeout_s=0.5)
    finally:  # only now: the load ended although the server is still stopped
        os.kill(server.pid, signal.SIGCONT)
    assert len(sent.latency_ms) == 100
    assert np.isinf(sent.latency_ms[40:]).all()
    assert sent.errors == {"no answer within 0.5 s": np.isinf(sent.latency_ms).sum()}


def test_a_generator_that_is_late_says_how_late(server: Server, pool: list[Ready]) -> None:
    times = np.zeros(3000)  # all due at once
    sent = open_loop.send(server.http_url, pool, times, np.zeros(3000, dtype=np.int64), warmup_s=0, seconds=1)
    assert sent.late_ms[-1] > 10
    assert (np.diff(sent.late_ms) >= 0).all()
    assert (sent.latency_ms >= sent.late_ms).all()


def test_a_large_query_is_split_and_counts_once(tiny: Path, plan: Plan) -> None:
    rng = np.random.default_rng(2)
    large = [queries.ready(plan, samples.rows(plan, rows, rng)) for rows in (64, 65, 600)]
    assert [len(query.parts) for query in large] == [1, 2, 10]
    # A server of its own: another test's queries may still be answered, and counted, when that test has ended.
    with serve(tiny) as alone, InferenceServerClient(alone.grpc_url) as client:

        def served() -> int:
            (model_stats,) = client.get_inference_statistics("tiny", as_json=True)["model_stats"]
            return int(model_stats.get("inference_count", 0))

        assert served() == 0
        sent = open_loop.send(alone.http_url, large, np.arange(6) / 20, np.arange(6) % 3, warmup_s=0, seconds=0.3, timeout_s=60)
        assert sent.query_rows.tolist() == [64, 65, 600] * 2
        assert np.isfinite(sent.latency_ms).all()
        rows = 2 * 729 + 64  # and the first query, before the clock starts
        until(lambda: served() >= rows, f"statistics of {rows} rows")  # Triton counts after it has answered
        assert served() == rows


def test_failed_queries_are_endless_and_counted_by_message(server: Server, plan: Plan, pool: list[Ready]) -> None:
    bad = {name: array.copy() for name, array in samples.rows(plan, 100, np.random.default_rng(3)).items()}
    bad["user"][99] = 10_000
    mixed = [pool[0], queries.ready(plan, bad)]
    sent = open_loop.send(server.http_url, mixed, np.arange(20) / 50, np.arange(20) % 2, warmup_s=0.1, seconds=0.3)
    assert len(sent.latency_ms) == 15
    assert np.isinf(sent.latency_ms).sum() == 8  # the queries 5, 7, ... 19
    ((message, count),) = sent.errors.items()
    assert "id 10000" in message
    assert count == np.isinf(sent.latency_ms).sum()


def test_queries_that_would_fill_the_memory_are_not_sent(server: Server, pool: list[Ready], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "MOST_ON_THEIR_WAY", 5)
    sent = open_loop.send(server.http_url, pool, np.zeros(500), np.zeros(500, dtype=np.int64), warmup_s=0, seconds=1)
    assert len(sent.latency_ms) == 500
    assert sent.errors["not sent: too many queries were on their way"] == np.isinf(sent.latency_ms).sum() > 0


def test_an_interrupted_load_keeps_what_was_measured(server: Server, pool: list[Ready]) -> None:
    stop = threading.Event()
    times, same = np.arange(3000) / 100, np.zeros(3000, dtype=np.int64)
    sent = open_loop.send(server.http_url, Fateful(pool, 100, stop.set), times, same, warmup_s=0.1, seconds=30, timeout_s=60, stop=stop)
    assert sent.interrupted
    # Query 99 was sent, and of those due in the 0.1 s of the warm-up nothing is kept.
    assert 0.89 <= sent.seconds < 30
    assert 0 < len(sent.due_s) <= 90
    assert np.isfinite(sent.latency_ms).all()


def test_a_load_that_cannot_start_says_why(server: Server, plan: Plan, pool: list[Ready]) -> None:
    one = np.zeros(1, dtype=np.int64)
    with pytest.raises(RecsplitError, match=r"no server answers at 127\.0\.0\.1:1$"):
        open_loop.send("127.0.0.1:1", pool, np.zeros(1), one, warmup_s=0, seconds=1)
    bad = {name: array.copy() for name, array in samples.rows(plan, 3, np.random.default_rng(3)).items()}
    bad["user"][0] = 10_000
    with pytest.raises(RecsplitError, match=r"the first query failed: .*id 10000"):
        open_loop.send(server.http_url, [queries.ready(plan, bad)], np.zeros(1), one, warmup_s=0, seconds=1)
    many = open_loop.MOST_QUERIES + 1
    with pytest.raises(InputError, match="more than one run may have"):
        open_loop.send(server.http_url, pool, np.zeros(many), np.zeros(many, dtype=np.int64), warmup_s=0, seconds=1)


def test_a_live_run_tells_where_it_comes_from(server: Server, plan: Plan, pool: list[Ready]) -> None:
    run = live.measure(server.http_url, plan, SMALL, pool, np.random.default_rng(4), seconds=0.5, warmup_s=0.1)
    assert (run.model, run.version, run.rate) == ("tiny", plan.version, 100.0)
    assert run.workload["sizes"] == {"law": "uniform", "low": 1, "high": 9}
    assert {"machine", "versions", "commit"} <= set(run.provenance)
    assert len(run.sent_s) == pytest.approx(50, abs=1)
    summary = run.summary()
    assert summary["failed"] == 0 and summary["p50_ms"] <= summary["p95_ms"] <= summary["p99_ms"]


def test_the_hot_rows_of_a_law_reach_the_queries(plan: Plan) -> None:
    rng = np.random.default_rng(5)
    hot = samples.rows(plan, 2000, rng, draw=samples.by_law(ids.Zipf(1.5), rng))
    _, low, limit = samples.id_columns(plan.lookups, "user")[0]
    assert (hot["user"] == low + ids.at_rank(np.array([0]), limit - low)[0]).mean() == pytest.approx(
        ids.share(ids.Zipf(1.5), limit - low, 1), abs=0.05
    )


def test_a_size_law_of_one_size_makes_a_pool_of_it(plan: Plan) -> None:
    pool = queries.pool(plan, dataclasses.replace(SMALL, sizes=sizes.Fixed(3)), np.random.default_rng(0))
    assert {query.rows for query in pool} == {3}
