"""Closed-loop load, and the command `perf run`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsplit.errors import RecsplitError
from recsplit.proof import samples
from recsplit.repository.find import find
from recsplit.serving import Server
from recsplit_perf.traffic import closed_loop
from tests.conftest import Run


@pytest.fixture(scope="module")
def queries(tiny: Path) -> list[dict[str, NDArray[Any]]]:
    rng = np.random.default_rng(0)
    return [dict(samples.rows(find(tiny).plan, batch, rng)) for batch in (3, 5)]


def test_every_answer_is_counted_and_timed(server: Server, queries: list[closed_loop.Query]) -> None:
    run = closed_loop.run(server.grpc_url, "tiny", queries, seconds=0.5, concurrency=3, warmup_s=0.1)
    assert run.requests == len(run.sent_s) == len(run.request_rows) > 3
    assert abs(int((run.request_rows == 3).sum()) - int((run.request_rows == 5).sum())) <= 1  # round robin
    assert run.rows == int(run.request_rows.sum())
    assert run.seconds >= 0.5 and run.seconds >= (run.sent_s + run.latency_ms / 1000).max()
    assert 0 <= run.sent_s.min() <= run.sent_s.max() < 0.5
    summary = run.summary()
    assert 0 < summary["p50_ms"] <= summary["p95_ms"] <= summary["p99_ms"] <= summary["max_ms"]
    assert summary["rows_per_s"] == pytest.approx(run.rows / run.seconds, rel=0.01)
    assert summary["failed"] == 0


def test_no_more_requests_are_on_their_way_than_asked(server: Server, queries: list[closed_loop.Query]) -> None:
    run = closed_loop.run(server.grpc_url, "tiny", queries, seconds=0.3, concurrency=2, warmup_s=0)
    ends = run.sent_s + run.latency_ms / 1000
    at_once = [int(((run.sent_s <= moment) & (ends > moment)).sum()) for moment in run.sent_s]
    assert max(at_once) <= 2


def test_a_load_is_bounded_in_count_too(server: Server, queries: list[closed_loop.Query]) -> None:
    run = closed_loop.run(server.grpc_url, "tiny", queries, seconds=3600, concurrency=4, max_requests=9, warmup_s=0)
    assert run.requests == 9  # and it ended, long before its time


def test_failed_requests_are_counted_by_message_and_not_timed(server: Server, queries: list[closed_loop.Query]) -> None:
    bad = {name: array.copy() for name, array in queries[0].items()}
    bad["user"][1] = 10_000
    run = closed_loop.run(server.grpc_url, "tiny", [queries[0], bad], seconds=60, concurrency=1, max_requests=10, warmup_s=0)
    assert (run.requests, run.failed) == (5, 5)
    (message,) = run.errors
    assert "id 10000" in message


def test_a_load_that_nobody_answers_ends_early_and_says_why(server: Server, queries: list[closed_loop.Query]) -> None:
    with pytest.raises(RecsplitError, match=r"answered none of \d+ requests: Request for unknown model: 'nobody'"):
        closed_loop.run(server.grpc_url, "nobody", queries, seconds=60, concurrency=2)


def test_the_command_serves_loads_and_keeps_every_latency(run_recsplit: Run, tiny: Path, tmp_path: Path) -> None:
    done = run_recsplit("perf", "run", tiny, "--seconds", "0.5", "--batch", "8", "-o", tmp_path / "samples.npz", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["model"], summary["batch"], summary["failed"]) == ("tiny", 8, 0)
    with np.load(tmp_path / "samples.npz") as arrays:
        assert len(arrays["latency_ms"]) == len(arrays["sent_s"]) == summary["requests"]


def test_the_command_asks_a_server_that_runs(run_here: Run, server: Server, tiny: Path) -> None:
    done = run_here("perf", "run", tiny, "--url", server.grpc_url, "--seconds", "0.3", "--concurrency", "2")
    assert done.returncode == 0, done.stderr
    assert "rows_per_s" in done.stdout
    assert "Starting Triton" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "65"], "--batch is 65, and 'tiny' takes 64 rows at most"),
        (["--model", "other"], "holds no ensemble 'other'"),
        (["-o", "/nowhere/samples.npz"], "the folder /nowhere doesn't exist"),
        (["--seconds", "0"], "0"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_before_anything_starts(run_here: Run, tiny: Path, arguments: list[str], message: str) -> None:
    done = run_here("perf", "run", tiny, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Starting Triton" not in done.stderr
