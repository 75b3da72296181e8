"""What the controller does when Triton fails: it is killed and comes back, refuses a load, or loses an instance's process."""

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from recsplit.plan.plan import Plan
from recsplit.serving import Server, serve
from recsplit_controller.actuate.triton import TritonActuator
from recsplit_controller.observe.scrape import ScrapeObserver
from recsplit_perf.processes.instances import instances
from tests.controller.faults.faults import HIGH, LOW, MODEL, NAME, TARGETS, Hooks, asked, controlled, lasts, steps
from tests.waiting import until

pytestmark = pytest.mark.slow


def observer(server: Server) -> ScrapeObserver:
    return ScrapeObserver([server.metrics_url], NAME, [target.model for target in TARGETS], window_s=3.0)


def actuator(server: Server, repository: Path) -> TritonActuator:
    return TritonActuator(server.grpc_url, repository, TARGETS)


def test_a_load_that_is_refused_leaves_what_runs_and_is_tried_again(heavy_server: Server, heavy: Path, hooks: Hooks, plan: Plan) -> None:
    hooks.refuse.touch()
    with controlled(observer(heavy_server), actuator(heavy_server, heavy)) as kept, asked(heavy_server.http_url, plan, HIGH) as load:
        until(lambda: kept.last.progress[MODEL].failures >= 1, "a refused load")
        assert "no memory for one more" in (kept.last.progress[MODEL].error or "")
        lasts(lambda: kept.observed() == 1 and len(instances(heavy_server.pid, MODEL)) >= 1, "the instance that runs", 2)
        hooks.refuse.unlink()
        until(lambda: (kept.observed() or 0) >= 2, "more instances once they can start")
        failures = [record.progress[MODEL].failures for record in kept.records]
        assert max(failures) < 5  # pauses between the trials
    assert load.failed == 0, load.errors


def test_a_dead_stub_is_healed_and_no_query_fails_from_then_on(heavy_server: Server, heavy: Path, plan: Plan) -> None:
    # One instance and no more: else a change of the count may happen to take the dead one away.
    only = [dataclasses.replace(target, maximum=1) for target in TARGETS]
    seeing, acting = observer(heavy_server), actuator(heavy_server, heavy)
    with controlled(seeing, acting, only) as kept, asked(heavy_server.http_url, plan, LOW) as load:
        until(lambda: (kept.last.observation.of(MODEL).requests or 0) > LOW / 2, "queries answered")
        (victim,) = instances(heavy_server.pid, MODEL)
        killed_s = time.time()
        os.kill(victim, signal.SIGKILL)
        until(
            lambda: any(outcome.action.kind == "heal" and outcome.error is None for r in kept.records for outcome in r.outcomes), "healing"
        )
        healed_s = time.time()
        until(lambda: not kept.last.ill, "a healthy model")
        assert victim not in instances(heavy_server.pid, MODEL)
        threading.Event().wait(3)
        end_s = time.time()
    assert load.failed_between(0, killed_s - 1) == 0
    assert load.failed_between(healed_s, end_s) == 0
    assert load.failed > 0  # or nothing was broken


def test_a_server_that_comes_back_with_old_counts_is_brought_up_again(heavy: Path, plan: Plan, tmp_path: Path) -> None:
    first = serve(heavy, log=tmp_path / "log")
    http, grpc, metrics = port(first.http_url), port(first.grpc_url), port(first.metrics_url.split("/")[2])
    with controlled(observer(first), actuator(first, heavy)) as kept:
        with asked(first.http_url, plan, HIGH) as load:
            until(lambda: (kept.observed() or 0) >= 3, "counts for the load")
        assert load.failed == 0, load.errors
        os.kill(first.pid, signal.SIGKILL)
        first.stop()
        until(lambda: kept.observed() is None, "a tick without a server")
        ticks = len(kept.records)
        until(lambda: len(kept.records) >= ticks + 4, "ticks without a server")
        assert "held" in kept.reason()
        assert not kept.failures
        seen = len(kept.records)
        with serve(heavy, http_port=http, grpc_port=grpc, metrics_port=metrics) as second:
            assert len(instances(second.pid, MODEL)) == 1
            with asked(second.http_url, plan, HIGH) as again:
                until(lambda: (kept.observed() or 0) >= 3, "counts for the load once more")
                assert len(instances(second.pid, MODEL)) >= 3
            assert again.failed == 0, again.errors
        assert min(steps(kept.records[seen:])) >= 1


def port(address: str) -> int:
    return int(address.rpartition(":")[2])
