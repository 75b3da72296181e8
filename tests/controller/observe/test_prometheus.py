"""A live fleet under load, seen twice: through `recsplit serve --fleet --prometheus` with the rendered rules, and by its own pages."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest

from recsplit.client import Client
from recsplit.engine.compilation import unavailable
from recsplit.errors import InputError
from recsplit.monitoring.dashboard import dashboard
from recsplit.monitoring.rules import models, recording_rules
from recsplit.monitoring.watching import Watching
from recsplit.plan.plan import Plan
from recsplit.repository.find import find
from recsplit_controller.observe.prometheus import PrometheusObserver
from recsplit_controller.observe.scrape import ScrapeObserver
from recsplit_controller.values.observation import Observation
from tests.kubernetes.prometheus import BINARY, TOOLS, Prometheus
from tests.remote import engine_fleet, sharded
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BINARY is None, reason="prometheus is not installed (Debian's package of that name)")]


@dataclass(frozen=True)
class Watched:
    """A fleet of a front and two shard servers with its Prometheus; `load` while it is set, queries come at a steady rate."""

    plan: Plan
    pages: tuple[str, ...]
    prometheus: Prometheus
    load: threading.Event

    def observers(self) -> tuple[PrometheusObserver, ScrapeObserver]:
        names = models(self.plan)
        return PrometheusObserver(self.prometheus.url, self.plan.name, names), ScrapeObserver(self.pages, self.plan.name, names)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One whose front has a model for each shard."""
    folder = tmp_path_factory.mktemp("watched")
    with watching(folder, sharded.write(folder)) as fleet:
        yield fleet


@contextmanager
def watching(folder: Path, plan: Plan) -> Iterator[Watched]:
    """The fleet of a repository, under load."""
    command = [sys.executable, "-m", "recsplit", "serve", str(folder), "--fleet", "--replicas", "front=1,0=1,1=1", "--prometheus", "--json"]
    path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PATH": path}) as process:
        load, ended = threading.Event(), threading.Event()
        try:
            assert process.stdout is not None
            announcement = json.loads(process.stdout.readline())
            pages = tuple(server["metrics_url"] for server in announcement["servers"])
            front = next(server["grpc_url"] for server in announcement["servers"] if server["part"] == "front")
            ids = np.random.default_rng(0).integers(0, sharded.ROWS, (8, 4))

            def send() -> None:
                with Client(front, plan.name) as client:
                    while not ended.is_set():
                        if load.is_set():
                            client.infer({"ids": ids})
                        ended.wait(0.03)

            threads = [threading.Thread(target=send) for _ in range(2)]
            for thread in threads:
                thread.start()
            load.set()
            yield Watched(plan, pages, Prometheus(announcement["prometheus_url"]), load)
            ended.set()
            for thread in threads:
                thread.join()
        finally:
            ended.set()
            process.terminate()
            process.wait(60)


def apart(one: Observation, two: Observation) -> list[str]:
    """What two observations of the same traffic don't have in common: unknown in one only, or further apart than their windows can be."""
    differences = []
    for model in one.models:
        for name, value in asdict(one.of(model)).items():
            other = getattr(two.of(model), name)
            # Percentiles, and what waits, change from one scrape to the next; rates are of a window.
            near = 0.2 if name in ("requests", "rows", "failures", "offered") else 0.6
            unlike = (value is None) != (other is None)
            if unlike or (value is not None and name != "pending" and abs(value - other) > near * max(value, other) + 0.02):
                differences.append(f"{model} {name}: {value} and {other}")
    return differences


def test_both_see_the_same_traffic_in_the_same_numbers(watched: Watched) -> None:
    watched.load.set()
    by_rules, by_pages = watched.observers()
    seen: list[Observation] = []

    def agree() -> bool:
        seen[:] = [observer.observe(time.time()) for observer in (by_rules, by_pages)]
        fresh = all(one.data_s is not None and one.at_s - one.data_s < 10 for one in seen)
        return fresh and not any(one.problems for one in seen) and bool(seen[0].of("shop").requests) and not apart(*seen)

    until(agree, lambda: f"agreement: {[one.problems for one in seen]}, {apart(*seen)}")
    for one in seen:
        queries, shard = one.of("shop"), one.of("shop_embedding_0")
        assert queries.requests is not None and queries.busy is None and queries.offered is None
        # A shard's own server answers; what its stand-in in the front is asked comes apart, and isn't counted twice.
        assert shard.requests is not None and shard.offered is not None
        assert 0 < shard.requests <= shard.offered * 1.3
        dense = one.of("shop_dense")
        assert dense.busy is not None and 0 < dense.busy < 2
    by_rules.close()


def test_what_came_in_before_is_there_for_who_starts_now(watched: Watched) -> None:
    watched.load.set()
    observer, _ = watched.observers()
    until(lambda: len(observer.history(time.time(), 5.0, 100).get("shop_dense", ())) >= 3, "three periods of 5 s")
    known = observer.history(time.time(), 5.0, 100)
    assert set(known) <= set(models(watched.plan)) and all(rate > 0 for rate in known["shop_dense"][1:])
    assert observer.observe(time.time()).window_s == Watching().window_s
    observer.close()


def test_every_rule_gives_numbers_of_the_live_servers(watched: Watched) -> None:
    watched.load.set()
    of_engine = {"recsplit_server:engine", "recsplit_server:offered"}  # see below
    rules = [rule for rule in recording_rules(watched.plan, Watching()) if rule.record not in of_engine]

    def missing() -> list[str]:
        return [rule.record for rule in rules if not watched.prometheus.query(rule.record)]

    until(lambda: not missing(), "series of all rules")
    for rule in rules:
        assert all(math.isfinite(value) for _, value in watched.prometheus.query(rule.record)), rule.record
    health = [rule["health"] for group in watched.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert set(health) == {"ok"}
    for panel in dashboard(watched.plan, Watching())["panels"]:
        for line in panel.get("targets", ()):
            chosen = re.sub(r"\$\w+", ".*", line["expr"])  # all of them, as Grafana puts it in unless the reader chooses
            assert watched.prometheus.query(chosen) or "recsplit_controller" in chosen, chosen


def test_without_queries_rates_are_zero_and_latencies_unknown(watched: Watched) -> None:
    watched.load.clear()
    for observer in watched.observers():

        def idle(observer: PrometheusObserver | ScrapeObserver = observer) -> bool:
            seen = observer.observe(time.time()).of("shop_dense")
            return seen.requests == 0 and seen.busy == 0 and seen.mean_ms is None

        until(idle, f"an idle fleet, seen by {observer}")
    watched.load.set()


@pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
def test_a_front_that_is_one_model_of_the_engine_tells_what_its_shards_are_offered(tmp_path: Path) -> None:
    repository = engine_fleet.write(tmp_path)
    with watching(repository, find(repository).plan) as fleet:
        by_rules, by_pages = fleet.observers()
        for observer in (by_rules, by_pages):

            def told(observer: PrometheusObserver | ScrapeObserver = observer) -> bool:
                seen = observer.observe(time.time())
                shards = [seen.of(f"shop_embedding_{number}") for number in range(2)]
                queries = seen.of("shop")
                return bool(queries.requests and queries.busy) and all(shard.offered and shard.requests for shard in shards)

            until(told, f"queries and what the shards are offered, seen by {observer}")
        assert all(fleet.prometheus.query(f"recsplit_server:{name}") for name in ("offered", "engine"))

        def agree() -> list[str]:
            one, two = (observer.observe(time.time()) for observer in (by_rules, by_pages))
            return apart(one, two)

        until(lambda: not agree(), lambda: f"agreement: {agree()}")
        by_rules.close()


def test_a_prometheus_that_hangs_is_a_problem_told_in_time(watched: Watched) -> None:
    observer = PrometheusObserver(watched.prometheus.url, "shop", models(watched.plan), timeout_s=0.5)
    until(lambda: not observer.observe(time.time()).problems, "an answer")
    pid = _pid_of(watched.prometheus.url)
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(2):  # the second look doesn't ask it again
            seen = observer.observe(time.time())  # returns, although nobody answers
            assert seen.data_s is None and seen.of("shop").requests is None and len(seen.problems) == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: not observer.observe(time.time()).problems, "its return")


def test_no_prometheus_at_all_is_a_problem_told() -> None:
    seen = PrometheusObserver("http://127.0.0.1:9", "shop", ("shop_dense",)).observe(5.0)
    assert (seen.data_s, len(seen.problems)) == (None, 1)
    assert "127.0.0.1:9" in seen.problems[0]
    with pytest.raises(InputError, match="Prometheus"):
        PrometheusObserver("127.0.0.1:9090", "shop", ())


def _pid_of(url: str) -> int:
    address = url.removeprefix("http://")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if f"--web.listen-address={address}" in path.read_text(errors="replace").split("\0"):
            return int(path.parent.name)
    raise AssertionError(f"nothing listens at {address}")
