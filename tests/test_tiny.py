"""The whole path in seconds: the tiny model from the zoo is built, proved again, damaged, and served."""

import importlib.util
import json
from pathlib import Path

import pytest

from recsplit.plan.plan import UNKNOWN_IDS
from recsplit.repository.find import find
from tests.conftest import Run

SPEC = "recsplit.zoo.tiny:dlrm"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny") / "models"


def test_the_tiny_model_is_built_and_proved(models: Path, run_here: Run) -> None:
    done = run_here("build", SPEC, "-o", models, "--name", "tiny", "--max-batch-size", "256", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert all(item["ok"] for item in answer["differences"])
    assert sorted(folder.name for folder in models.iterdir()) == ["tiny", "tiny_dense", "tiny_embedding"]
    plan = find(models).plan
    assert {(item.name, item.rows, item.dim) for item in plan.tables} == {("user", 1000, 8), ("item", 400, 8), ("tags", 100, 8)}
    assert {(item.table, item.pooling, item.limit) for item in plan.lookups} == {
        ("user", "none", 1000),
        ("item", "none", 400),
        ("tags", "mean", 100),
    }
    assert [item.name for item in plan.inputs] == ["dense", "user", "item", "tags"]
    assert UNKNOWN_IDS in [item.name for item in plan.outputs]


def test_it_is_proved_again_by_its_records(models: Path, run_here: Run) -> None:
    done = run_here("verify", models, "--json")
    assert done.returncode == 0, done.stderr
    differences = json.loads(done.stdout)
    assert differences and all(item["ok"] for item in differences)
    assert {item["stage"] for item in differences} >= {"source - whole", "whole - parts", "whole - parts, threaded"}


def test_a_damaged_table_is_found(models: Path, run_here: Run) -> None:
    tables = models / "tiny_embedding" / "1" / "tables.bin"
    data = tables.read_bytes()
    tables.write_bytes(data[8:] + data[:8])
    try:
        done = run_here("verify", models, "--json")
    finally:
        tables.write_bytes(data)
    assert done.returncode == 1 and "do not hold" in done.stderr
    assert not all(item["ok"] for item in json.loads(done.stdout))


@pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason="no Triton here: pip install 'recsplit[local]'")
def test_it_is_served_and_answers_as_the_source_did(models: Path, run_here: Run) -> None:
    done = run_here("verify", models, "--served", "--json")
    assert done.returncode == 0, done.stderr
    served = [item for item in json.loads(done.stdout) if "served" in item["stage"]]
    assert {item["stage"] for item in served} == {"source - served, gRPC", "source - served, HTTP"}
    assert all(item["ok"] for item in served)
