"""A router whose servers are elsewhere: parts over HTTP, the quicker one first, and a server that goes away and comes back."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import recsplit
from recsplit.client import Client
from recsplit.engine.compilation import unavailable
from recsplit.plan.routing import Routing, Server, Variant
from recsplit.repository.routers import publish
from recsplit.serving import serve
from recsplit.serving.server import Server as Served
from recsplit.serving.workers import route
from tests.routing.test_served import MOST_ROWS, queries
from tests.waiting import until

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere") / "models"
    recsplit.build(
        "recsplit.zoo.tiny:dlrm", out=folder, name="model", search_s=0, max_batch_size=MOST_ROWS, embedding_runtime="native", form="fused"
    )
    return folder


@pytest.fixture
def backs(repository: Path) -> Iterator[list[Served]]:
    """Two servers of the model."""
    with serve(repository, models=["model"]) as one, serve(repository, models=["model"]) as other:
        yield [one, other]


def routing(backs: list[Served], a_ms: tuple[float, ...] = (0.2, 0.2)) -> Routing:
    servers = tuple(Server("model", -1, back.http_url, each, 0.001, 1) for back, each in zip(backs, a_ms, strict=True))
    return Routing((Variant("model", 1.0, MOST_ROWS, servers),), timeout_ms=2000)


def answered(front: Served) -> list[int]:
    return [server["answered"] for server in route(front.running.folder, "shop")["servers"]]


def test_parts_go_to_both_and_one_that_is_gone_is_done_without(repository: Path, backs: list[Served]) -> None:
    publish(repository, "shop", routing(backs))
    with serve(repository, models=["shop"]) as front, Client(front.grpc_url, "shop") as shop, Client(backs[0].grpc_url, "model") as model:
        query = queries(3000)
        np.testing.assert_array_equal(shop.infer(query)["output"], model.infer(query)["output"])
        assert min(answered(front)) >= 8  # of 24 parts
        unknown = queries(300)
        unknown["user"][210] = 5000
        with pytest.raises(recsplit.UnknownIds, match="row 210"):
            shop.infer(unknown)
        http_port = int(backs[1].http_url.rpartition(":")[2])
        backs[1].stop()
        for number in range(50):
            assert len(shop.infer(queries(MOST_ROWS + 1, number))["output"]) == MOST_ROWS + 1
        before = answered(front)
        with serve(repository, models=["model"], http_port=http_port):
            until(lambda: shop.infer(queries(300)) and answered(front)[1] > before[1], "the server that came back is asked")
        backs[0].stop()
        with pytest.raises(recsplit.RecsplitError, match=r"no server can answer.*127\.0\.0\.1"):
            shop.infer(queries(10))


def test_a_query_goes_where_it_is_done_first(repository: Path, backs: list[Served]) -> None:
    publish(repository, "shop", routing(backs, (0.2, 40.0)))
    with serve(repository, models=["shop"]) as front, Client(front.grpc_url, "shop") as shop:
        for number in range(20):
            shop.infer(queries(10, number))
        assert answered(front) == [20, 0]
        # What a server is said to take is corrected by what it takes: once it is asked, it is found to be as quick.
        route(front.running.folder, "shop", routing(backs, (0.2, 0.3)))
        start = time.monotonic()
        shop.infer(queries(3000))
        assert time.monotonic() - start < 60
        assert answered(front)[1] > 0
