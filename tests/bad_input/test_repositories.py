"""Repositories that are none, broken or mixed: verify, serve, perf-data and perf say what is wrong, and change nothing."""

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from recsplit.plan.plan import SCHEMA
from tests.bad_input.conftest import Refused
from tests.bad_input.kinds import Kind
from tests.bad_input.models import models
from tests.bad_input.models.models import Make

PLAN = "shop/1/plan.json"
AGAIN = "is the file whole? if not, build the model again"
TABLES = "shop_embedding/1/tables.bin"


def broken(name: str, error: str, hint: str, make: Make, *, code: int = 2) -> Kind:
    """The kind of a broken repository, for `recsplit verify`; `make` breaks it."""
    return Kind(name, "verify models", error, hint, code, lambda folder: make(folder / "models"))


def removed(path: str) -> Make:
    return lambda folder: shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()


def cut(path: str, keep: float = 0.5) -> Make:
    def make(folder: Path) -> None:
        data = (folder / path).read_bytes()
        (folder / path).write_bytes(data[: int(keep * len(data))])

    return make


def changed(path: str, change: Callable[[bytes], bytes]) -> Make:
    def make(folder: Path) -> None:
        (folder / path).write_bytes(change((folder / path).read_bytes()))

    return make


def plan(**values: object) -> Make:
    """Changes top-level values of the plan; None removes one."""

    def change(text: bytes) -> bytes:
        data = json.loads(text) | values
        return json.dumps({key: value for key, value in data.items() if value is not None}).encode()

    return changed(PLAN, change)


def flip(data: bytes) -> bytes:
    """One bit of every 400th byte, the exponents of some floats among them."""
    array = np.frombuffer(data, np.uint8).copy()
    array[3::400] ^= 0x40
    return array.tobytes()


def of_two_builds(folder: Path) -> None:
    build = folder / "shop_dense/1/build.txt"
    build.write_text(build.read_text().replace(json.loads((folder / PLAN).read_text())["build"], "0123456789abcdef"))


def second(folder: Path) -> None:
    for part in ("", "_embedding", "_dense"):
        shutil.copytree(folder / f"shop{part}", folder / f"books{part}")


VERIFY = [
    Kind("no folder", "verify nowhere", "nowhere is not a folder", "recsplit build"),
    Kind("a file", "verify shop.onnx", "shop.onnx is not a folder", "recsplit build"),
    Kind(
        "an empty folder",
        "verify empty",
        "empty holds no ensemble that recsplit built",
        "recsplit build",
        2,
        lambda folder: (folder / "empty").mkdir(),
    ),
    Kind("one model of it", "verify models/shop", "models/shop holds no ensemble", "give models"),
    Kind("no such model", "verify models --model books", "models holds no ensemble 'books'", "it holds shop"),
    Kind(
        "several models",
        "verify models",
        "models holds several ensembles: books, shop",
        "say which one with --model",
        2,
        lambda folder: second(folder / "models"),
    ),
    Kind(
        "renamed model",
        "verify models --model books",
        "was built as 'shop', and its folder is 'books'",
        "rename the folder back",
        1,
        lambda folder: second(folder / "models"),
    ),
    broken("plan missing", "models holds no ensemble that recsplit built", "recsplit build", removed(PLAN)),
    broken("plan empty", "plan.json is not JSON", "build the model again", changed(PLAN, lambda text: b"")),
    broken("plan cut short", "plan.json is not JSON", "build the model again", cut(PLAN)),
    broken("plan of bytes", "plan.json can't be read", "build the model again", changed(PLAN, lambda text: b"\xff\xfe" + text)),
    broken("plan is a list", "plan.json has schema None", "build the model again", changed(PLAN, lambda text: b"[]")),
    broken(
        "plan of another schema",
        f"plan.json has schema 99, and this recsplit reads schema {SCHEMA}",
        "with this version of recsplit",
        plan(schema=99),
    ),
    broken("plan with a key too many", "expected the keys", "build the model again", plan(colour="red")),
    broken("plan without a key", "expected the keys", "build the model again", plan(tables=None)),
    broken(
        "plan with a value of another type",
        "max_batch_size: expected <class 'int'>, found '8'",
        "build the model again",
        plan(max_batch_size="8"),
    ),
    broken("parts of two builds", "come from different builds", "build again", of_two_builds, code=1),
    broken("a part is missing", "there is no file models/shop_dense/config.pbtxt", "build the model again", removed("shop_dense"), code=1),
    broken(
        "config missing",
        "there is no file models/shop_embedding/config.pbtxt",
        "build the model again",
        removed("shop_embedding/config.pbtxt"),
        code=1,
    ),
    broken("references missing", "references.safetensors can't be read", "build the model again", removed("shop/1/references.safetensors")),
    broken("references cut short", "references.safetensors can't be read", "build the model again", cut("shop/1/references.safetensors")),
    broken(
        "references of another kind",
        "references.safetensors can't be read",
        "build the model again",
        changed("shop/1/references.safetensors", lambda data: b""),
    ),
    broken(
        "model file missing",
        "there is no file models/shop_dense/1/model.onnx",
        "build the model again",
        removed("shop_dense/1/model.onnx"),
        code=1,
    ),
    broken("model file cut short", "Protobuf parsing failed", AGAIN, cut("shop_dense/1/model.onnx"), code=1),
    broken(
        "whole model missing",
        "there is no file models/shop_embedding/1/whole.onnx",
        "build the model again",
        removed("shop_embedding/1/whole.onnx"),
        code=1,
    ),
    broken("tables missing", "External data path does not exist", AGAIN, removed(TABLES), code=1),
    broken("tables cut short", "size to read: 4512 given file_length: 2256 are out of bounds", AGAIN, cut(TABLES), code=1),
    broken("tables damaged", "comparisons do not hold", "the table names the case", changed(TABLES, flip), code=1),
    broken(
        "version folder of a part missing",
        "there is no file models/shop_dense/1/build.txt",
        "build the model again",
        removed("shop_dense/1"),
        code=1,
    ),
    Kind("no repeats", "verify models --repeats 0", "0 is not in the range x>=1", "recsplit verify --help"),
    Kind("weights without a source", "verify models --weights w.safetensors", "--weights goes with --source", "--source package.module"),
    Kind("a server twice", "verify models --served --grpc-url h:1", "--served starts a server of its own", "give one of the two"),
    Kind("source missing", "verify models --source nowhere.onnx", "nowhere.onnx is not a file", "check the path"),
    Kind(
        "source of another model",
        "verify models --source other.onnx",
        "onnxruntime can't run other.onnx",
        "shapes and dtypes those of the model",
        1,
        lambda folder: models.saved("score = Gather(users, user)", inputs="int64[batch] user", outputs="float[batch, 8] score")(
            folder / "other.onnx"
        ),
    ),
    Kind(
        "source with other inputs",
        "verify models --source other.onnx",
        "onnxruntime can't run other.onnx",
        "shapes and dtypes those of the model",
        1,
        lambda folder: models.saved(
            models.LOGIT.replace("user)", "customer)") + models.SCORE, inputs=models.INPUTS.replace("user", "customer")
        )(folder / "other.onnx"),
    ),
    Kind(
        "source with other weights",
        "verify models --source other.onnx",
        "comparisons do not hold",
        "the table names the case",
        1,
        lambda folder: models.saved(b=np.ones(1, np.float32))(folder / "other.onnx"),
    ),
]

PERF = [
    Kind("perf-data: no folder", "perf-data nowhere", "nowhere is not a folder", "recsplit build"),
    Kind("perf-data: larger than a batch", "perf-data models -b 9", "-b is 9, and 'shop' takes 8 rows at most", "a smaller -b"),
    Kind("perf-data: no rows", "perf-data models -b 0", "0 is not in the range x>=1", "recsplit perf-data --help"),
    Kind("perf-data: too many rows", "perf-data models -n 100000000", "is not in the range", "recsplit perf-data --help"),
    Kind("perf-data: folder missing", "perf-data models -b 8 -o no/data.json", "the folder no doesn't exist", "mkdir -p no"),
    Kind("perf-data: output is a folder", "perf-data models -b 8 -o models", "models is a folder", "give a file"),
    Kind("perf: no command", "perf", "missing command", "recsplit perf --help"),
    Kind("perf: no such command", "perf measure models", "no such command 'measure'", "recsplit perf --help"),
    Kind("perf: no folder", "perf run nowhere", "nowhere is not a folder", "recsplit build"),
    Kind("perf: larger than a batch", "perf run models --batch 9", "--batch is 9, and 'shop' takes 8 rows at most", "a smaller --batch"),
    Kind("perf: no time", "perf run models --seconds 0", "is not in the range", "recsplit perf run --help"),
    Kind("perf: concurrency", "perf run models --concurrency 0", "is not in the range", "recsplit perf run --help"),
    Kind("perf: folder missing", "perf run models -b 8 -o no/l.npz", "the folder no doesn't exist", "mkdir -p no"),
    Kind("perf: output is a folder", "perf run models -b 8 -o models", "models is a folder", "give a file"),
    Kind("demo: folder is a file", "demo --dir shop.onnx", "shop.onnx is a file", "give a folder with --dir"),
    Kind("demo: no time", "demo --seconds 0", "is not in the range", "recsplit demo --help"),
]


@pytest.mark.parametrize("kind", [*VERIFY, *PERF], ids=str)
def test_a_broken_repository_is_named(kind: Kind, refused: Refused) -> None:
    refused(kind)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens, and nobody else can."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


ASKING = ["verify models --grpc-url {url}", "verify models --http-url {url}", "perf run models -b 8 --seconds 1 --url {url}"]


@pytest.mark.parametrize("command", ASKING)
def test_a_server_that_is_not_there_is_named(command: str, nobody: str, refused: Refused) -> None:
    refused(Kind("nobody", command.format(url=nobody), "onnection refused", " served" if "perf" in command else "is the server up", 1))


@pytest.mark.parametrize("command", ASKING)
def test_a_host_that_has_no_address_is_named(command: str, refused: Refused) -> None:
    hint = " served" if "perf" in command else "is the server up, and is no.such.host.invalid:80 its"
    refused(Kind("no host", command.format(url="no.such.host.invalid:80"), "model 'shop'", hint, 1))


@pytest.mark.parametrize("url", ["nowhere", "127.0.0.1:http", "ftp://127.0.0.1:8000", "127.0.0.1:99999", ":8000"])
@pytest.mark.parametrize("command", ASKING)
def test_an_address_that_is_none_is_named(command: str, url: str, refused: Refused) -> None:
    refused(Kind("no address", command.format(url=url), f"{url!r} is not an address for ", "give host:port, as `recsplit serve` shows it"))
