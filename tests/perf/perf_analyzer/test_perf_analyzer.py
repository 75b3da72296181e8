"""perf_analyzer: found or fetched, run, read."""

import os
import subprocess
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from recsplit.errors import RecsplitError
from recsplit.repository.find import find
from recsplit.serving import Server, serve
from recsplit_perf.perf_analyzer import input_data, perf_analyzer
from tests.build.onnx_models import built
from tests.graph.small import table

#: What version 2.51.0 wrote for a model at two concurrencies, with -f and --verbose-csv.
REPORT = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,Avg latency,request/response,response wait
1,13019.8,28,271,73,31,4034,393,3,4694,5143,5469,7045,4836,31,4795
4,14847.1,24,1037,4398,125,10868,574,2,15893,22685,25583,42627,17030,26,17007
"""  # noqa: E501


def test_a_report_is_read_in_milliseconds_and_rows() -> None:
    first, second = perf_analyzer.parse(REPORT, batch=64)
    assert (first.batch, first.concurrency, first.rows_per_s) == (64, 1, 13019.8)
    assert (first.p50_ms, first.p95_ms, first.p99_ms, first.avg_ms) == (4.694, 5.469, 7.045, 4.836)
    assert (second.concurrency, second.queue_ms) == (4, 4.398)
    assert first.compute_ms == pytest.approx(0.031 + 4.034 + 0.393)


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (REPORT.splitlines()[0], "holds no measurement"),
        (REPORT.replace("p95 latency", "p95"), "can't be read: 'p95 latency'"),
        (REPORT.replace("4694", "soon"), "can't be read"),
    ],
)
def test_a_report_in_another_form_is_refused_with_its_text(report: str, message: str) -> None:
    with pytest.raises(RecsplitError, match=message) as caught:
        perf_analyzer.parse(report, batch=64)
    assert caught.value.detail == report


@pytest.mark.parametrize(("concurrency", "mode"), [(1, "--sync"), (15, "--sync"), (16, "--async")])
def test_many_requests_at_once_are_sent_without_a_thread_for_each(concurrency: int, mode: str) -> None:
    line = perf_analyzer.command_line("p", url="u", model="m", batch=1, load=concurrency, data=Path("zero"), seconds=3)
    assert mode in line
    assert "--measurement-interval=1000" in line


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert perf_analyzer.cache_folder().parent.parent == tmp_path
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert perf_analyzer.cache_folder().is_relative_to(tmp_path / "home" / ".cache")


def test_one_on_the_path_comes_first(analyzer: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "perf_analyzer").symlink_to(analyzer)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert perf_analyzer.find() == tmp_path / "perf_analyzer"


def test_one_on_the_path_that_does_not_start_is_passed_over(analyzer: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "perf_analyzer").write_text("#!/bin/sh\necho placeholder\n")
    (tmp_path / "perf_analyzer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert perf_analyzer.find_or_install(lambda _: nullcontext()) == analyzer


def test_it_starts_from_anywhere(analyzer: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(analyzer)
    done = subprocess.run([tmp_path / "linked", "--version"], cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert f"Perf Analyzer Version {perf_analyzer.VERSION}" in done.stderr + done.stdout


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_it_measures_a_served_ensemble(analyzer: Path, server: Server, tiny: Path, tmp_path: Path, protocol: str) -> None:
    path = tmp_path / "data.json"
    input_data.write(path, find(tiny).plan, entries=64, seed=0)
    url = server.grpc_url if protocol == "grpc" else server.http_url
    measurement = perf_analyzer.measure(analyzer, url=url, model="tiny", batch=16, load=2, data=path, seconds=0.9, protocol=protocol)  # type: ignore[arg-type]
    assert (measurement.batch, measurement.concurrency) == (16, 2)
    rate = perf_analyzer.Rate(50, "poisson")
    offered = perf_analyzer.measure(analyzer, url=url, model="tiny", batch=4, load=rate, data=path, seconds=1.8, protocol=protocol)  # type: ignore[arg-type]
    assert 0 < offered.rows_per_s < 400  # 200 are offered, and beside other load fewer are answered
    assert measurement.rows_per_s > 0
    assert 0 < measurement.p50_ms <= measurement.p95_ms <= measurement.p99_ms


@pytest.mark.parametrize(
    ("model", "batch", "message"),
    [
        ("nobody", 1, "perf_analyzer failed: failed to get model metadata: Request for unknown model: 'nobody' is not found"),
        ("tiny", 65, "inference request batch-size must be <= 64 for 'tiny'"),
    ],
)
def test_its_failure_is_told_in_its_words(
    analyzer: Path, server: Server, tiny: Path, tmp_path: Path, model: str, batch: int, message: str
) -> None:
    path = tmp_path / "data.json"
    input_data.write(path, find(tiny).plan, entries=128, seed=0)
    with pytest.raises(RecsplitError) as caught:
        perf_analyzer.measure(analyzer, url=server.grpc_url, model=model, batch=batch, load=1, data=path, seconds=0.3)
    assert message in str(caught.value)
    assert f"-m {model}" in caught.value.hint


def test_a_run_without_an_end_is_ended() -> None:
    with pytest.raises(RecsplitError, match=r"did not end within 0 s") as caught:
        perf_analyzer.run(["sleep", "30"], timeout_s=0.2)
    assert caught.value.detail == "sleep 30"


def test_it_measures_a_model_that_takes_half_precision(analyzer: Path, tmp_path: Path) -> None:
    """Its JSON has no numbers of half precision: they go in as bytes."""
    arrays = {"t": table(50, 8, dtype=np.float16), "w": table(4, 8, dtype=np.float16)}
    text = "(int64[N] ids, float16[N,4] x) => (float16[N,8] y) { v=Gather(t,ids) m=MatMul(x,w) y=Add(v,m) }"
    halves = built(tmp_path, text, arrays)
    path = tmp_path / "data.json"
    input_data.write(path, halves.plan, entries=16, seed=0)
    with serve(halves.repository) as running:
        measurement = perf_analyzer.measure(analyzer, url=running.grpc_url, model="m", batch=4, load=1, data=path, seconds=0.9)
    assert measurement.rows_per_s > 0
