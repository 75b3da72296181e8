"""What clients of the served ensemble get: answers, and errors that are theirs alone."""

import json
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient import grpc, http
from tritonclient.utils import InferenceServerException

from recsplit.serving import Server
from tests.serving import handmade
from tests.serving.conftest import stubs

Ids = NDArray[np.int64]
#: Nothing more is counted for so long: nothing is to be counted any more.
SETTLED_S = 0.5
Query = tuple[Ids, NDArray[np.float32]]


def query(rows: int, seed: int = 0) -> Query:
    random = np.random.default_rng(seed)
    return random.integers(0, handmade.ROWS, (rows, handmade.COLUMNS)), random.standard_normal((rows, 1)).astype(np.float32)


def ask(module: Any, client: Any, sparse: Ids, dense: NDArray[np.float32], outputs: tuple[str, ...] = ("score",)) -> Any:
    inputs = [module.InferInput("sparse", sparse.shape, "INT64"), module.InferInput("dense", dense.shape, "FP32")]
    inputs[0].set_data_from_numpy(sparse)
    inputs[1].set_data_from_numpy(dense)
    return client.infer(handmade.NAME, inputs, outputs=[module.InferRequestedOutput(name) for name in outputs])


@pytest.fixture
def client(shop: Server) -> Iterator[grpc.InferenceServerClient]:
    with grpc.InferenceServerClient(shop.grpc_url) as opened:
        yield opened


def executions(shop: Server, model: str) -> tuple[int, int]:
    """Requests answered and runs of the model so far."""
    with urllib.request.urlopen(f"http://{shop.http_url}/v2/models/{model}/stats") as answer:
        stats = json.loads(answer.read())["model_stats"][0]
    return stats["inference_stats"]["success"]["count"] + stats["inference_stats"]["fail"]["count"], stats["execution_count"]


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_grpc_and_http_answer_as_numpy_does(shop: Server, client: grpc.InferenceServerClient, rows: int) -> None:
    sparse, dense = query(rows)
    answer = ask(grpc, client, sparse, dense, ("score", "unknown_ids"))
    np.testing.assert_allclose(answer.as_numpy("score"), handmade.expected(sparse, dense), rtol=1e-5, atol=1e-6)
    assert (answer.as_numpy("unknown_ids")[:, 0] == -1).all()
    with http.InferenceServerClient(shop.http_url) as over_http:
        np.testing.assert_array_equal(ask(http, over_http, sparse, dense).as_numpy("score"), answer.as_numpy("score"))


@pytest.mark.parametrize("wanted", ["vectors", "unknown_ids"])
def test_only_the_outputs_that_were_asked_for_come_back(client: grpc.InferenceServerClient, wanted: str) -> None:
    sparse = grpc.InferInput("sparse", [3, handmade.COLUMNS], "INT64")
    sparse.set_data_from_numpy(query(3)[0])
    answer = client.infer("shop_embedding", [sparse], outputs=[grpc.InferRequestedOutput(wanted)]).get_response()
    assert [output.name for output in answer.outputs] == [wanted]


def settled(shop: Server, model: str) -> tuple[int, int]:
    """The same once what others asked before is counted: Triton counts a request after it has sent the answer."""
    known, since_s = executions(shop, model), time.monotonic()
    while time.monotonic() - since_s < SETTLED_S:
        now = executions(shop, model)
        if now != known:
            known, since_s = now, time.monotonic()
        time.sleep(0.02)
    return known


def answers_of_a_batch(shop: Server, client: grpc.InferenceServerClient, queries: Sequence[Query]) -> list[Any]:
    """Answers, and errors, of queries that were asked at once: again until some met in a batch; pytest's timeout ends it."""

    def answer_or_error(asked: Query) -> Any:
        try:
            return ask(grpc, client, *asked)
        except InferenceServerException as error:
            return error

    while True:
        before = after = settled(shop, "shop_embedding")
        with ThreadPoolExecutor(len(queries)) as threads:
            answers = list(threads.map(answer_or_error, queries))
        while after[0] - before[0] < len(queries):
            after = executions(shop, "shop_embedding")
        assert after[0] - before[0] == len(queries)
        if after[1] - before[1] < len(queries):
            return answers


def test_concurrent_requests_run_as_one_batch_and_get_their_own_rows_back(shop: Server, client: grpc.InferenceServerClient) -> None:
    queries = [query(rows, seed) for seed, rows in enumerate([1, 2, 3, 4, 5, 6])]
    answers = answers_of_a_batch(shop, client, queries)
    for (sparse, dense), answer in zip(queries, answers, strict=True):
        np.testing.assert_allclose(answer.as_numpy("score"), handmade.expected(sparse, dense), rtol=1e-5, atol=1e-6)


def test_an_unknown_id_fails_its_own_request_and_no_other_of_the_batch(shop: Server, client: grpc.InferenceServerClient) -> None:
    queries = [query(8, seed) for seed in range(6)]
    queries[2][0][7, 3] = 100_000
    queries[4][0][0, 1] = -1
    queries[4][0][5, 0] = 5_000
    answers = answers_of_a_batch(shop, client, queries)
    errors = {n: answer for n, answer in enumerate(answers) if isinstance(answer, InferenceServerException)}
    assert sorted(errors) == [2, 4]
    words = "input 'sparse' column 3: id 100000 is outside table 'emb_3' (0..999), row 7 of the request"
    assert errors[2].message().endswith(words + ' {"unknown_id": {"row": 7, "position": 3, "id": 100000}}')
    words = "input 'sparse' column 1: id -1 is outside table 'emb_1' (0..999), row 0 of the request (and 1 more rows with unknown ids)"
    assert errors[4].message().endswith(words + ' {"unknown_id": {"row": 0, "position": 1, "id": -1}}')
    assert errors[2].status() == "StatusCode.INVALID_ARGUMENT"
    for n in (0, 1, 3, 5):
        np.testing.assert_allclose(answers[n].as_numpy("score"), handmade.expected(*queries[n]), rtol=1e-5, atol=1e-6)


def test_over_http_an_unknown_id_is_a_bad_request(shop: Server) -> None:
    sparse, dense = query(2)
    sparse[1, 0] = handmade.ROWS
    with http.InferenceServerClient(shop.http_url) as over_http, pytest.raises(InferenceServerException, match="emb_0") as caught:
        ask(http, over_http, sparse, dense)
    assert caught.value.status() == "400"


def test_more_rows_than_the_batch_takes_are_refused(client: grpc.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="batch-size must be <= 64"):
        ask(grpc, client, *query(65))


def test_a_request_of_no_rows_is_refused_by_triton_itself(client: grpc.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="byte size mismatch"):
        ask(grpc, client, *query(0))


def test_a_missing_input_is_refused(client: grpc.InferenceServerClient) -> None:
    sparse = grpc.InferInput("sparse", [1, 4], "INT64")
    sparse.set_data_from_numpy(np.zeros((1, 4), np.int64))
    with pytest.raises(InferenceServerException, match="expected 2 inputs but got 1"):
        client.infer(handmade.NAME, [sparse])


def test_the_number_of_instances_changes_in_place_while_requests_are_answered(shop: Server, client: grpc.InferenceServerClient) -> None:
    def count(instances: int) -> None:
        text = handmade.config(
            "shop_embedding",
            [handmade.SPARSE],
            [handmade.VECTORS, handmade.UNKNOWN],
            delay_us=30_000,
            parameters={"recsplit.lookups": handmade.lookups()},
            instances=instances,
        )
        client.load_model("shop_embedding", headers=handmade.opening(shop), config=json.dumps(handmade.as_json(text)))

    first = stubs(shop, "shop_embedding")
    assert len(first) == 1
    with ThreadPoolExecutor(4) as threads:
        going = [threads.submit(ask, grpc, client, *query(4, seed)) for seed in range(60)]
        count(3)
        grown = stubs(shop, "shop_embedding")
        count(1)
        shrunk = stubs(shop, "shop_embedding")
        for seed, asked in enumerate(going):
            np.testing.assert_allclose(asked.result().as_numpy("score"), handmade.expected(*query(4, seed)), rtol=1e-5, atol=1e-6)
    assert len(grown) == 3
    assert first < grown, "in place: the instance that was there stays"
    assert len(shrunk) == 1
    assert shrunk < grown


def test_the_metrics_page_has_summaries_of_every_step(shop: Server, client: grpc.InferenceServerClient) -> None:
    ask(grpc, client, *query(1))
    with urllib.request.urlopen(shop.metrics_url) as answer:
        page = answer.read().decode()
    for model in ("shop", "shop_embedding", "shop_dense"):
        assert f'nv_inference_request_summary_us{{model="{model}",version="1",quantile="0.99"}}' in page
