"""Runs: the verdict, the summary, and their files."""

from pathlib import Path

import numpy as np
import pytest

from recsplit.errors import InputError
from recsplit_perf.traffic import runs
from tests.perf.workloads import run_with


def test_a_run_is_read_as_it_was_saved(tmp_path: Path) -> None:
    run = run_with([1.0, np.inf, 3.0], errors={"no": 1}, interrupted=True)
    runs.save(run, tmp_path / "run.npz")
    saved_run = runs.read(tmp_path / "run.npz")
    assert saved_run.summary() == run.summary()
    assert (saved_run.latency_ms == run.latency_ms).all()
    assert (saved_run.query_rows == run.query_rows).all()
    assert saved_run.provenance == run.provenance


@pytest.mark.parametrize("content", [b"", b"PK no zip", b"{}"])
def test_a_file_that_is_no_run_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"run\.npz is not a run"):
        runs.read(tmp_path / "run.npz")
    with pytest.raises(InputError, match="can't be read: No such file"):
        runs.read(tmp_path / "gone.npz")


@pytest.mark.parametrize(
    ("latency_ms", "late_ms", "kept_up"),
    [
        (10.0, 0.2, True),
        (10.0, 4.9, True),  # under a tenth of the bound of 50 ms
        (10.0, 6.0, False),
        (90.0, 80.0, False),  # the server took 10 ms
        (90.0, 20.0, True),  # the server missed the bound by itself
    ],
)
def test_the_generator_is_the_bottleneck_where_it_is_late_and_the_server_is_not(latency_ms: float, late_ms: float, kept_up: bool) -> None:
    run = run_with([latency_ms] * 100, late_ms)
    assert run.kept_up is kept_up
    assert run.summary()["verdict"] == ("kept up" if kept_up else "generator could not keep up")


def test_a_lateness_of_few_queries_is_no_bottleneck() -> None:
    late_ms = np.zeros(100)
    late_ms[:5] = 200
    assert run_with([10.0] * 100, late_ms).kept_up
    late_ms[:6] = 200
    assert not run_with([10.0] * 100, late_ms).kept_up


def test_failures_are_in_the_percentiles_and_the_share_but_not_in_the_throughput() -> None:
    summary = run_with([10.0] * 96 + [np.inf] * 4, errors={"no": 4}).summary()
    assert (summary["p95_ms"], summary["p99_ms"], summary["failed"]) == (10.0, None, 4)
    assert summary["within_bound"] == 0.96
    assert summary["offered_per_s"] == 100
    assert summary["answered_per_s"] == pytest.approx(96, rel=0.01)
    assert summary["rows_per_s"] == pytest.approx(480, rel=0.01)


def test_answers_after_the_end_lower_the_throughput() -> None:
    assert run_with([1000.0] * 100).summary()["answered_per_s"] == pytest.approx(100 / 1.99, rel=0.01)
