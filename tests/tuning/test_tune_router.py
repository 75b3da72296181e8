"""`recsplit tune` of a router: on a real server, whose settings change while it runs."""

import json
from pathlib import Path

import pytest

from recsplit.engine.compilation import unavailable
from recsplit.repository.find import find
from recsplit.repository.routers import settings_of
from recsplit.tuning.split import Split, of_routing
from tests.conftest import Run
from tests.perf.workloads import TOML

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import recsplit

    folder = tmp_path_factory.mktemp("router") / "models"
    for name in ("exact", "wide"):
        recsplit.build("recsplit.zoo.tiny:dlrm", out=folder, name=name, max_batch_size=64, form="fused", search_s=0)
    return folder


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(TOML.format(bound_ms=500).replace("high = 9", "high = 200"))
    return path


def test_both_climbs_go_on_a_server_and_a_better_router_is_published(run_here: Run, models: Path, workload: Path, tmp_path: Path) -> None:
    done = run_here("route", models, "--name", "shop", "--to", "exact", "--to", "wide", "--share", "wide=0", "--large", "100=wide")
    assert done.returncode == 0, done.stderr
    arguments = ("tune", models, "--workload", workload, "--seconds", "0.3", "--rounds", "1", "-o", tmp_path / "tuning")
    done = run_here(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["router"] == "shop"
    assert [step["split_rows"] for step in summary["parts"]][:3] == [16, 32, 64]
    assert summary["large"][0]["large_rows"] == 1
    assert summary["present"] == {"split_rows": 64, "large_rows": 100}
    routing = settings_of(models, "shop")
    most = find(models, "exact").plan.max_batch_size
    assert of_routing(routing, most) == Split(**(summary["chosen"] if summary["published"] else summary["present"]))
    again = run_here(*arguments, "--resume")
    assert again.returncode == 0, again.stderr
    assert "Parts of a query" in again.stdout and "Large queries, which go to wide" in again.stdout


def test_what_a_router_has_no_use_for_is_refused(run_here: Run, models: Path, workload: Path, tmp_path: Path) -> None:
    done = run_here("tune", models, "--model", "shop", "--workload", workload, "--live", "0", "-o", tmp_path / "tuning")
    assert done.returncode == 2
    assert "'shop' is a router" in done.stderr and "--live 0" in done.stderr
