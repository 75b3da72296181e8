"""The life of a server: what is checked before it starts, how it ends, and that nothing stays behind."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from recsplit.errors import InputError, MissingExtra, RecsplitError
from recsplit.serving import command_line, serve, triton
from recsplit.serving.workers import CONTROL_SOCKET
from tests.serving import handmade
from tests.serving.conftest import leftovers, processes, stubs
from tests.serving.handmade import config, tensor
from tests.waiting import until


@pytest.fixture(scope="module")
def shop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return handmade.write(tmp_path_factory.mktemp("lives"))


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port on which another socket listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


def wait_until_gone(name: str) -> None:
    """Return once nothing carries a server's name any more."""
    until(lambda: not processes(name) and not any(Path("/dev/shm").glob(f"{name}*")), f"the end of all that carries {name}")


# Before the start


@pytest.mark.parametrize("which", ["http_port", "grpc_port", "metrics_port"])
def test_a_taken_port_is_refused_before_anything_starts(shop_folder: Path, busy_port: int, which: str) -> None:
    with pytest.raises(InputError, match=f"port {busy_port}: Address already in use"):
        serve(shop_folder, **{which: busy_port})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"http_port": 0}, "HTTP port 0 is not a port number"),
        ({"grpc_port": 70_000}, "gRPC port 70000 is not a port number"),
        ({"http_port": 18_001, "metrics_port": 18_001}, "port 18001 is chosen twice"),
        ({"host": "203.0.113.7"}, "can't listen on host '203.0.113.7'"),
        ({"host": "::1"}, "can't listen on host '::1'"),
        ({"host": "no.such.host.invalid"}, "can't listen on host 'no.such.host.invalid'"),
        ({"models": ["shop", "nothing"]}, "has no model 'nothing'"),
        ({"log": Path("/no/such/folder/triton.log")}, "can't write the log /no/such/folder/triton.log"),
    ],
)
def test_settings_that_cannot_work_are_refused(shop_folder: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        serve(shop_folder, **settings)  # type: ignore[arg-type]
    assert caught.value.hint


def test_folders_that_are_no_repository_are_refused(tmp_path: Path, shop_folder: Path) -> None:
    for folder, message in (
        (tmp_path / "nowhere", "there is no folder"),
        (tmp_path, "holds no models"),
        (shop_folder / "shop", "is one model, not a model repository"),
    ):
        with pytest.raises(InputError, match=message):
            serve(folder)


def test_without_the_wheel_the_error_names_the_extra(shop_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytriton", None)
    with pytest.raises(MissingExtra, match="nvidia-pytriton is not installed") as caught:
        serve(shop_folder)
    assert "recsplit[local]" in caught.value.hint


def test_a_wheel_without_a_stub_for_this_python_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pytriton/tritonserver/bin").mkdir(parents=True)
    (tmp_path / "pytriton/__init__.py").touch()
    (tmp_path / "pytriton/tritonserver/bin/tritonserver").touch()
    for minor in ("3.8", "3.9"):
        (tmp_path / f"pytriton/tritonserver/python_backend_stubs/{minor}").mkdir(parents=True)
    monkeypatch.delitem(sys.modules, "pytriton", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=f"no Python backend for Python 3.{sys.version_info.minor}") as caught:
        triton.find()
    assert "Python 3.8, 3.9" in caught.value.hint


def test_a_stub_that_does_not_start_is_told_before_triton_hides_it(tmp_path: Path) -> None:
    stub = tmp_path / "stub"
    stub.write_text("#!/bin/sh\necho 'libpython3.x.so: cannot open shared object file' >&2\nexit 127\n")
    stub.chmod(0o755)
    with pytest.raises(InputError, match=r"libpython3\.x\.so: cannot open shared object file"):
        triton.check_stub(triton.Triton(stub, tmp_path, stub, tmp_path), dict(os.environ))


# Starting


def test_a_refused_model_is_told_in_tritons_words_with_the_end_of_the_log(tmp_path: Path) -> None:
    handmade.write(tmp_path)
    text = (tmp_path / "shop_dense/config.pbtxt").read_text()
    (tmp_path / "shop_dense/config.pbtxt").write_text(text.replace("TYPE_FP32", "TYPE_FP64", 1))
    with pytest.raises(RecsplitError) as caught:
        serve(tmp_path)
    assert str(caught.value) == (
        "Triton did not load model 'shop_dense': unable to load model 'shop_dense', configuration expects datatype TYPE_FP64 "
        "for input 'vectors', model provides TYPE_FP32"
    )
    assert "error: creating server" in caught.value.detail
    log = Path(caught.value.hint.rpartition(" ")[2])
    assert "failed to load 'shop_dense'" in log.read_text(), "a failure keeps the log"
    log.unlink()


def test_a_config_that_is_no_config_is_told_with_its_line(tmp_path: Path) -> None:
    handmade.write(tmp_path)
    (tmp_path / "shop_dense/config.pbtxt").write_text('name: "shop_dense"\nbackend onnxruntime\n')
    with pytest.raises(RecsplitError, match=r"config\.pbtxt of model 'shop_dense' can't be read: 2:9: ") as caught:
        serve(tmp_path)
    Path(caught.value.hint.rpartition(" ")[2]).unlink()


def test_too_short_a_time_to_load_is_told_and_nothing_stays(shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(RecsplitError, match=r"not ready after 0\.1 s"):
        serve(shop_folder, ready_timeout_s=0.1)
    assert [path.suffix for path in tmp_path.iterdir()] == [".log"], "a failure keeps the log, and only that"
    until(lambda: processes(str(tmp_path)) == [], "the end of its processes")  # a killed one takes its moment


def test_paths_that_bash_would_take_apart_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd, temporary = tmp_path / "my models; $HOME", tmp_path / "a temporary place"
    odd.mkdir()
    temporary.mkdir()
    handmade.write(odd)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with serve(odd) as server:
        assert server.ready()
    assert list(temporary.iterdir()) == []


def test_a_temporary_folder_of_a_long_path_leaves_room_for_the_engines_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for length, kept in ((40, True), (71, True), (72, False), (200, False)):
        base = Path("/tmp") / ("x" * (length - len("/tmp/")))
        base.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(base))
        folder = command_line.private_folder()
        try:
            assert (folder.parent == base) is kept and len(str(folder / CONTROL_SOCKET)) <= 107
        finally:
            folder.rmdir()
            base.rmdir()


def test_the_users_log_is_appended_to_and_kept(shop_folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "triton.log"
    log.write_text("from before\n")
    with serve(shop_folder, models=["shop_dense"], log=log, host="localhost") as server:
        assert server.http_url.startswith("127.0.0.1:")
        assert server.states() == {"shop": "", "shop_dense": "READY", "shop_embedding": ""}
    text = log.read_text()
    assert text.startswith("from before\n")
    assert "successfully loaded 'shop_dense'" in text


# Ending


def test_stop_leaves_nothing_behind_though_a_client_keeps_its_connection(shop_folder: Path) -> None:
    server = serve(shop_folder)
    idle = http.client.HTTPConnection(server.http_url)
    idle.request("GET", "/v2/health/ready")
    assert idle.getresponse().read() == b""
    assert leftovers(server)
    server.stop()
    idle.close()
    assert leftovers(server) == []
    assert not server.log.exists()
    assert not server.ready()
    assert server.running.process.returncode == -signal.SIGKILL, "Triton itself waits for the idle connection until its timeout of 10 s"
    server.stop()  # once more is harmless


HELD = """
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        Path({begun!r}).touch()
        while not Path({released!r}).exists():
            time.sleep(0.01)
        arrays = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", array)]) for array in arrays]
"""


def test_requests_in_flight_are_answered_before_the_end(tmp_path: Path) -> None:
    begun, released, program = tmp_path / "begun", tmp_path / "released", tmp_path / "models/held/1/model.py"
    program.parent.mkdir(parents=True)
    program.write_text(HELD.format(begun=str(begun), released=str(released)))
    text = config("held", [tensor("x", "FP32", [400])], [tensor("y", "FP32", [400])], batch=4096)
    (tmp_path / "models/held/config.pbtxt").write_text(text.replace('backend: "onnxruntime"', 'backend: "python"'))
    data = np.random.default_rng(0).standard_normal((4096, 400)).astype(np.float32)
    asked = grpc.InferInput("x", list(data.shape), "FP32")
    asked.set_data_from_numpy(data)
    with (
        serve(tmp_path / "models", exit_timeout_s=60) as server,
        grpc.InferenceServerClient(server.grpc_url) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        try:
            going = threads.submit(client.infer, "held", [asked])
            until(begun.exists, "the request at its instance")
            ending = threads.submit(server.stop)
            until(lambda: server.states()["held"] != "READY", "an end that has begun")
            assert not going.done() and not ending.done()
        finally:
            released.touch()
        np.testing.assert_array_equal(going.result().as_numpy("y"), data)
        ending.result()


def test_a_killed_server_is_told_and_swept_up_and_its_port_is_free_again(shop_folder: Path) -> None:
    with serve(shop_folder) as server:
        port = int(server.http_url.rpartition(":")[2])
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(RecsplitError, match=r"ended by itself \(signal SIGKILL\)") as caught:
            server.wait()
    assert "Started HTTPService" in caught.value.detail
    wait_until_gone(server.running.folder.name)
    assert leftovers(server) == []
    server.log.unlink()
    with serve(shop_folder, http_port=port) as again:
        assert again.http_url == server.http_url
        assert again.ready()


def test_a_killed_stub_fails_requests_with_its_name_and_not_the_stop(shop_folder: Path) -> None:
    with serve(shop_folder, models=["shop_embedding"], exit_timeout_s=2) as server, grpc.InferenceServerClient(server.grpc_url) as client:
        (stub,) = stubs(server, "shop_embedding")
        os.kill(stub, signal.SIGKILL)
        ids = grpc.InferInput("sparse", [1, handmade.COLUMNS], "INT64")
        ids.set_data_from_numpy(np.zeros((1, handmade.COLUMNS), np.int64))
        with pytest.raises(InferenceServerException, match="Stub process 'shop_embedding_0_0' is not healthy"):
            client.infer("shop_embedding", [ids], client_timeout=20)
    assert leftovers(server) == []


def test_the_server_ends_with_the_process_that_owns_it(shop_folder: Path) -> None:
    program = f"from pathlib import Path; from recsplit.serving import serve; s = serve(Path({str(shop_folder)!r}))\n"
    program += "print(s.running.folder.name, s.log, flush=True); s.wait()"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        name, log = owner.stdout.readline().split()
        assert processes(name)
        owner.kill()
    wait_until_gone(name)
    Path(log).unlink()
