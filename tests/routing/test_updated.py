"""`recsplit update` on a repository with a router: new builds of its variants, a variant that is new, and shares that stay."""

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recsplit
from recsplit.building.settings import BuildSettings
from recsplit.building.variants import build_variants, spec
from recsplit.client import Client
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError
from recsplit.rendering.progress import in_silence
from recsplit.repository.routers import publish, settings_of
from recsplit.serving import serve
from recsplit.serving.workers import route
from tests.conftest import Run

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


def test_a_server_takes_all_behind_its_router_while_it_answers(tmp_path: Path, run_recsplit: Run) -> None:
    repository = tmp_path / "models"
    settings = BuildSettings("recsplit.zoo.tiny:dlrm", repository, "shop", form="fused", threads=1, search_s=0)
    build_variants(settings, [spec("exact"), spec("small=int8")], in_silence)
    query: dict[str, Any] = {
        "dense": np.zeros((3, 4), np.float32),
        "user": np.zeros(3, np.int64),
        "item": np.zeros(3, np.int64),
        "tags": np.zeros((3, 5), np.int64),
    }
    failures: list[Exception] = []
    done = threading.Event()
    with serve(repository) as server:

        def ask() -> None:
            with Client(server.grpc_url, "shop") as shop:
                while not done.is_set():
                    try:
                        shop.infer(query)
                    except Exception as error:
                        failures.append(error)

        routing = settings_of(repository, "shop")
        shares = [dataclasses.replace(each, weight=weight) for each, weight in zip(routing.variants, (0.25, 0.75), strict=True)]
        route(server.running.folder, "shop", dataclasses.replace(routing, variants=tuple(shares)))
        client = threading.Thread(target=ask)
        client.start()
        try:
            build_variants(settings, [spec("exact"), spec("small=int8"), spec("half=fp16")], in_silence)
            updated = run_recsplit("update", repository)
            again = recsplit.update(repository)
        finally:
            done.set()
            client.join()
        assert updated.returncode == 0, updated.stderr
        assert "shop_half" in updated.stdout and "holds shop version 2" in updated.stdout
        assert not failures
        assert [(one.model, one.before, one.after) for one in again] == [("shop_exact", 2, 2), ("shop_small", 2, 2), ("shop_half", 1, 1)]
        running = route(server.running.folder, "shop")["settings"]["variants"]
        assert [(each["name"], each["weight"]) for each in running] == [("exact", 0.25), ("small", 0.75), ("half", 0.0)]
        with Client(server.grpc_url, "shop_exact") as exact, Client(server.grpc_url, "shop_half") as half:
            assert exact.infer(query).version == 2 and half.infer(query).version == 1
        with Client(server.grpc_url, "shop") as shop:
            shop.infer(query)
        # One that the server hasn't is loaded.
        publish(repository, "other", dataclasses.replace(routing, variants=routing.variants[:1]))
        with pytest.raises(InputError, match="several"):
            recsplit.update(repository)
        recsplit.update(repository, "other")
        with Client(server.grpc_url, "other") as other:
            other.infer(query)
