"""A control key: who has it may load and unload, nobody else, and it isn't in anybody's sight."""

import http.client
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from recsplit.errors import InputError
from recsplit.serving import Server, control_key, serve
from recsplit.serving.endpoint import Endpoint
from recsplit.serving.server import start
from tests.conftest import Run
from tests.serving import handmade

KEY = "0123456789abcdef-KEY"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(handmade.write(tmp_path_factory.mktemp("closed")), control_key=KEY) as server:
        yield server


def post(server: Server, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(server.http_url, timeout=10)
    connection.request("POST", path, body="{}", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("headers", [{}, {control_key.NAME: "another"}])
@pytest.mark.parametrize("path", ["index", "models/shop_embedding/load", "models/shop_embedding/unload"])
def test_without_the_key_http_is_refused(closed: Server, path: str, headers: dict[str, str]) -> None:
    assert post(closed, f"/v2/repository/{path}", headers) == http.HTTPStatus.FORBIDDEN
    assert closed.ready()


def test_without_the_key_grpc_is_refused(closed: Server) -> None:
    with InferenceServerClient(closed.grpc_url) as client:
        for call in (client.load_model, client.unload_model):
            with pytest.raises(InferenceServerException, match="restricted"):
                call("shop_embedding")
        client.load_model("shop_embedding", headers={f"triton-grpc-protocol-{control_key.NAME}": KEY})


def test_the_server_itself_has_the_key(closed: Server) -> None:
    assert closed.states()["shop"] == "READY"
    assert post(closed, "/v2/repository/index", {control_key.NAME: KEY}) == http.HTTPStatus.OK


def test_the_key_is_nowhere_to_be_read(closed: Server) -> None:
    assert not control_key.shows(closed.pid, KEY)
    assert KEY not in closed.log.read_text()
    assert KEY not in repr(closed) + repr(closed.running)
    assert f"={'*' * len(KEY)}" in Path(f"/proc/{closed.pid}/cmdline").read_text()


def test_it_is_hidden_before_the_models_are_loaded(tmp_path: Path) -> None:
    with start(handmade.write(tmp_path), control_key=KEY) as server:
        hidden_first = []
        ready = Endpoint.ready

        def look(endpoint: Endpoint) -> bool:
            hidden_first.append(not control_key.shows(server.pid, KEY))
            return ready(endpoint)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Endpoint, "ready", look)
            server.await_ready(60)
        assert any(hidden_first)
        assert server.states()["shop"] == "READY"


def test_a_key_that_is_in_sight_is_told() -> None:
    executable = Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode()
    assert control_key.shows(os.getpid(), executable)


def test_a_key_is_read_from_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    path.chmod(0o640)
    assert control_key.read_key(path) == KEY


@pytest.mark.parametrize("text", ["", "short", "spaces in between it", "0123456789abcdef,=:", "é" * 20])
def test_what_cant_be_a_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InputError, match="holds no control key"):
        control_key.read_key(path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o644)
    with pytest.raises(InputError, match="every user"):
        control_key.read_key(path)
    with pytest.raises(InputError, match="can't be read"):
        control_key.read_key(tmp_path / "none")


def test_the_command_takes_the_key_from_a_file(run_here: Run, repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o644)
    refused = run_here("serve", repository / "model_repository", "--control-key", path)
    assert (refused.returncode, KEY in refused.stderr) == (2, False)
    assert "every user" in refused.stderr
    path.chmod(0o600)
    printed = run_here("serve", repository / "model_repository", "--docker", "--control-key", path)
    assert (printed.returncode, KEY in printed.stdout + printed.stderr) == (2, False)
