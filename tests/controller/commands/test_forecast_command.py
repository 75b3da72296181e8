"""`recsplit forecast`: any trace of requests per second, back-tested."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Run

BURSTS = Path("perf/scenarios/half-hourly-bursts.txt")


def test_a_trace_gives_errors_and_misses_of_every_forecaster(run_here: Run) -> None:
    shown = run_here("forecast", BURSTS, "--json")
    assert shown.returncode == 0, shown.stderr
    result = json.loads(shown.stdout)
    rows = {row["forecaster"]: row for row in result["forecasters"]}
    assert list(rows) == ["last_max", "ewm", "holt", "seasonal"]
    assert rows["last_max"]["error"] < rows["ewm"]["error"]
    assert result["oracle"]["misses"] < rows["last_max"]["controlled"]["misses"] < rows["last_max"]["alone"]["misses"]
    assert result["queries"] > 0 and result["seconds"] == 42 * 60


def test_a_column_is_read_and_an_lstm_trained_and_used(run_here: Run, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    table, weights = tmp_path / "trace.csv", tmp_path / "weights.safetensors"
    rates = np.tile(np.repeat([5, 20, 5], (80, 20, 20)), 80)
    table.write_text("second,requests\n" + "".join(f"{second},{rate}\n" for second, rate in enumerate(rates)))
    common = ("forecast", table, "--column", "requests", "--forecaster", "last_max", "--json")
    trained = run_here(*common, "--train", weights)
    assert trained.returncode == 0, trained.stderr
    used = run_here(*common, "--forecaster", f"lstm:{weights}")
    assert used.returncode == 0, used.stderr
    rows, again = (json.loads(shown.stdout)["forecasters"] for shown in (trained, used))
    assert rows == again
    assert rows[1]["error"] < rows[0]["error"] / 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.txt",), "can't be read"),
        ((BURSTS, "--forecaster", "oracle"), "no forecaster 'oracle'"),
        ((BURSTS, "--forecaster", "lstm:missing"), "missing can't be read"),
        ((BURSTS, "--train", "missing/weights"), "doesn't exist"),
        ((BURSTS, "--period-s", "3600"), "less than three periods"),
    ],
)
def test_what_cannot_be_used_is_told_with_a_hint(run_here: Run, arguments: tuple[str | Path, ...], said: str) -> None:
    shown = run_here("forecast", *arguments)
    assert shown.returncode == 2
    assert said in shown.stderr and "Traceback" not in shown.stderr
