"""`recsplit tune`, as a user calls it: on a real server, by the simulator alone, interrupted, and with mistakes."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recsplit.capacity.profile import to_json
from recsplit.repository.find import find
from recsplit.tuning.ledger import LEDGER_FILE, read_ledger
from recsplit_perf.profile import profiling
from tests.conftest import Run
from tests.perf.workloads import TOML
from tests.waiting import until

pytest.importorskip("numba")
pytest.importorskip("optuna")


@pytest.fixture(scope="module")
def profile(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    path.write_text(to_json(profiling.measure(find(tiny), seconds=2, rounds=1)))
    return path


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(TOML.format(bound_ms=500))
    return path


@pytest.fixture
def models(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "models"))


def test_the_simulator_alone_chooses_and_writes_nothing(run_here: Run, models: Path, workload: Path, profile: Path, tmp_path: Path) -> None:
    arguments = ("tune", models, "--workload", workload, "--profile", profile, "--live", "0", "--simulated", "6", "-o", tmp_path / "tuning")
    done = run_here(*arguments, "--cores", "40", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert len(summary["simulated"]) == 6 and summary["climb"] and summary["cores"] == 40
    assert summary["chosen"]["max_batch_size"] in (32, 64)
    assert (summary["published"], summary["live"]) == (None, [])
    assert find(models).plan.version == 1
    again = run_here(*arguments, "--cores", "40", "--json", "--resume")
    assert json.loads(again.stdout)["simulated"] == summary["simulated"]
    shown = run_here(*arguments, "--cores", "40", "--resume")
    assert "DeepRecSched's climb" in shown.stdout and "Nothing was written: no server was asked" in shown.stdout


def test_what_is_certainly_better_is_published_and_what_is_not_is_not(
    run_here: Run, models: Path, workload: Path, profile: Path, tmp_path: Path
) -> None:
    done = run_here(
        *("tune", models, "--workload", workload, "--profile", profile, "--simulated", "4", "--live", "1", "--rounds", "1"),
        *("--seconds", "0.5", "-o", tmp_path / "tuning", "--json"),
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert len(summary["live"]) == 2
    assert summary["live"][0]["setting"] == summary["present"]
    now = find(models)
    if summary["chosen"] == summary["present"]:
        assert (summary["published"], now.plan.version) == (None, 1)
    else:
        assert summary["published"] == now.plan.version == 2
        assert now.plan.max_batch_size == summary["chosen"]["max_batch_size"]
    assert not list(models.parent.glob(".recsplit*")), "nothing of the servers' is left"
    assert json.loads((tmp_path / "tuning" / "tuned.json").read_text()) == summary


def test_ctrl_c_keeps_what_was_tried(models: Path, workload: Path, profile: Path, tmp_path: Path) -> None:
    paths = {"--workload": workload, "--profile": profile, "-o": tmp_path / "tuning"}
    command = [sys.executable, "-m", "recsplit", "tune", str(models), "--simulated", "60", "--live", "0"]
    command += [word for option, path in paths.items() for word in (option, str(path))]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ledger = tmp_path / "tuning" / LEDGER_FILE
    until(lambda: ledger.exists() and len(read_ledger(ledger)[1]) >= 3, "three settings that were tried")
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "--resume goes on with it" in said
    assert len(read_ledger(ledger)[1]) >= 3


@pytest.mark.parametrize(
    ("more", "words", "hint"),
    [
        (["--cores", "4000"], "this machine has", "--live 0"),
        (["--model", "nothing"], "holds no ensemble 'nothing'", "it holds"),
        (["--profile", "none.json"], "none.json can't be read", "recsplit profile"),
        (["--workload", "none"], "none", "recsplit brings workloads"),
    ],
)
def test_mistakes_are_told(run_here: Run, tiny: Path, workload: Path, tmp_path: Path, more: list[str], words: str, hint: str) -> None:
    done = run_here("tune", tiny, "--workload", workload, "-o", tmp_path / "tuning", *more)
    assert done.returncode == 2
    assert words in done.stderr and hint in done.stderr


def test_another_tuning_is_not_written_over(run_here: Run, tiny: Path, workload: Path, profile: Path, tmp_path: Path) -> None:
    arguments = ("tune", tiny, "--workload", workload, "--profile", profile, "--live", "0", "--simulated", "1", "-o", tmp_path / "tuning")
    assert run_here(*arguments).returncode == 0
    done = run_here(*arguments)
    assert done.returncode == 2
    assert "holds another tuning" in done.stderr and "--resume" in done.stderr
