"""`perf run --workload`, `perf search` and `perf compare`, as a user calls them."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient

from recsplit.serving import Server
from recsplit_perf.traffic import runs
from tests.conftest import Run
from tests.perf.workloads import TOML
from tests.waiting import until


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(TOML.format(bound_ms=500))
    return path


def test_a_workload_is_offered_and_its_runs_are_compared(run_here: Run, server: Server, tiny: Path, workload: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for file in files:
        done = run_here("perf", "run", tiny, "--url", server.http_url, "--workload", workload, "--seconds", "1", "-o", file, "--json")
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout)
        assert (summary["rate"], summary["failed"], summary["workload"]["name"]) == (60, 0, "small")
        assert len(runs.read(file).latency_ms) == summary["queries"]
    done = run_here("perf", "compare", *files, "--json")
    assert done.returncode == 0, done.stderr
    comparison = json.loads(done.stdout)
    assert [ratio["name"] for ratio in comparison["ratios"]] == ["p50_ms", "p95_ms", "p99_ms", "answered_per_s"]
    assert all(ratio["low"] <= ratio["ratio"] <= ratio["high"] for ratio in comparison["ratios"])
    assert comparison["differences"] == []


def test_closed_loops_are_compared_too_and_with_a_warning(run_here: Run, server: Server, tiny: Path, tmp_path: Path) -> None:
    for batch in ("2", "4"):
        arguments = ("--seconds", "0.5", "--batch", batch, "-o", tmp_path / f"{batch}.npz")
        assert run_here("perf", "run", tiny, "--url", server.grpc_url, *arguments).returncode == 0
    done = run_here("perf", "compare", tmp_path / "2.npz", tmp_path / "4.npz")
    assert done.returncode == 0, done.stderr
    assert "batch differs: 2 and 4" in done.stderr
    assert "B / A" in done.stdout


def test_a_run_that_is_interrupted_keeps_what_was_measured(server: Server, tiny: Path, workload: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recsplit", "perf", "run", str(tiny), "--url", server.http_url, "--workload", str(workload)]
    process = subprocess.Popen(
        [*command, "--seconds", "3600", "-o", str(tmp_path / "run.npz")], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "Offering" not in process.stderr.readline():
        assert process.poll() is None
    with InferenceServerClient(server.grpc_url) as client:

        def answered() -> int:
            (model_stats,) = client.get_inference_statistics("tiny", as_json=True)["model_stats"]
            return int(model_stats.get("execution_count", 0))

        before = answered()
        # 60 a second come in the warm-up, which is cut off; and those before it may still be written down.
        until(lambda: answered() >= before + 150, "queries after the warm-up")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "offered_per_s" in output
    run = runs.read(tmp_path / "run.npz")
    assert run.interrupted
    assert len(run.latency_ms) > 20


def test_a_search_keeps_its_trials_and_is_resumed(run_here: Run, server: Server, tiny: Path, workload: Path, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    arguments = ("perf", "search", tiny, "--url", server.http_url, "--workload", workload, "-o", folder, "--seconds", "0.3", "--json")
    first = run_here(*arguments, "--trials", "3")
    assert first.returncode == 0, first.stderr
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert sorted(before) == ["trial-001.npz", "trial-002.npz", "trial-003.npz"]
    again = run_here(*arguments)
    assert again.returncode == 2
    assert "holds trials of another search" in again.stderr and "--resume" in again.stderr
    more = run_here(*arguments, "--trials", "4", "--resume")
    assert more.returncode == 0, more.stderr
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {name: after[name] for name in before} == before
    assert json.loads(more.stdout)["trials"][:3] == json.loads(first.stdout)["trials"]
    other = workload.with_name("other.toml")
    other.write_text(TOML.format(bound_ms=70))
    refused = run_here("perf", "search", tiny, "--url", server.http_url, "--workload", other, "-o", folder, "--resume")
    assert refused.returncode == 2
    assert "is of another search" in refused.stderr


def test_a_bound_nobody_can_meet_is_an_error_that_says_so(run_here: Run, server: Server, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "strict.toml"
    path.write_text(TOML.format(bound_ms=0.01))
    done = run_here(
        *("perf", "search", tiny, "--url", server.http_url, "--workload", path, "-o", tmp_path / "s", "--seconds", "0.3", "--rate", "20")
    )
    assert done.returncode == 1
    assert "bound unreachable: p95 is" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "s").glob("trial-*.npz"))
    short = run_here("perf", "search", tiny, "--url", server.http_url, "--workload", path, "--seconds", "0.5", "--rate", "1")
    assert short.returncode == 2
    assert "--seconds 5" in short.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "5"], "--rate is for the open loop"),
        (["--workload", "{workload}", "--batch", "3"], "--batch is for the closed loop"),
        (["--workload", "{workload}", "--concurrency", "3"], "--concurrency is for the closed loop"),
        (["--workload", "/nowhere.toml"], "/nowhere.toml can't be read"),
        (["--workload", "{workload}", "--rate", "0"], "0"),
        (["--workload", "{workload}", "-o", "/nowhere/run.npz"], "the folder /nowhere doesn't exist"),
    ],
)
def test_options_that_contradict_are_refused(run_here: Run, tiny: Path, workload: Path, arguments: list[str], message: str) -> None:
    done = run_here("perf", "run", tiny, *[text.format(workload=workload) for text in arguments])
    assert done.returncode == 2
    assert message in done.stderr
    assert "Starting Triton" not in done.stderr


def test_a_server_that_is_not_there_is_told(run_here: Run, tiny: Path, workload: Path) -> None:
    done = run_here("perf", "run", tiny, "--url", "127.0.0.1:1", "--workload", workload)
    assert done.returncode == 1
    assert "no server answers at 127.0.0.1:1" in done.stderr


@pytest.mark.slow  # half a minute of measuring
def test_a_report_measures_what_it_is_not_given(run_recsplit: Run, tiny: Path, workload: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run_recsplit("report", tiny, "--workload", workload, "--seconds", "1", "-o", page, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["report"] == str(page)
    html = page.read_text()
    for title in ("The cut", "Latency and rate", "Workload", "Live and simulated", "Profile", "Memory"):
        assert f"<h2>{title}</h2>" in html
    kept = sorted(path.name for path in (tmp_path / "page").iterdir())
    assert kept[0] == "profile.json" and len(kept) == 6
    files = [argument for path in (tmp_path / "page").glob("*.npz") for argument in ("--run", path)]
    again = run_recsplit("report", tiny, *files, "--profile", tmp_path / "page/profile.json", "-o", tmp_path / "again.html")
    assert again.returncode == 0, again.stderr
    assert "<h2>Profile</h2>" in (tmp_path / "again.html").read_text()


def test_a_report_of_what_is_no_run_or_profile_is_refused(run_recsplit: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "no.npz").write_text("no")
    for arguments, said in (
        (("--run", "no.npz"), "no.npz"),
        (("--profile", "no.npz"), "no.npz"),
        (("--profile", "none.json"), "none.json can't be read"),
    ):
        done = run_recsplit("report", tiny, *arguments, "-o", "page.html", cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr and "Hint:" in done.stderr
        assert not (tmp_path / "page.html").exists()
