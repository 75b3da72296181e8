"""A router in a real Triton: answers, shares, queries larger than a model takes, other settings under load, errors and deadlines."""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

import recsplit
from recsplit.client import Client
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError
from recsplit.plan.routing import Routing, Server, Variant
from recsplit.repository.routers import publish
from recsplit.serving import serve
from recsplit.serving.server import Server as Served
from recsplit.serving.workers import route

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

MOST_ROWS = 128


def server(model: str, **changed: Any) -> Server:
    return dataclasses.replace(Server(model, -1, "", 0.2, 0.001, 1), **changed)


def halves(weight: float = 1.0, split_rows: int = MOST_ROWS) -> Routing:
    """Two variants: the same model once as an ensemble, once fused."""
    return Routing(
        (Variant("parts", weight, split_rows, (server("parts"),)), Variant("fused", 1.0, split_rows, (server("fused"),))),
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("routed") / "models"
    settings: dict[str, Any] = {"out": folder, "search_s": 0, "max_batch_size": MOST_ROWS, "embedding_runtime": "native"}
    recsplit.build("recsplit.zoo.tiny:dlrm", name="parts", **settings)
    recsplit.build("recsplit.zoo.tiny:dlrm", name="fused", form="fused", **settings)
    assert publish(folder, "shop", halves()) == 1
    return folder


@pytest.fixture(scope="module")
def served(repository: Path) -> Iterator[Served]:
    with serve(repository) as running:
        yield running


def queries(rows: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "dense": rng.standard_normal((rows, 4), np.float32),
        "user": rng.integers(0, 1000, rows),
        "item": rng.integers(0, 400, rows),
        "tags": rng.integers(0, 100, (rows, 5)),
    }


def raw(client: triton.InferenceServerClient, model: str, query: dict[str, Any], **options: Any) -> Any:
    inputs = []
    for name, array in query.items():
        array = array.reshape(len(array), -1)
        inputs.append(triton.InferInput(name, array.shape, "FP32" if array.dtype == np.float32 else "INT64"))
        inputs[-1].set_data_from_numpy(array)
    return client.infer(model, inputs, **options)


@pytest.mark.parametrize("rows", [1, 64, MOST_ROWS, MOST_ROWS + 1, 3000])
def test_a_query_of_any_size_is_answered_as_the_models_behind_do(served: Served, rows: int) -> None:
    query = queries(rows)
    with Client(served.grpc_url, "parts") as parts, Client(served.grpc_url, "shop") as shop:
        expected = parts.infer(query)  # this client cuts what is larger than the model takes
        for _ in range(2):  # by each variant
            answer = shop.infer(query)
            assert answer.version == 1
            for name, array in expected.items():
                np.testing.assert_allclose(answer[name], array, rtol=1e-5, atol=1e-6)


def test_a_service_takes_what_a_model_refuses(served: Served) -> None:
    with triton.InferenceServerClient(served.grpc_url) as client:
        with pytest.raises(InferenceServerException, match="batch-size must be <= 128"):
            raw(client, "parts", queries(3000))
        assert raw(client, "shop", queries(3000)).as_numpy("output").shape[0] == 3000


def test_queries_are_shared_out_by_weight(served: Served) -> None:
    route(served.running.folder, "shop", halves(3.0))
    before = route(served.running.folder, "shop")
    with Client(served.grpc_url, "shop") as shop:
        for number in range(400):
            shop.infer(queries(1, number))
    after = route(served.running.folder, "shop")
    counts = [now["queries"] - then["queries"] for now, then in zip(after["variants"], before["variants"], strict=True)]
    assert counts == [300, 100]


def test_other_settings_under_load_lose_no_query(served: Served) -> None:
    failures, answered, done = [], [0], threading.Event()

    def ask(seed: int) -> None:
        with Client(served.grpc_url, "shop") as shop:
            while not done.is_set():
                try:
                    shop.infer(queries(1 + answered[0] % 300, seed))
                    answered[0] += 1
                except Exception as error:
                    failures.append(error)

    clients = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for client in clients:
        client.start()
    try:
        for number in range(100):
            at = answered[0]
            route(served.running.folder, "shop", halves(float(number % 5), split_rows=(64, 0, 7)[number % 3] or MOST_ROWS))
            while answered[0] < at + 3 and not failures:
                done.wait(0.001)
    finally:
        done.set()
        for client in clients:
            client.join()
    assert not failures and answered[0] >= 300


def test_settings_that_cant_be_leave_the_old_ones(served: Served) -> None:
    route(served.running.folder, "shop", halves())
    with pytest.raises(InputError, match="no router 'shoes'"):
        route(served.running.folder, "shoes", halves())
    unlike = Routing((Variant("parts", 1.0, 0, (server("parts", at_once=0),)),))
    with pytest.raises(InputError, match="from 1 to"):
        route(served.running.folder, "shop", unlike)
    assert [variant["name"] for variant in route(served.running.folder, "shop")["variants"]] == ["parts", "fused"]


def test_an_unknown_id_is_told_with_the_row_of_the_query(served: Served) -> None:
    query = queries(300)
    query["user"][210] = 5000
    with Client(served.grpc_url, "shop") as shop, pytest.raises(recsplit.UnknownIds) as caught:
        shop.infer(query)
    assert "row 210" in str(caught.value) and "5000" in str(caught.value)


def test_what_cant_be_answered_in_time_is_refused_before_it_is_sent(served: Served) -> None:
    slow = Routing((Variant("parts", 1.0, MOST_ROWS, (server("parts", a_ms=50.0),)),), deadline_ms=20.0)
    route(served.running.folder, "shop", slow)
    before = route(served.running.folder, "shop")
    with triton.InferenceServerClient(served.grpc_url) as client:
        with pytest.raises(InferenceServerException, match=r"UNAVAILABLE.*no server can answer within 20 ms"):
            raw(client, "shop", queries(8))
        with pytest.raises(InferenceServerException, match="no server can answer within 1 ms"):
            raw(client, "shop", queries(8), timeout=1000)
        assert raw(client, "shop", queries(8), timeout=10_000_000).as_numpy("output").shape[0] == 8
    after = route(served.running.folder, "shop")
    assert after["late"] - before["late"] == 2
    assert after["variants"][0]["queries"] - before["variants"][0]["queries"] == 1
    route(served.running.folder, "shop", halves())


def test_a_model_that_is_away_is_told_and_another_of_the_variant_takes_its_part(served: Served) -> None:
    gone = server("gone", a_ms=0.0, b_ms=0.0)
    route(served.running.folder, "shop", Routing((Variant("parts", 1.0, MOST_ROWS, (gone, server("parts"))),)))
    with Client(served.grpc_url, "shop") as shop:
        assert len(shop.infer(queries(300))["output"]) == 300
        route(served.running.folder, "shop", Routing((Variant("parts", 1.0, MOST_ROWS, (gone,)),)))
        with pytest.raises(recsplit.RecsplitError, match="gone"):
            shop.infer(queries(3))
    route(served.running.folder, "shop", halves())


def test_models_that_are_asked_otherwise_have_no_router(repository: Path) -> None:
    recsplit.build("recsplit.zoo.lookups:masked_mean", out=repository, name="other", search_s=0)
    unlike = Routing((Variant("one", 1.0, 0, (server("parts"),)), Variant("two", 1.0, 0, (server("other"),))))
    with pytest.raises(InputError, match="has other inputs or outputs"):
        publish(repository, "mixed", unlike)
    with pytest.raises(InputError, match="holds no ensemble 'none'"):
        publish(repository, "mixed", Routing((Variant("one", 1.0, 0, (server("none"),)),)))
