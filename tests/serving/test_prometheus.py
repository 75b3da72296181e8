"""`recsplit serve --prometheus`: it scrapes the server, and nothing of it stays behind."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsplit.serving.ports import choose
from tests.conftest import Run
from tests.kubernetes.prometheus import BINARY, TOOLS, Prometheus
from tests.serving.conftest import processes
from tests.waiting import until


@pytest.fixture
def served(tiny: Path) -> Iterator[tuple["subprocess.Popen[str]", dict[str, str]]]:
    if BINARY is None:
        pytest.skip("prometheus is not installed (Debian's package of that name)")
    command = [sys.executable, "-m", "recsplit", "serve", str(tiny), "--prometheus", "--json"]
    environment = os.environ | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def wait_until_gone(folder: Path) -> None:
    until(lambda: not processes(folder.name) and not folder.exists(), f"the end of {folder} and its processes")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_scrapes_the_server_and_ends_with_it(served: tuple["subprocess.Popen[str]", dict[str, str]], number: signal.Signals) -> None:
    process, announcement = served
    until(lambda: Prometheus(announcement["prometheus_url"]).query("recsplit:up == 1"), "a scrape of the server")
    address = announcement["prometheus_url"].removeprefix("http://")
    (pid,) = processes(f"--web.listen-address={address}")
    arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    folder = Path(next(argument for argument in arguments if argument.startswith("--config.file=")).partition("=")[2]).parent
    assert address.startswith("127.0.0.1:") and folder.is_dir()
    process.send_signal(number)
    process.wait(120)
    wait_until_gone(folder)


def test_a_machine_without_prometheus_is_told_where_it_comes_from(repository: Path, tmp_path: Path, run_recsplit: Run) -> None:
    serve_run = run_recsplit("serve", repository / "model_repository", "--prometheus", env={"PATH": str(tmp_path)})
    assert serve_run.returncode == 2
    assert "no prometheus on PATH" in serve_run.stderr and "apt install prometheus" in serve_run.stderr


def test_it_takes_the_port_and_prints_a_line_of_control_that_works(tiny: Path, run_recsplit: Run) -> None:
    if BINARY is None:
        pytest.skip("prometheus is not installed (Debian's package of that name)")
    port = choose("127.0.0.1", {"Prometheus": None})["Prometheus"]
    command = [sys.executable, "-m", "recsplit", "serve", str(tiny), "--prometheus", "--prometheus-port", str(port)]
    environment = os.environ | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            line = next(line.strip() for line in process.stdout if line.strip().startswith("recsplit control "))
            assert Prometheus(f"http://127.0.0.1:{port}").get("rules")["groups"]
            arguments = [*shlex.split(line)[1:], "--once", "--dry-run"]
            until(lambda: run_recsplit(*arguments).returncode == 0, "a look at the server through its Prometheus")
        finally:
            process.terminate()


def test_a_port_without_prometheus_is_a_mistake(tiny: Path, run_recsplit: Run) -> None:
    done = run_recsplit("serve", tiny, "--prometheus-port", "9090")
    assert done.returncode == 2 and "goes with --prometheus" in done.stderr
