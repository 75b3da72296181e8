"""What happens when the controller itself fails, or there are two: each one a process, on a real Triton under load."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recsplit.plan.plan import Plan
from recsplit.serving import Server
from recsplit_controller.actuate.triton import TritonActuator
from recsplit_controller.shell.journal import sessions
from recsplit_controller.values.tick import Tick
from recsplit_perf.processes.instances import instances
from recsplit_perf.processes.started import Started, started
from tests.conftest import Run
from tests.controller.faults.faults import HIGH, LOW, MODEL, TARGETS, Hooks, asked, lasts
from tests.waiting import until

pytestmark = pytest.mark.slow
#: The heavy model waits, and takes no cores: this machine's own are no bound.
SETTINGS = 'interval_s = 0.5\ndownscale_delay_s = 3.0\nperiod_s = 2.0\nforecaster = "last_max"\ncores = 64\n'


def arguments(server: Server, heavy: Path, folder: Path) -> list[str]:
    (folder / "settings.toml").write_text(SETTINGS)
    where = ["--metrics-url", server.metrics_url, "--grpc-url", server.grpc_url]
    return ["control", str(heavy), *where, "--settings", str(folder / "settings.toml"), "--journal", str(folder / "journal.jsonl")]


@contextmanager
def controller(server: Server, heavy: Path, folder: Path, name: str) -> Iterator[Started]:
    with started(arguments(server, heavy, folder), folder / name, announces=False) as running:
        yield running


def records(folder: Path) -> list[Tick]:
    path = folder / "journal.jsonl"
    return [record for session in sessions(path) for record in session.records] if path.exists() else []


def count(server: Server, heavy: Path) -> int | None:
    actuator = TritonActuator(server.grpc_url, heavy, TARGETS)
    try:
        return actuator.counts()[MODEL].serving
    finally:
        actuator.close()


def test_a_controller_killed_in_mid_change_leaves_a_good_server_and_its_successor_goes_on(
    heavy_server: Server, heavy: Path, hooks: Hooks, plan: Plan, tmp_path: Path
) -> None:
    hooks.slow.touch()
    with asked(heavy_server.http_url, plan, HIGH) as load:
        with controller(heavy_server, heavy, tmp_path, "first") as first:
            until(lambda: any(record.actions for record in records(tmp_path)), "a change under way")
            first.process.kill()
            first.process.wait()
        ticks = len(records(tmp_path))
        lasts(lambda: len(instances(heavy_server.pid, MODEL)) >= 1, "an instance", 1)
        hooks.slow.unlink()
        with controller(heavy_server, heavy, tmp_path, "second"):
            until(lambda: len(records(tmp_path)) > ticks, "the successor's first tick")
            until(lambda: (count(heavy_server, heavy) or 0) >= 3, "counts for the load")
    assert load.failed == 0, load.errors
    first_session, second_session = sessions(tmp_path / "journal.jsonl")
    assert not second_session.memory.held  # it knows only what it reads
    begun = second_session.records[0]
    assert begun.decisions[-1].count == begun.observation.counts[MODEL]
    assert first_session.records


def test_of_two_controllers_one_acts_and_the_other_is_refused_until_it_has_gone(
    heavy_server: Server, heavy: Path, plan: Plan, tmp_path: Path, run_recsplit: Run
) -> None:
    with asked(heavy_server.http_url, plan, LOW) as load:
        with controller(heavy_server, heavy, tmp_path, "first") as first:
            until(lambda: bool(records(tmp_path)), "the first tick")
            other = tmp_path / "other"
            other.mkdir()
            done = run_recsplit(*arguments(heavy_server, heavy, other))
            assert done.returncode != 0
            assert str(first.process.pid) in done.stderr  # who holds it
            assert "Hint: " in done.stderr
            assert not (other / "journal.jsonl").exists() or not records(other)
            ticks = len(records(tmp_path))
            until(lambda: len(records(tmp_path)) >= ticks + 3, "ticks of the first")
            # Looking on is no fighting.
            looked = run_recsplit(*arguments(heavy_server, heavy, other), "--dry-run", "--once")
            assert looked.returncode == 0, looked.stderr
            os.kill(first.process.pid, signal.SIGKILL)
            first.process.wait()
        # The kernel gave the lease back, however the first one ended.
        with controller(heavy_server, heavy, tmp_path, "second") as second:
            ticks = len(records(tmp_path))
            until(lambda: len(records(tmp_path)) > ticks, "the second's first tick")
            assert second.process.poll() is None
        threading.Event().wait(0.5)
    assert load.failed == 0, load.errors
