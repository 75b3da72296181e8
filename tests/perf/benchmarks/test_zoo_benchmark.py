"""The benchmark that builds, proves, serves and profiles the published models."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from recsplit.engine.compilation import unavailable
from recsplit_perf.benchmarks import zoo


@pytest.mark.slow
def test_one_model_goes_all_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSPLIT_ZOO_ROWS_SCALE", "0.001")
    page, result = tmp_path / "zoo.md", tmp_path / "zoo.json"
    done = CliRunner().invoke(zoo.command, ["--model", "ncf", "--seconds", "3", "-o", str(page), "--json", str(result)])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(result.read_text())["models"]
    assert row["model"] == "ncf"
    # Source, whole, parts, single rows, threads, the server over gRPC and HTTP, marks among them; and the engine, where there is one.
    assert row["comparisons"] == (13 if unavailable() is None else 9)
    assert row["rows_scale"] == 0.001
    assert row["error"] <= 1e-5
    assert all(row[part]["b_ms"] > 0 for part in ("whole", "embedding", "dense"))
    assert page.read_text().count("| ncf |") == 1
