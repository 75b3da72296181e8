"""`recsplit serve` as a process: what it prints, how it ends."""

import http
import ipaddress
import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

import recsplit
from recsplit.engine.compilation import make, unavailable
from recsplit.serving import notes
from recsplit.serving.upkeep import watch
from tests.conftest import Run
from tests.serving import handmade
from tests.serving.conftest import processes
from tests.serving.test_answers import ask, query
from tests.waiting import until


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return handmade.write(tmp_path_factory.mktemp("command") / "a shop")


@contextmanager
def start(*arguments: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """`recsplit serve ARGUMENTS...`, killed on the way out where the test did not end it: its guard does the rest."""
    command = [sys.executable, "-m", "recsplit", "serve", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: "subprocess.Popen[str]", last: str) -> str:
    return lines_until(process, process.stdout, last)


def lines_until(process: "subprocess.Popen[str]", stream: IO[str] | None, last: str) -> str:
    assert stream is not None
    text = ""
    for line in stream:
        text += line
        if last in line:
            return text
    raise AssertionError(f"it ended after {text!r}: {process.communicate()[1]}")


def test_it_prints_where_it_listens_and_a_request_that_works_and_stops_on_ctrl_c(folder: Path) -> None:
    with start(folder) as process:
        text = read_until(process, "Ctrl-C stops the server")
        assert re.search(r"^HTTP +127\.0\.0\.1:\d+ *$", text, re.MULTILINE)
        assert re.search(r"^metrics +http://127\.0\.0\.1:\d+/metrics *$", text, re.MULTILINE)
        assert re.search(r"^shop_embedding +READY *$", text, re.MULTILINE)
        curl = re.search(r"^  (curl .*)$", text, re.MULTILINE)
        assert curl is not None
        if shutil.which("curl"):
            answer = json.loads(subprocess.check_output(["bash", "-c", f"{curl[1]} --silent --fail"], text=True))
            assert {output["name"] for output in answer["outputs"]} == {"score", "unknown_ids"}
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "Stopped: what was in flight is answered, and nothing is left running." in errors


def test_json_is_one_line_and_a_termination_is_as_gentle_as_ctrl_c(folder: Path) -> None:
    with start(folder, "--json", "--model", "shop_dense") as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["models"] == {"shop": "", "shop_dense": "READY", "shop_embedding": ""}
        assert processes(f"--http-port={ready['http_url'].rpartition(':')[2]}") == [ready["pid"]]
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (0, "")
    assert "Stopped" in errors
    assert not Path(f"/proc/{ready['pid']}").exists()


def test_it_says_so_when_the_server_dies(folder: Path, tmp_path: Path) -> None:
    with start(folder, "--json", "--no-restart", "--log", tmp_path / "triton.log") as process:
        assert process.stdout is not None
        os.kill(json.loads(process.stdout.readline())["pid"], signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Error: the Triton server ended by itself (signal SIGKILL)" in errors
    assert "Started HTTPService" in errors
    assert f"Hint: the whole log is in {tmp_path / 'triton.log'}" in errors


def read_errors_until(process: "subprocess.Popen[str]", last: str) -> str:
    return lines_until(process, process.stderr, last)


def test_a_server_that_ends_by_itself_is_started_again_with_the_same_addresses_and_key(folder: Path) -> None:
    with start(folder, "--json") as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        (before,) = notes.serving(folder)
        os.kill(first["pid"], signal.SIGKILL)
        assert "ended by itself (signal SIGKILL). It is started again" in read_errors_until(process, "is ready again")
        (after,) = notes.serving(folder)
        assert after.pid != before.pid
        assert (after.http_url, after.grpc_url, after.metrics_url, after.key) == (
            before.http_url,
            before.grpc_url,
            before.metrics_url,
            before.key,
        )
        with urllib.request.urlopen(f"http://{after.http_url}/v2/models/shop/ready") as answer:
            assert answer.status == http.HTTPStatus.OK
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert notes.serving(folder) == ()


def test_a_server_that_ends_again_and_again_is_given_up(folder: Path) -> None:
    with start(folder, "--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(3):
            (note,) = notes.serving(folder)
            os.kill(note.pid, signal.SIGKILL)
            read_errors_until(process, "is ready again")
        (note,) = notes.serving(folder)
        os.kill(note.pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Error: the Triton server ended by itself" in errors


def test_an_instance_whose_process_died_is_replaced(folder: Path) -> None:
    with start(folder, "--json") as process:
        assert process.stdout is not None
        server = json.loads(process.stdout.readline())
        private = Path(f"/proc/{server['pid']}/cwd").resolve().name
        victims = {model: min(watch.processes(private)[model, 1]) for model in ("shop_dense", "shop_embedding")}
        os.kill(victims["shop_dense"], signal.SIGKILL)
        read_errors_until(process, "An instance of 'shop_dense' has died")
        os.kill(victims["shop_embedding"], signal.SIGKILL)  # while the other one is replaced
        read_errors_until(process, "The instances of 'shop_dense' were replaced in")
        read_errors_until(process, "The instances of 'shop_embedding' were replaced in")
        assert not {victims[model] for model in victims} & {pid for pids in watch.processes(private).values() for pid in pids}
        assert len(watch.processes(private)["shop_embedding", 1]) == len(watch.processes(private)["shop_dense", 1]) == 1
        with grpc.InferenceServerClient(server["grpc_url"]) as client:
            sparse, dense = query(3)
            np.testing.assert_allclose(ask(grpc, client, sparse, dense).as_numpy("score"), handmade.expected(sparse, dense), rtol=1e-5)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_what_somebody_edited_in_a_config_is_there_after_instances_were_replaced(tmp_path: Path) -> None:
    recsplit.build("recsplit.zoo.tiny:dlrm", out=tmp_path / "models", name="shop", embedding_runtime="onnxruntime", search_s=0)
    config = tmp_path / "models" / "shop_dense" / "config.pbtxt"
    config.write_text(config.read_text() + '\nparameters { key: "edited" value { string_value: "by hand" } }\n')

    def edited(address: str) -> str | None:
        with urllib.request.urlopen(f"http://{address}/v2/models/shop_dense/config") as answer:
            value = json.load(answer)["parameters"].get("edited", {}).get("string_value")
            return None if value is None else str(value)

    with start(tmp_path / "models", "--json") as process:
        assert process.stdout is not None
        server = json.loads(process.stdout.readline())
        assert edited(server["http_url"]) == "by hand"
        os.kill(min(watch.processes(Path(f"/proc/{server['pid']}/cwd").resolve().name)["shop_dense", 1]), signal.SIGKILL)
        read_errors_until(process, "The instances of 'shop_dense' were replaced in")
        assert edited(server["http_url"]) == "by hand"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--open-control"], ["Warning: Model control is open", "run code as"]),
        (["--host", "0.0.0.0"], ["Listening beyond this machine, without TLS or passwords", "Model control is closed."]),
        (["--host", "0.0.0.0", "--open-control"], ["Warning: Model control is open", "Model control is open, too."]),
        ([], []),
    ],
)
def test_it_says_what_it_opens_and_to_whom(folder: Path, arguments: list[str], words: list[str]) -> None:
    with start(folder, "--json", *arguments) as process:
        assert process.stdout is not None
        server = json.loads(process.stdout.readline())
        for name in ("http_url", "grpc_url", "metrics_url"):
            port = int(server[name].removesuffix("/metrics").rpartition(":")[2])
            everyone = "::" if name == "grpc_url" else "0.0.0.0"  # gRPC takes 0.0.0.0 for IPv6 as well
            assert listening(port) == {everyone if "--host" in arguments else "127.0.0.1"}
        with grpc.InferenceServerClient(server["grpc_url"]) as client:
            assert can_load(client) == ("--open-control" in arguments)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert all(text in errors for text in words)
    assert words or "Warning" not in errors


def listening(port: int) -> set[str]:
    """The addresses on which anybody listens at a port, as the kernel tells (man 5 proc, /proc/net/tcp); gRPC's sockets are IPv6 ones."""
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            host, _, local_port = local.partition(":")
            if state == "0A" and int(local_port, 16) == port:  # TCP_LISTEN
                words = struct.pack(f"={len(host) // 8}I", *(int(host[place : place + 8], 16) for place in range(0, len(host), 8)))
                address = ipaddress.ip_address(words)
                addresses.add(str(getattr(address, "ipv4_mapped", None) or address))
    return addresses


def can_load(client: "grpc.InferenceServerClient") -> bool:
    try:
        client.load_model("shop")
    except InferenceServerException as error:
        if "restricted" not in str(error):
            raise
        return False
    return True


def test_ctrl_c_while_it_loads_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "triton.log"
    with start(folder, "--log", log) as process:
        until(lambda: log.exists() and "loading: shop_embedding" in log.read_text(), "a model that loads")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        name = re.search(r"recsplit-serve-\w+", Path(f"/proc/{children[0]}/cmdline").read_text())
        assert name is not None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode in {0, 130}, "0 where it was ready by then"
    assert "Traceback" not in errors
    until(lambda: processes(name[0]) == [], f"the end of {name[0]}")  # a killed process takes its moment


NEW_KEY = "$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')"
RESTRICTIONS = ("grpc-restricted-protocol", "http-restricted-api")


def test_docker_prints_a_command_that_serves_the_same_folder(folder: Path, run_here: Run) -> None:
    result = run_here("serve", folder, "--docker", "--http-port", "9000", "--image", "registry.example/team/tritonserver:24.10-py3")
    assert result.returncode == 0, result.stderr
    words = shlex.split(result.stdout.replace("\\\n", " "))
    assert words[:3] == ["docker", "run", "--rm"]
    assert "127.0.0.1:9000:8000" in words
    assert "127.0.0.1:8001:8001" in words
    assert f"type=bind,source={folder},target=/models,readonly" in words
    assert words[words.index("registry.example/team/tritonserver:24.10-py3") + 1 :] == [
        "tritonserver",
        "--model-repository=/models",
        "--model-control-mode=explicit",
        "--load-model=shop",
        "--disable-auto-complete-config",
        "--metrics-config=summary_latencies=true",
        *(f"--{option}=model-repository,logging,trace:recsplit-control={NEW_KEY}" for option in RESTRICTIONS),
    ]
    assert "--gpus=all" not in words
    keys = [subprocess.check_output(["bash", "-c", f'printf %s "{NEW_KEY}"'], text=True) for _ in range(2)]
    assert keys[0] != keys[1] and all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)
    opened = run_here("serve", folder, "--docker", "--host", "0.0.0.0", "--open-control")
    assert "restricted" not in opened.stdout
    assert "Model control is open: whoever reaches port 8000 or 8001 of 0.0.0.0" in opened.stderr


@pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
def test_docker_gives_the_server_the_engine_that_a_model_needs(tmp_path: Path, run_here: Run) -> None:
    handmade.write(tmp_path)
    config = tmp_path / "shop_dense/config.pbtxt"
    config.write_text(config.read_text().replace('backend: "onnxruntime"', 'backend: "recsplit"'))
    words = shlex.split(run_here("serve", tmp_path, "--docker").stdout.replace("\\\n", " "))
    target = "/opt/tritonserver/backends/recsplit/libtriton_recsplit.so"
    assert f"type=bind,source={make().backend},target={target},readonly" in words


def test_docker_gives_the_gpus_to_a_repository_that_asks_for_them(tmp_path: Path, run_here: Run) -> None:
    handmade.write(tmp_path)
    (tmp_path / "shop_dense/config.pbtxt").write_text(handmade.config("shop_dense", [handmade.DENSE], [handmade.SCORE], kind="KIND_GPU"))
    assert "--gpus=all" in run_here("serve", tmp_path, "--docker").stdout


def test_what_cannot_be_served_is_an_error_with_a_hint(tmp_path: Path, run_here: Run) -> None:
    result = run_here("serve", tmp_path / "nowhere")
    assert result.returncode == 2
    assert result.stdout == ""
    assert f"Error: there is no folder {tmp_path / 'nowhere'}" in result.stderr
    assert "Hint: recsplit build SOURCE -o DIR" in result.stderr


def test_help_ends_in_an_example(run_here: Run) -> None:
    assert run_here("serve", "--help").stdout.rstrip().endswith("recsplit serve model_repository/ --http-port 8000")
