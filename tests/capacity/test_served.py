"""Profiles as pools, and the command `simulate`."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from recsplit.capacity import served
from recsplit.capacity.profile import curve, to_json
from recsplit.capacity.simulate import simulate
from recsplit.errors import InputError
from tests.capacity.profiles import small
from tests.conftest import Run

WORKLOAD = """
name = "{name}"
[latency]
bound_ms = {bound_ms}
percentile = 95
[sizes]
law = "fixed"
size = 100
[arrivals]
process = "poisson"
rate = 50.0
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "profile.json").write_text(to_json(small()))
    (tmp_path / "workload.toml").write_text(WORKLOAD.format(name="even", bound_ms=20.0))
    return tmp_path / "profile.json", tmp_path / "workload.toml"


def test_a_query_alone_takes_what_was_measured() -> None:
    """The samples are 0.9, 1 and 1.2 times the median, so the median query is the median of the whole."""
    profile = small()
    arrivals = np.arange(2000.0)
    simulation = simulate(served.pools(profile, {}), arrivals, np.full(2000, 8), cores=served.cores(profile, 2))
    assert np.median(simulation.latency_ms) == pytest.approx(profile.whole.median_ms[1], rel=0.05)


def test_latencies_vary_as_much_as_was_measured() -> None:
    """The sub-models' times vary by themselves; the rest of the whole's variance comes from wake-ups."""
    profile = dataclasses.replace(small(), cpu_ms=(0.2,) * len(small().whole.x))
    simulation = simulate(served.pools(profile, {}), np.arange(5000.0), np.full(5000, 8), cores=served.cores(profile, 2))
    assert simulation.latency_ms.std() == pytest.approx(np.std(profile.whole.samples_ms[1]), rel=0.05)


def test_wake_ups_that_take_no_time_at_one_size_make_no_query_wait_for_seconds() -> None:
    """Where parts and processor time already make up the whole, nothing is left for waking up; its spread is no ratio to that."""
    profile = small()
    first, *others = profile.whole.samples_ms
    fast = dataclasses.replace(profile, cpu_ms=(0.05, 0.05, 0.05), whole=curve(profile.whole.x, [[0.6 * ms for ms in first], *others]))
    for rows in (1, 2, 3, 4, 8, 64):
        simulation = simulate(served.pools(fast, {}), np.arange(2000.0), np.full(2000, rows), cores=served.cores(fast, 2))
        assert simulation.latency_ms.max() < 3 * profile.whole.median_ms[-1]


def test_cores_are_used_as_the_processes_were_seen_to() -> None:
    profile = small()
    idler = dataclasses.replace(profile, parts=tuple(dataclasses.replace(part, cores=0.5) for part in profile.parts))
    assert [pool.cores for pool in served.pools(idler, {})[2:]] == [0.5, 0.5]


def test_contention_is_that_of_the_profile() -> None:
    assert served.cores(small(), 2).slowdown == pytest.approx(4 / 3)
    quiet = small()
    quiet = dataclasses.replace(quiet, parts=tuple(dataclasses.replace(part, contended=None) for part in quiet.parts))
    assert served.cores(quiet, 2).slowdown == 1


def test_the_wire_computes_what_was_measured_and_waits_for_the_rest() -> None:
    quiet = small()
    rows = list(quiet.whole.x)
    cheap = dataclasses.replace(quiet, cpu_ms=(0.25,) * len(rows))
    for profile in (quiet, cheap):
        busy, idle, *parts = served.pools(profile, {})
        times_ms = [pool.servers[0].table_ms(rows[-1])[rows] for pool in (busy, idle, *parts)]
        np.testing.assert_allclose(np.sum(times_ms, axis=0), profile.whole.median_ms, rtol=0.05)  # medians don't quite add up
        np.testing.assert_allclose(times_ms[0], profile.cpu_ms, rtol=0.02)
        assert (busy.cores, idle.cores) == (1, 0)


def test_processor_time_beyond_the_latency_is_spent_all_the_same() -> None:
    """Triton and the client may compute side by side, more than the wire's share of the latency."""
    costly = dataclasses.replace(small(), cpu_ms=(50.0,) * len(small().whole.x))
    busy, idle = served.pools(costly, {})[:2]
    assert busy.servers[0].table_ms(8)[8] == pytest.approx(50)
    assert idle.servers[0].table_ms(8)[8] < 0.01


def test_instances_are_those_asked_for_or_those_measured() -> None:
    wire, wake_ups, embedding, dense = served.pools(small(), {"dense": 3})
    assert (len(embedding.servers), len(dense.servers)) == (1, 3)
    assert (wire.after, wake_ups.after, embedding.after, dense.after) == ((), ("wire",), ("wake-ups",), ("embedding",))
    with pytest.raises(InputError, match="0 dense instances"):
        served.pools(small(), {"dense": 0})


def test_the_command_tells_latencies_and_the_largest_rate(run_here: Run, files: tuple[Path, Path]) -> None:
    profile, workload = files
    done = run_here("simulate", profile, "--workload", workload, "--cores", "2", "--search", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["queries"] == pytest.approx(30_000, rel=0.05)
    assert 0 < report["p50_ms"] <= report["p95_ms"] <= report["p99_ms"]
    assert [pool["servers"] for pool in report["pools"]] == [None, None, 1, 1]
    assert report["throughput"]["low"] <= report["throughput"]["rate"] <= report["throughput"]["high"]
    at = run_here("simulate", profile, "--workload", workload, "--cores", "2", "--rate", str(report["throughput"]["rate"]), "--json")
    assert json.loads(at.stdout)["p95_ms"] == pytest.approx(20, rel=0.25)
    more = run_here("simulate", profile, "--workload", workload, "--cores", "8", "--instances", "embedding=2,dense=2", "--search")
    assert "Up to" in more.stdout
    assert "p95 within 20 ms" in more.stdout


def test_a_bound_that_nobody_can_meet_is_said_so(run_here: Run, files: tuple[Path, Path]) -> None:
    profile, workload = files
    workload.write_text(WORKLOAD.format(name="hopeless", bound_ms=0.5))
    done = run_here("simulate", profile, "--workload", workload, "--search")
    assert done.returncode == 0, done.stderr
    assert "No rate has p95 within 0.5 ms: a single query takes longer" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--instances", "embedding:2"], "--instances has 'embedding:2'"),
        (["--instances", "dense=0"], "0 dense instances serve nobody"),
        (["--rate", "0"], "0"),
        (["--seconds", "0.00001"], "no query arrives"),
    ],
)
def test_bad_options_are_refused(run_here: Run, files: tuple[Path, Path], arguments: list[str], message: str) -> None:
    done = run_here("simulate", files[0], "--workload", files[1], *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_file_that_is_no_profile_is_refused(run_here: Run, files: tuple[Path, Path]) -> None:
    done = run_here("simulate", files[1], "--workload", files[1])
    assert done.returncode == 2
    assert "is not JSON" in done.stderr
    assert "recsplit profile DIR" in done.stderr
    done = run_here("simulate", "/nowhere.json", "--workload", files[1])
    assert done.returncode == 2
    assert "/nowhere.json" in done.stderr


def test_the_profile_of_a_sharded_model_is_refused_rather_than_half_simulated() -> None:
    with pytest.raises(InputError, match="sharded"):
        served.pools(small(roles=("embedding", "shard", "dense")), {})
