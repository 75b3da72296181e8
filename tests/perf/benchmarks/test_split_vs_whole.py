"""The benchmark's arithmetic, and a short run of the whole of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recsplit_perf.benchmarks.split_vs_whole import command, summarize
from recsplit_perf.machine import provenance
from recsplit_perf.perf_analyzer.perf_analyzer import Measurement


def measured(rows_per_s: float, p50_ms: float) -> Measurement:
    return Measurement(8, 1, rows_per_s, p50_ms, p50_ms, p50_ms, 2 * p50_ms, 3 * p50_ms, 0.0, 0.0)


def test_ratios_are_taken_within_a_round() -> None:
    # A slow machine in the second round slows everything alike: the ratio must not notice.
    turns = [
        {"split": measured(900, 1), "legacy": measured(300, 3), "dynamo": measured(100, 9)},
        {"split": measured(90, 10), "legacy": measured(30, 30), "dynamo": measured(10, 90)},
        {"split": measured(800, 2), "legacy": measured(400, 4), "dynamo": measured(200, 8)},
    ]
    case = summarize(8, 1, turns)
    assert case.throughput_ratio == {"legacy": 3.0, "dynamo": 9.0}
    assert case.p50_ratio == {"legacy": 3.0, "dynamo": 9.0}
    assert case.rows_per_s == {"split": 800, "legacy": 300, "dynamo": 100}
    assert case.p95_ms["split"] == 4


def test_a_result_says_where_it_comes_from() -> None:
    origin = provenance()
    assert origin["machine"]["cores"] >= 1
    assert origin["machine"]["memory_gib"] > 0
    assert origin["versions"]["onnxruntime"]
    assert "pytest" in origin["command"]


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "recsplit_perf.benchmarks.split_vs_whole", "--batches", "1,16", "--rounds", "1", "--seconds", "0.3"]
    done = subprocess.run([*arguments, "--json", str(tmp_path / "out.json")], capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "one more step costs" in done.stdout
    result = json.loads((tmp_path / "out.json").read_text())
    assert [(case["batch"], case["concurrency"]) for case in result["cases"]] == [(1, 1), (1, 4), (16, 1), (16, 4)]
    assert result["largest_difference"] < 1e-4
    assert len(result["rounds"]) == 4 * 3


def test_a_batch_that_is_no_number_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command(["--batches", "1,many"])
    assert ended.value.code == 2
    assert "--batches" in capfd.readouterr().err
