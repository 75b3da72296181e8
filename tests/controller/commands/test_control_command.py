"""`recsplit control` as a process: what it refuses, a decision that is done on a real Triton, a journal, and a gentle end."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from recsplit.commands.control import command
from recsplit.commands.control_shown import show_begin
from recsplit.serving import Server, serve
from recsplit_controller.core.policies import POLICIES
from recsplit_controller.shell.journal import sessions
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Settings, Target

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def server(light: Path) -> Iterator[Server]:
    with serve(light) as running:
        yield running


def where(server: Server) -> list[str]:
    return ["--metrics-url", server.metrics_url, "--grpc-url", server.grpc_url]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no DIR"),
        (["DIR"], "no server of yours on this machine serves"),
        (["DIR", "--grpc-url", "127.0.0.1:1"], "give --prometheus URL or --metrics-url URL"),
        (["DIR", "--metrics-url", "http://127.0.0.1:1/metrics", "--prometheus", "http://127.0.0.1:1"], "two ways to see one server"),
        (["DIR", "--grpc-url", "127.0.0.1:1", "--metrics-url", "ftp://x"], "no address of a metrics page"),
        (["DIR", "--grpc-url", "127.0.0.1:1", "--prometheus", "x"], "no address of a Prometheus"),
        (["DIR", "--grpc-url", "127.0.0.1:1", "--prometheus", "http://127.0.0.1:1", "--policy", "latency"], "needs bound_ms"),
        (["DIR", "--grpc-url", "127.0.0.1:1", "--prometheus", "http://127.0.0.1:1", "--control-key", "absent"], "can't be read"),
        (["DIR", "--grpc-url", "127.0.0.1:1", "--prometheus", "http://127.0.0.1:1", "--journal", "absent/journal"], "can't be written"),
        (["--replay", "absent"], "can't be read"),
        (["DIR", "--grpc-url", "127.0.0.1:1", "--prometheus", "http://127.0.0.1:1", "--select", "namespace"], "no label and value"),
        (["DIR", "--grpc-url", "127.0.0.1:1", "--prometheus", "http://me:secret@127.0.0.1:1"], "names a user"),
        (["DIR", "--grpc-url", "127.0.0.1:1", "--metrics-url", "http://me:secret@127.0.0.1:1/metrics"], "names a user"),
        (["DIR", "--grpc-url", "127.0.0.1:1", "--prometheus", "http://127.0.0.1:1", "--prometheus-http", "absent"], "can't be read"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(run_here: Run, light: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run_here("control", *(str(light) if each == "DIR" else each for each in arguments), "--dry-run", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("busy_share = 2.0", "busy_share is 2"),
        ("busy = 0.5", "unknown key 'busy'"),
        ("interval_s = true", "interval_s"),
        ("interval_s =", "not TOML"),
        ('forecaster = "oracle"', "no forecaster 'oracle'"),
        ("targets = 3", "expected a table for each target"),
        ("[targets.shop]\nminimum = 2", "no target 'shop'"),
        ("[targets.shop_dense]\nmaximum = 2.5", "maximum"),
        ("[targets.shop_dense]\nmodel = 'x'", "unknown key 'model'"),
        ("[targets.shop_dense]\nminimum = 9", "can't have 9 to 8"),
    ],
)
def test_settings_that_are_none_are_said_in_a_sentence(run_here: Run, light: Path, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    done = run_here("control", light, "--grpc-url", "127.0.0.1:1", "--prometheus", "http://127.0.0.1:1", "--dry-run", "--settings", file)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_one_decision_is_done_in_place_and_not_in_a_dry_run(run_here: Run, light: Path, server: Server, tmp_path: Path) -> None:
    """A minimum of two instances is nothing that waits for load."""
    file = tmp_path / "settings.toml"
    file.write_text("interval_s = 1\n[targets.shop_dense]\nminimum = 2\n")
    dry = run_here("control", light, *where(server), "--settings", file, "--once", "--json", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert {each["target"]: (each["count"]["serving"], each["wanted"]) for each in json.loads(dry.stdout)["decisions"]}["shop_dense"] == (
        1,
        2,
    )
    for observed in (1, 2):
        done = run_here("control", light, *where(server), "--settings", file, "--once", "--json", "--journal", tmp_path / "journal")
        assert done.returncode == 0, done.stderr
        decisions = {each["target"]: each for each in json.loads(done.stdout)["decisions"]}
        assert decisions["shop_dense"]["count"]["serving"] in (observed, 2)
    assert [len(session.records) for session in sessions(tmp_path / "journal")] == [2, 2]
    last = sessions(tmp_path / "journal")[1].records[1]
    assert last.observation.counts == {"shop_embedding": Count.steady(1), "shop_dense": Count.steady(2)}
    again = run_here("control", "--replay", tmp_path / "journal")
    assert again.returncode == 0, again.stderr
    assert "all as they were" in again.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_gently_and_its_journal_is_whole(light: Path, server: Server, tmp_path: Path, number: signal.Signals) -> None:
    file, journal = tmp_path / "settings.toml", tmp_path / "journal"
    file.write_text("interval_s = 0.2\n")
    line = [sys.executable, "-m", "recsplit", "control", str(light), *where(server), "--settings", str(file), "--json"]
    with subprocess.Popen([*line, "--journal", str(journal)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ticks = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert len(ticks[0]["decisions"]) == 2
    (session,) = sessions(journal)
    assert len(session.records) >= 3
    assert journal.read_bytes().endswith(b"\n")


def test_a_second_controller_of_the_same_server_is_refused(run_here: Run, light: Path, server: Server, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "recsplit", "control", str(light), *where(server), "--json"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as first:
        assert first.stdout is not None
        first.stdout.readline()
        second = run_here("control", light, "--once")  # finds the server by itself
        reading = run_here("control", light, "--once", "--dry-run")
        first.terminate()
    assert second.returncode == 1
    assert "another controller acts on" in second.stderr
    assert reading.returncode == 0, reading.stderr


def test_the_policies_that_can_be_asked_for_are_those_there_are() -> None:
    """The command has their names of its own, so that its help needs no import of the controller."""
    (option,) = [each for each in command.params if each.name == "policy"]
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(POLICIES)


def test_one_look_at_nothing_is_a_failure(run_here: Run, light: Path, tmp_path: Path) -> None:
    where = ["--grpc-url", "127.0.0.1:1", "--metrics-url", "http://127.0.0.1:1/metrics"]
    file = tmp_path / "settings.toml"
    file.write_text("interval_s = 0.1\n")
    done = run_here("control", light, *where, "--settings", file, "--dry-run", "--once")
    assert done.returncode == 1
    assert "nothing was seen" in done.stderr and "http://127.0.0.1:1/metrics" in done.stderr


def test_the_cores_that_are_shared_are_said_and_where_they_leave_no_room(capsys: pytest.CaptureFixture[str]) -> None:
    targets = [Target("shop_embedding", "e", "embedding", cores=2), Target("shop_dense", "d", "dense", cores=2)]
    show_begin(targets, Settings(cores=8.0), {})
    assert "sharing 8 cores" in (shown := capsys.readouterr().out) and "No room" not in shown
    show_begin(targets, Settings(cores=3.33), {})
    assert "No room for more: the fewest of all take 4 of 3.33 cores" in capsys.readouterr().out
    show_begin([Target("front", "m", "front", "replica")], Settings(), {})
    assert "cores" not in capsys.readouterr().out.replace("cores each", "")
