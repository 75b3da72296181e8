"""What `recsplit serve` can't serve: each is an error with a hint, no server is left running, and the repository is as it was."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bad_input.conftest import Refused
from tests.bad_input.kinds import Kind
from tests.bad_input.models.models import Make
from tests.bad_input.test_repositories import TABLES, changed, cut, of_two_builds, removed
from tests.serving.conftest import processes

VERIFY = "`recsplit verify DIR` tries the files without a server; the whole log is in "


def settings(text: str, error: str, hint: str, *, code: int = 2) -> Kind:
    """The kind of a bad option; the repository is good."""
    return Kind(text, f"serve models {text}", error, hint, code)


def broken(name: str, error: str, hint: str, make: Make, *, code: int = 1) -> Kind:
    """The kind of a broken repository."""
    return Kind(name, "serve models", error, hint, code, lambda folder: make(folder / "models"))


def config(model: str, old: str, new: str) -> Make:
    """Changes the config of a model."""

    def change(text: bytes) -> bytes:
        assert old.encode() in text
        return text.replace(old.encode(), new.encode())

    return changed(f"{model}/config.pbtxt", change)


FOLDERS = [
    Kind("no folder", "serve nowhere", "there is no folder nowhere", "recsplit build SOURCE -o DIR"),
    Kind("a file", "serve shop.onnx", "there is no folder shop.onnx", "recsplit build SOURCE -o DIR"),
    Kind("an empty folder", "serve empty", "empty holds no models", "recsplit build", 2, lambda folder: (folder / "empty").mkdir()),
    Kind("one model of it", "serve models/shop", "models/shop is one model, not a model repository", "serve the folder around it"),
    Kind("docker: no folder", "serve nowhere --docker", "there is no folder nowhere", "recsplit build SOURCE -o DIR"),
    settings("--model books", "models has no model 'books'", "it has shop, shop_dense, shop_embedding"),
]

SETTINGS = [
    settings("--http-port 0", "HTTP port 0 is not a port number", "between 1 and 65535"),
    settings("--grpc-port 70000", "gRPC port 70000 is not a port number", "between 1 and 65535"),
    settings("--http-port web", "'web' is not a valid integer", "recsplit serve --help"),
    settings("--http-port 28001 --grpc-port 28001", "port 28001 is chosen twice", "three different ports"),
    settings("--host no.such.host.invalid", "can't listen on host 'no.such.host.invalid'", "127.0.0.1, or 0.0.0.0"),
    settings("--host 192.0.2.1", "can't listen on host '192.0.2.1'", "127.0.0.1, or 0.0.0.0"),
    settings("--host ::1", "can't listen on host '::1'", "an IPv4 address of this machine"),
    settings(
        "--log no/such/triton.log", "can't write the log no/such/triton.log: No such file or directory", "a folder that you can write to"
    ),
    settings("--log models", "can't write the log models: Is a directory", "choose a file"),
    settings("--log /proc/triton.log", "can't write the log /proc/triton.log", "a folder that you can write to"),
    settings("--ready-timeout 0.001", "Triton was not ready after 0.001 s", "may need a longer time", code=1),
    settings("--ready-timeout -1", "-1.0 is not in the range x>0", "recsplit serve --help"),
    settings("--ready-timeout soon", "'soon' is not a valid float", "recsplit serve --help"),
]

NOT_LOADED = "Triton did not load model 'shop_dense': "
BROKEN = [
    broken("parts of two builds", "come from different builds", "build again", of_two_builds),
    broken(
        "config of nonsense",
        "config.pbtxt of model 'shop_dense' can't be read: 1:7: Expected string, got: {",
        VERIFY,
        changed("shop_dense/config.pbtxt", lambda text: b"name: {\n"),
    ),
    broken("tables cut short", "Triton did not load model 'shop_embedding': ", VERIFY, cut(TABLES)),
]

# The same again with other causes; each of them starts a server.
MORE_BROKEN = [
    broken("unknown field", 'has no field named "max_bath_size"', VERIFY, config("shop_dense", "max_batch_size:", "max_bath_size:")),
    broken("another name", f"{NOT_LOADED}unexpected directory name", VERIFY, config("shop_dense", 'name: "shop_dense"', 'name: "dense"')),
    broken("another shape", "FP32 [5], and the model takes FP32 [4]", VERIFY, config("shop_dense", "dims: [ 4 ]", "dims: [ 5 ]")),
    broken(
        "another backend",
        f"{NOT_LOADED}Invalid argument: unable to find backend library",
        VERIFY,
        config("shop_dense", 'backend: "recsplit"', 'backend: "pytorch"'),
    ),
    broken(
        "a GPU that is not there", f"{NOT_LOADED}Invalid argument: instance group", VERIFY, config("shop_dense", "KIND_CPU", "KIND_GPU")
    ),
    broken("an empty ensemble", "Triton did not load model 'shop'", VERIFY, changed("shop/config.pbtxt", lambda text: b"")),
    broken("config missing", f"{NOT_LOADED}failed to open text file for read", VERIFY, removed("shop_dense/config.pbtxt")),
    broken(
        "a part missing", "ensemble shop contains models that are not available or ambiguous: shop_dense", VERIFY, removed("shop_dense")
    ),
    broken("version missing", "shop_dense has a config and no model files", "build the model again", removed("shop_dense/1"), code=2),
    broken("model file missing", f"{NOT_LOADED}Invalid argument: onnxruntime: Load ", VERIFY, removed("shop_dense/1/model.onnx")),
    broken("model file cut short", "failed:Protobuf parsing failed", VERIFY, cut("shop_dense/1/model.onnx")),
    broken("tables missing", "tables.bin can't be read: No such file or directory", VERIFY, removed(TABLES)),
]


@pytest.mark.parametrize(
    "kind", [*FOLDERS, *SETTINGS, *BROKEN, *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE_BROKEN)], ids=str
)
def test_what_can_not_be_served_is_named(kind: Kind, folder: Path, refused: Refused) -> None:
    answer = refused(kind)
    assert not processes(str(folder))
    assert "Traceback" not in answer.error


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port on which another socket listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("protocol", ["http", "grpc", "metrics"])
def test_a_port_that_is_taken_is_named(protocol: str, busy_port: int, refused: Refused) -> None:
    command = f"serve models --{protocol}-port {busy_port}"
    refused(Kind("taken", command, f"port {busy_port}: Address already in use", "choose another port, or none: recsplit picks a free one"))
