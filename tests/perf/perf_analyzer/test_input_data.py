"""Input data for perf_analyzer, and the command that writes it."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsplit.repository.find import find
from recsplit.serving import Server
from recsplit_perf.perf_analyzer import input_data
from tests.conftest import Run


def entries(text: str) -> list[dict[str, Any]]:
    return list(json.loads(text)["data"])


def test_an_entry_is_a_row_without_the_batch_dimension() -> None:
    rows = {
        "dense": np.array([[1.5, 2.5], [3.5, 4.5]], dtype=np.float32),
        "user": np.array([7, 8]),
        "bags": np.arange(12).reshape(2, 2, 3),
    }
    first, second = entries(input_data.to_json(rows))
    assert first == {
        "dense": {"content": [1.5, 2.5], "shape": [2]},
        "user": {"content": [7], "shape": [1]},
        "bags": {"content": [0, 1, 2, 3, 4, 5], "shape": [2, 3]},
    }
    assert second["user"]["content"] == [8]


@pytest.mark.parametrize(("batch", "entries"), [(1, 256), (64, 256), (128, 512), (512, 2048), (1024, 1024), (2048, 2048)])
def test_no_row_repeats_in_a_request_and_perf_analyzer_starts_soon(batch: int, entries: int) -> None:
    assert input_data.entries_for(batch) == entries


def test_ids_are_inside_their_tables_and_a_seed_tells_the_file(tiny: Path, tmp_path: Path) -> None:
    plan = find(tiny).plan
    first, again, other = (tmp_path / name for name in "abc")
    input_data.write(first, plan, entries=200, seed=3)
    input_data.write(again, plan, entries=200, seed=3)
    input_data.write(other, plan, entries=200, seed=4)
    assert first.read_text() == again.read_text() != other.read_text()
    rows = entries(first.read_text())
    assert len(rows) == 200
    for name, limit in (("user", 1000), ("item", 400), ("tags", 100)):
        ids = [value for row in rows for value in row[name]["content"]]
        assert min(ids) >= 0
        assert max(ids) < limit


def test_the_command_line_shown_runs(run_here: Run, server: Server, tiny: Path, tmp_path: Path) -> None:
    done = run_here("perf-data", tiny, "-b", "8", "-o", tmp_path / "data.json", "--url", server.grpc_url, "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["entries"] == 256
    line = [argument.replace("--measurement-interval=2000", "--measurement-interval=300") for argument in shlex.split(shown["command"])]
    measured = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    assert measured.returncode == 0, measured.stderr
    assert "Inferences/Second vs. Client Average Batch Latency" in measured.stdout


def test_the_command_ends_with_the_command_line(run_here: Run, tiny: Path, tmp_path: Path) -> None:
    done = run_here("perf-data", tiny, "-b", "4", "-n", "12", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(entries((tmp_path / "tiny.perf.json").read_text())) == 12
    assert "-m tiny -u 127.0.0.1:8001 -i grpc" in done.stdout.splitlines()[-1]


def test_a_batch_that_the_model_refuses_is_refused_first(run_here: Run, tiny: Path, tmp_path: Path) -> None:
    done = run_here("perf-data", tiny, "-b", "65", cwd=tmp_path)
    assert done.returncode == 2
    assert "-b is 65, and 'tiny' takes 64 rows at most" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_build_is_refused(run_here: Run, tmp_path: Path) -> None:
    done = run_here("perf-data", tmp_path)
    assert done.returncode == 2
    assert "holds no ensemble that recsplit built" in done.stderr
