"""A router and the variants behind it as what a controller changes, and `recsplit control --policy variants` on a real Triton."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsplit
from recsplit.client import Client
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError
from recsplit.plan.routing import Routing, Server, Variant
from recsplit.repository.find import find
from recsplit.repository.routers import publish, router_of
from recsplit.serving import serve
from recsplit.serving.server import Server as Served
from recsplit.serving.workers import route, workers
from recsplit_controller.actuate.router import RouterActuator
from recsplit_controller.targets.targets import of_router
from recsplit_controller.values.decision import Action
from recsplit_controller.values.observation import Count
from tests.conftest import Run

pytest.importorskip("scipy")
pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

#: One worker of the exact one is said to sustain next to nothing, so that a light load is too much for it.
ROUTING = Routing(
    (
        Variant("exact", 1.0, 128, (Server("shop_exact", -1, "", 0.2, 0.001, 1),), accuracy=0.80, max_qps=20.0),
        Variant("small", 0.0, 128, (Server("shop_small", -1, "", 0.2, 0.001, 1),), accuracy=0.79, max_qps=400.0),
    )
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("variants") / "models"
    for name, dtypes in (("shop_exact", ()), ("shop_small", ("int8",))):
        recsplit.build(
            "recsplit.zoo.tiny:dlrm", out=folder, name=name, embedding_runtime="native", form="fused", threads=1, search_s=0,
            table_dtype=dtypes, max_batch_size=128,
        )  # fmt: skip
    publish(folder, "shop", ROUTING)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Served]:
    with serve(repository) as running:
        yield running


def test_variants_are_a_group_of_workers_with_what_was_measured(repository: Path) -> None:
    assert router_of(repository, None) == "shop" and router_of(repository, "shop_exact") is None
    plans = {name: find(repository, name).plan for name in ("shop_exact", "shop_small")}
    exact, small = of_router("shop", ROUTING, plans)
    assert (exact.name, exact.model, exact.unit, exact.group, exact.minimum) == ("exact", "shop_exact", "worker", "shop", 1)
    assert (small.accuracy, small.max_qps) == (0.79, 400.0)


def test_models_that_are_no_single_one_of_this_server_are_refused(repository: Path) -> None:
    plans = {name: find(repository, name).plan for name in ("shop_exact", "shop_small")}
    elsewhere = Server("shop_small", -1, "127.0.0.1:9", 0.2, 0.001, 1)
    with pytest.raises(InputError, match="elsewhere"):
        of_router("shop", Routing((Variant("far", 1.0, 128, (elsewhere,)),)), plans)


def test_counts_have_the_routers_shares_and_both_change_at_once(server: Served, repository: Path) -> None:
    plans = {name: find(repository, name).plan for name in ("shop_exact", "shop_small")}
    actuator = RouterActuator(server.grpc_url, "shop", of_router("shop", ROUTING, plans))
    assert actuator.counts() == {"exact": Count(1, 1, weight=1.0), "small": Count(1, 1, weight=0.0)}
    actuator.begin(Action("scale", "small", 3, 0.0, "a test's"))
    actuator.begin(Action("route", "shop", 3, 0.0, "a test's", weights={"exact": 0.25, "small": 0.75}))
    assert [outcome.error for outcome in actuator.outcomes()] == [None, None] and not actuator.ill()
    assert actuator.counts() == {"exact": Count(1, 1, weight=0.25), "small": Count(3, 3, weight=0.75)}
    assert workers(server.running.folder)["shop_small"] == 3
    actuator.begin(Action("route", "shop", 3, 0.0, "a test's", weights={"exact": 0.0, "small": 0.0}))
    (refused,) = actuator.outcomes()
    assert refused.error is not None and "no variant has a weight" in refused.error
    assert actuator.counts()["small"].weight == 0.75, "what was stays"
    actuator.begin(Action("scale", "small", 2, 0.0, "a test's"))
    route(server.running.folder, "shop", ROUTING)
    actuator.close()


def test_a_server_that_is_away_has_no_counts_and_an_action_says_why(repository: Path) -> None:
    plans = {name: find(repository, name).plan for name in ("shop_exact", "shop_small")}
    actuator = RouterActuator("127.0.0.1:9", "shop", of_router("shop", ROUTING, plans))
    assert actuator.counts() == {"exact": Count(), "small": Count()}
    actuator.begin(Action("route", "shop", 1, 0.0, "a test's", weights={"exact": 1.0, "small": 0.0}))
    assert [outcome.error for outcome in actuator.outcomes()] == ["the server at 127.0.0.1:9 is away"]


def test_control_gives_a_load_that_is_too_much_for_the_exact_one_to_the_small_one_and_loses_no_query(
    server: Served, repository: Path, run_recsplit: Run, tmp_path: Path
) -> None:
    failures: list[Exception] = []
    done = threading.Event()
    query: dict[str, Any] = {
        "dense": np.zeros((1, 4), np.float32),
        "user": np.zeros(1, np.int64),
        "item": np.zeros(1, np.int64),
        "tags": np.zeros((1, 5), np.int64),
    }

    def ask() -> None:
        with Client(server.grpc_url, "shop") as shop:
            while not done.is_set():
                try:
                    shop.infer(query)
                except Exception as error:
                    failures.append(error)
                done.wait(0.01)

    (tmp_path / "control.toml").write_text('forecaster = "last_max"\ninterval_s = 1\nwindow_s = 3\nbound_ms = 200\n')
    client = threading.Thread(target=ask)
    client.start()
    decided: dict[str, Any] = {}
    try:
        done.wait(1)
        for _ in range(4):
            arguments = ["control", repository, "--policy", "variants", "--settings", tmp_path / "control.toml", "--once", "--json"]
            decided = json.loads(run_recsplit(*arguments).stdout)
    finally:
        done.set()
        client.join()
    assert not failures
    assert {decision["target"] for decision in decided["decisions"]} == {"exact", "small"}
    running = {variant["name"]: variant["weight"] for variant in route(server.running.folder, "shop")["settings"]["variants"]}
    assert running["small"] > 0.5, decided["decisions"]
    route(server.running.folder, "shop", ROUTING)
