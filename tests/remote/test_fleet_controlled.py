"""`recsplit control --fleet` beside `recsplit serve --fleet --most`: a shard under load gets more servers, and no query fails."""

import json
import threading
from pathlib import Path

import pytest

from recsplit_perf.processes.started import started
from tests.conftest import Run
from tests.remote import sharded
from tests.remote.test_fleet import COLD, HOT, Load

SETTINGS = 'policy = "elasticrec"\nbound_ms = 50.0\ninterval_s = 1.0\n[targets.0]\nmax_qps = 5.0\n'


@pytest.mark.slow
def test_a_shard_under_load_gets_more_servers(tmp_path: Path, run_recsplit: Run) -> None:
    models = tmp_path / "models"
    sharded.write(models)
    (tmp_path / "settings.toml").write_text(SETTINGS)
    fleet = ["serve", str(models), "--fleet", "--replicas", f"front=1,{HOT}=1,{COLD}=1", "--most", f"{HOT}=2", "--json"]
    with started(fleet, tmp_path / "fleet.txt") as serving:
        servers, folder = serving.said["servers"], serving.said["control"]
        pages = [text for server in servers for text in ("--metrics-url", server["metrics_url"])]
        control = ["control", str(models), "--fleet", folder, *pages, "--settings", str(tmp_path / "settings.toml")]
        front = next(server["grpc_url"] for server in servers if server["part"] == "front")
        with started(control, tmp_path / "control.txt", announces=False) as controller, Load(front) as load:
            pause = threading.Event()
            for _ in range(600):
                if json.loads((Path(folder) / "state.json").read_text())["parts"][HOT]["running"] == 2:
                    break
                pause.wait(0.1)
            else:
                raise AssertionError(controller.errors.read_text())
            load.until(100)
            second = run_recsplit("control", models, "--fleet", folder, *pages, "--once")
        assert second.returncode == 1 and "another controller acts on" in second.stderr
        assert (load.failed, load.wrong) == ([], [])


def test_without_a_fleet_it_says_how_to_start_one(tmp_path: Path, run_recsplit: Run) -> None:
    sharded.write(tmp_path / "models")
    done = run_recsplit("control", tmp_path / "models", "--fleet", tmp_path, "--metrics-url", "http://127.0.0.1:1/metrics", "--once")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "no fleet answers" in done.stderr and "--most" in done.stderr
