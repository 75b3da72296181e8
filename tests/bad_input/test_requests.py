"""Requests that a served model can't answer: only they fail, in words; every other client is answered right all the while."""

import contextlib
import http.client
import importlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from recsplit.client import Client, ServerError, UnknownIds
from recsplit.errors import InputError, RecsplitError
from tests.bad_input.shop import LIMIT, Arrays, Protocol, Shop, floats, in_rows, opened, query, ragged


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(tmp_path_factory.mktemp("shop")) as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(shop: Shop) -> Iterator[None]:
    """After each test: the same processes, right answers over both protocols, and the customer has seen no error."""
    yield
    before, deadline = shop.answered, time.monotonic() + 60
    protocols: tuple[Protocol, ...] = ("grpc", "http")
    for protocol in protocols:
        with Client(shop.url(protocol), "shop", protocol) as client:
            shop.ask(client)
    while shop.answered < before + 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shop.wrong == []
    assert shop.answered >= before + 4
    assert shop.server.ready()
    assert shop.instances() == shop.processes


# --- through recsplit.client

KNOWN = "send ids that the tables have, or build with --unknown-ids zero or --unknown-ids row=N"
NO_ID = "(NaN, infinity, or lengths that do not fit the values) is outside table"
UNKNOWN: list[tuple[str, str, Arrays, str]] = [
    ("id beyond the table", "shop", query(user=[0, 100]), "input 'user': id 100 is outside table 'users' (0..99), row 1 of the query"),
    ("negative id", "shop", query(user=[0, -1]), "input 'user': id -1 is outside table 'users' (0..99), row 1 of the query"),
    ("id in a bag", "shop", query(tags=[[0, 0, 0], [0, 40, 0]]), "input 'tags' column 1: id 40 is outside table 'tag_rows' (0..39)"),
    ("largest integer", "shop", query(user=[2**63 - 1, 0]), "id 9223372036854775807 is outside table 'users'"),
    ("NaN as an id", "floats", floats(1, np.nan), NO_ID),
    ("infinity as an id", "floats", floats(np.inf, 1), NO_ID),
    ("huge float as an id", "floats", floats(1e9), "id 1000000000 is outside table 'users'"),
    ("id in a ragged bag", "bags", ragged(values=[1, 500, 3, 4]), "id 500 is outside table 'bag' (0..499), row 0 of the query"),
    ("lengths beyond the slots", "bags", in_rows([[4], [1]]), NO_ID),
    ("negative length", "bags", in_rows([[-1], [2]]), NO_ID),
    ("huge length", "bags", in_rows([[2**62], [2]]), NO_ID),
]

NAMES = "'dense', 'user', 'tags'"
TAKES = f"model 'shop' takes {NAMES}"
FLAT = {name: array for name, array in ragged().items() if name != "offsets"}
MISFITS: list[tuple[str, str, Arrays, str, str]] = [
    ("shape", "shop", query(tags=np.ones((2, 4), np.int64)), "'tags': expected INT64 [batch, 3], found INT64 [2, 4]", "check the shape"),
    ("rank", "shop", query(tags=np.ones(2, np.int64)), "'tags': expected INT64 [batch, 3], found INT64 [2]", "one row is array[None]"),
    (
        "dtype",
        "shop",
        query(dense=np.full((2, 4), 0.1)),
        "'dense': expected FP32 [batch, 4], found FP64 [2, 4]: 0.1 is no float32",
        "astype(numpy.float32)",
    ),
    ("floats as ids", "shop", query(user=floats(1, 2)["features"]), "'user': expected INT64 [batch, 1], found FP32", "astype(numpy.int64)"),
    ("text", "shop", query(user=np.array(["a", "b"])), "'user': expected INT64 [batch, 1], found BYTES", "convert it"),
    ("lists of two lengths", "shop", query(tags=[[1], [1, 2]]), "input 'tags' is not an array", "give a numpy array"),
    ("missing input", "shop", {"user": [1]}, f"input 'dense' is missing: expected {NAMES}, found 'user'", TAKES),
    ("no input", "shop", {}, "input 'dense' is missing", TAKES),
    ("extra input", "shop", query(more=[1, 2]), f"input 'more' is unknown: expected {NAMES}, found {NAMES}, 'more'", TAKES),
    ("inputs of two sizes", "shop", query(user=[1, 2, 3]), "'user': expected 2 rows, as 'dense' has, found 3", "one row for each row"),
    ("no rows", "shop", query(0), "input 'dense': expected at least one row, found [0, 4]", "leave empty queries out"),
    ("offsets beyond", "bags", ragged(offsets=[0, 9]), "ids and input 'values' holds 4, and a bag has length -5", "offsets start at 0"),
    ("offsets that start late", "bags", ragged(offsets=[1, 2]), "'offsets' describes 3 ids and input 'values' holds 4", "start at 0"),
    ("offsets that fall", "bags", ragged(offsets=[0, -1]), "and a bag has length -1", "never fall"),
    ("offsets as floats", "bags", ragged(offsets=[0.0, 2.0]), "input 'offsets': expected integers, found FP64", "an integer array"),
    ("no offsets", "bags", FLAT, "input 'offsets' is missing", "or give rows: 'values' [batch, slots] and 'lengths' [batch, 1]"),
    ("more bags than rows", "bags", ragged(offsets=[0, 1, 2]), "expected 2 rows, as 'dense' has, found 3", "one row for each row"),
    ("too many lengths", "bags", in_rows([[1, 1], [1, 1]]), "'lengths': expected INT64 [batch, 1], found INT64 [2, 2]", "check the shape"),
    (
        "no slots",
        "bags",
        in_rows([[0], [0]], np.ones((2, 0), np.int64)),
        "'values': expected at least one slot, found [2, 0]",
        "pad the rows",
    ),
]


def refusal(shop: Shop, protocol: Protocol, model: str, inputs: Arrays, kind: type[RecsplitError]) -> RecsplitError:
    with pytest.raises(kind) as caught, Client(shop.url(protocol), model, protocol) as client:
        client.infer(inputs)
    assert type(caught.value) is kind
    return caught.value


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(("model", "inputs", "words"), [case[1:] for case in UNKNOWN], ids=[case[0] for case in UNKNOWN])
def test_an_unknown_id_is_told_with_input_table_and_row(model: str, inputs: Arrays, words: str, protocol: Protocol, shop: Shop) -> None:
    error = refusal(shop, protocol, model, inputs, UnknownIds)
    assert words in str(error)
    assert error.hint == KNOWN


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(("model", "inputs", "words", "hint"), [case[1:] for case in MISFITS], ids=[case[0] for case in MISFITS])
def test_what_does_not_fit_is_told_before_it_is_sent(
    model: str, inputs: Arrays, words: str, hint: str, protocol: Protocol, shop: Shop
) -> None:
    error = refusal(shop, protocol, model, inputs, InputError)
    assert words in str(error)
    assert hint in error.hint


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_an_unknown_model_is_told(protocol: Protocol, shop: Shop) -> None:
    error = refusal(shop, protocol, "sohp", query(), ServerError)
    assert "unknown model: 'sohp'" in str(error)
    assert "`recsplit serve` shows the models that it loaded" in error.hint


def test_a_query_larger_than_a_batch_is_answered_in_parts(shop: Shop) -> None:
    with Client(shop.server.grpc_url, "shop") as client:
        score = client.infer(query(5 * LIMIT))["score"]
    assert score.shape == (5 * LIMIT, 1)
    assert np.allclose(score[:2], shop.truth, rtol=1e-5)


def test_nan_in_a_feature_answers_nan_for_its_row_only(shop: Shop) -> None:
    dense = np.ones((2, 4), np.float32)
    dense[1, 2] = np.nan
    with Client(shop.server.grpc_url, "shop") as client:
        score = client.infer(query(dense=dense))["score"]
    assert np.allclose(score[0], shop.truth[0], rtol=1e-5)
    assert np.isnan(score[1]).all()


# --- through tritonclient itself, which checks nothing


def column(values: ArrayLike) -> NDArray[np.int64]:
    return np.asarray(values).reshape(-1, 1)


def good(rows: int = 2, **others: NDArray[Any]) -> dict[str, Any]:
    """A good query as the server takes it, where one id a row is [batch, 1]; some inputs may be exchanged."""
    return query(rows, **{"user": column(range(rows)), **others})


TRITON: list[tuple[str, str, dict[str, Any], str]] = [
    ("unknown id", "shop", good(user=column([1, 777])), "input 'user': id 777 is outside table 'users' (0..99), row 1 of the request"),
    ("larger than a batch", "shop", good(LIMIT + 1), "inference request batch-size must be <= 8 for 'shop'"),
    ("no rows", "shop", good(0), "input byte size mismatch"),
    ("wrong shape", "shop", good(tags=np.ones((2, 4), np.int64)), "unexpected shape for input 'tags' for model 'shop'. Expected [-1,3]"),
    ("wrong dtype", "shop", good(tags=np.ones((2, 3), np.int32)), "'tags' data-type is 'INT32', but model 'shop' expects 'INT64'"),
    ("missing input", "shop", {"dense": np.ones((2, 4), np.float32)}, "missing required input(s) ['user','tags']"),
    ("extra input", "shop", good(more=column([1, 1])), "expected 3 inputs but got 4 inputs for model 'shop'"),
    ("inputs of two sizes", "shop", good(user=column([1, 1, 1])), "batch size does not match other inputs for 'shop'"),
    ("unknown model", "sohp", good(), "Request for unknown model: 'sohp' is not found"),
    ("lengths beyond the slots", "bags", in_rows([[4], [1]]), NO_ID),
    ("no slots", "bags", in_rows([[0], [0]], np.ones((2, 0), np.int64)), "in ensemble 'bags'"),
    ("a part asked alone", "shop_dense", {"dense": np.ones((2, 4), np.float32)}, "expected 3 inputs but got 1 inputs"),
]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(("model", "inputs", "words"), [case[1:] for case in TRITON], ids=[case[0] for case in TRITON])
def test_tritonclient_is_told(model: str, inputs: dict[str, Any], words: str, protocol: Protocol, shop: Shop) -> None:
    tritonclient = importlib.import_module(f"tritonclient.{protocol}")
    tensors = []
    for name, array in inputs.items():
        tensors.append(tritonclient.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        tensors[-1].set_data_from_numpy(array)
    with tritonclient.InferenceServerClient(shop.url(protocol)) as client, pytest.raises(InferenceServerException) as caught:
        client.infer(model, tensors)
    assert words in caught.value.message()


# --- through no client at all

BODY = {
    "inputs": [
        {"name": "dense", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]},
        {"name": "user", "datatype": "INT64", "shape": [1, 1], "data": [1]},
        {"name": "tags", "datatype": "INT64", "shape": [1, 3], "data": [1, 2, 3]},
    ]
}
GOOD = json.dumps(BODY)
ONE_INPUT = "Raw request must only have 1 input"


def user(**others: object) -> str:
    """The body with another `user`."""
    inputs = [{**item, **others} if item["name"] == "user" else item for item in BODY["inputs"]]
    return json.dumps({"inputs": inputs})


BODIES: list[tuple[str, str | bytes, dict[str, str], int, str]] = [
    ("empty", "", {}, 400, ONE_INPUT),
    ("bytes", b"\xff\x00\xfe", {}, 500, "failed to parse the request JSON buffer"),
    ("text", "hello", {}, 500, "failed to parse the request JSON buffer"),
    ("cut short", GOOD[:100], {}, 500, "failed to parse the request JSON buffer"),
    ("a list", "[]", {}, 500, "Unable to parse 'inputs'"),
    ("no inputs", "{}", {}, 500, "Unable to parse 'inputs'"),
    ("inputs are null", '{"inputs": null}', {}, 500, "Unable to parse 'inputs'"),
    ("deep", '{"inputs": ' + "[" * 10_000, {}, 500, "failed to parse the request JSON buffer"),
    ("too few values", user(shape=[3, 1]), {}, 500, "Shape does not match true shape of 'data' field"),
    ("too many values", user(data=[1, 2, 3]), {}, 500, "Shape does not match true shape of 'data' field"),
    ("negative shape", user(shape=[-1, 1]), {}, 500, "Unable to parse 'shape'"),
    ("huge shape", user(shape=[2**40, 2**40]), {}, 400, "batch size does not match"),
    ("no shape", user(shape=[], data=[]), {}, 400, "has no shape but model requires batch dimension"),
    ("text among numbers", user(data=["one"]), {}, 500, "Unable to parse 'data'"),
    ("a number beyond 64 bits", user(data=[10**30]), {}, 500, "Unable to parse 'data'"),
    ("a fraction", user(data=[1.5]), {}, 500, "Unable to parse 'data'"),
    ("unknown dtype", user(datatype="INT65"), {}, 400, "invalid datatype for input user"),
    ("bytes dtype", user(datatype="BYTES", data=["x"]), {}, 400, "'user' data-type is 'BYTES', but model 'shop' expects 'INT64'"),
    ("an input twice", json.dumps({"inputs": BODY["inputs"] * 2}), {}, 400, "already exists in request"),
    ("binary data that is not there", user(parameters={"binary_data_size": 8}), {}, 400, "only one of the following fields"),
    ("unknown shared memory", user(parameters={"shared_memory_region": "x", "shared_memory_byte_size": 8}), {}, 400, "only one of the"),
    ("header beyond the body", GOOD, {"Inference-Header-Content-Length": "100000"}, 400, "inference header size should be in range"),
    ("negative header", GOOD, {"Inference-Header-Content-Length": "-1"}, 400, "inference header size should be in range"),
    ("header of text", GOOD, {"Inference-Header-Content-Length": "x"}, 400, ONE_INPUT),
    ("header into the JSON", GOOD, {"Inference-Header-Content-Length": "10"}, 500, "failed to parse the request JSON buffer"),
    ("not gzip", GOOD, {"Content-Encoding": "gzip"}, 400, ONE_INPUT),
    ("unknown compression", GOOD, {"Content-Encoding": "shrink"}, 501, "Unsupported compression type"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "headers", "status", "words"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES])
def test_a_body_that_is_no_request_is_refused(body: str | bytes, headers: dict[str, str], status: int, words: str, shop: Shop) -> None:
    with contextlib.closing(http.client.HTTPConnection(shop.server.http_url, timeout=60)) as connection:
        connection.request("POST", "/v2/models/shop/infer", body, headers)
        response = connection.getresponse()
        assert (response.status, words in json.loads(response.read())["error"]) == (status, True)


@pytest.mark.parametrize("port", ["http", "grpc"])
@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01hello", b"\0" * 10_000, b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"]
)
def test_bytes_that_are_no_protocol_hurt_nobody(port: Protocol, data: bytes, shop: Shop) -> None:
    host, _, number = shop.url(port).partition(":")
    with socket.create_connection((host, int(number)), timeout=60) as connection:
        connection.sendall(data)


def test_a_client_that_leaves_before_its_answer_hurts_nobody(shop: Shop) -> None:
    host, _, number = shop.server.http_url.partition(":")
    for _ in range(20):
        with socket.create_connection((host, int(number)), timeout=60) as connection:
            connection.sendall(f"POST /v2/models/shop/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(GOOD)}\r\n\r\n{GOOD}".encode())
