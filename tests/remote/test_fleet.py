"""A fleet of real servers on this machine: its answers, and what becomes of them when a server goes."""

import os
import re
import signal
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recsplit.client import Client
from recsplit.client.failures import ServerError
from recsplit.configs.fleet import Asking
from recsplit.engine.compilation import unavailable
from recsplit.errors import RecsplitError
from recsplit.repository.find import find
from recsplit.serving import Server, serve
from recsplit.serving.fleet.fleet import Fleet, serve_fleet
from recsplit.serving.fleet.member import Member
from recsplit.serving.fleet.placement import FRONT, Address, write_front
from tests.remote import engine_fleet, sharded
from tests.serving.conftest import leftovers, stubs
from tests.waiting import until

HOT, COLD = "0", "1"


@pytest.fixture(scope="module", params=["one model of the engine", "models of the remote backend"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sharded")
    if request.param == "models of the remote backend":
        sharded.write(path)
        return path
    if unavailable() is not None:
        pytest.skip(f"no engine here: {unavailable()}")
    return engine_fleet.write(path)


@pytest.fixture(scope="module")
def fleet(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    logs = tmp_path_factory.mktemp("logs")
    with serve_fleet(repository, replicas={"front": 2, HOT: 2, COLD: 1}, logs=logs, asking=Asking(probe_ms=100)) as running:
        yield running


def queries(count: int, rows: int, seed: int = 0) -> list[NDArray[np.int64]]:
    return list(np.random.default_rng(seed).integers(0, sharded.ROWS, (count, rows, 4)))


def ask(client: Client, ids: NDArray[np.int64]) -> None:
    """One query, and its answer against numpy's."""
    np.testing.assert_allclose(client.infer({"ids": ids})["score"], sharded.expected(ids), rtol=1e-4, atol=1e-4)


def answers(url: str, ids: list[int]) -> bool:
    """Whether a front answers such a query, and not with an error."""
    with Client(url, sharded.NAME) as client:
        try:
            ask(client, np.array([ids]))
        except ServerError:
            return False
    return True


def kill(member: Member) -> None:
    assert member.server is not None
    os.kill(member.server.pid, signal.SIGKILL)
    member.server.running.process.wait()


class Load:
    """Threads that ask one front without pause, and keep what went wrong."""

    def __init__(self, url: str, *, threads: int = 4) -> None:
        self.url, self.asked, self.wrong, self.failed = url, 0, list[str](), list[str]()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with Client(self.url, sharded.NAME, timeout_s=60) as client:
            while not self._stop.is_set():
                for ids in queries(20, 3, seed=number):
                    try:
                        ask(client, ids)
                    except ServerError as error:
                        self.failed.append(str(error))
                    except AssertionError as error:
                        self.wrong.append(str(error))
                    self.asked += 1

    def until(self, more: int) -> None:
        """Return when so many more queries were asked."""
        goal = self.asked + more
        until(lambda: self.asked >= goal, lambda: f"more than {self.asked} of {goal} queries")


def test_every_front_answers_as_the_whole_model_does(fleet: Fleet) -> None:
    assert len(fleet.fronts) == 2
    for front in fleet.fronts:
        with Client(front.grpc_url, sharded.NAME) as grpc, Client(front.http_url, sharded.NAME, protocol="http") as http:
            for rows in (1, 2, sharded.BATCH):
                for client in (grpc, http):
                    ask(client, queries(1, rows, seed=rows)[0])


@pytest.mark.parametrize("ids", [[5, 6, 7, 8], [500, 600, 700, 800], [5, 500, 7, 800]])
def test_queries_of_one_shard_only_and_of_both_are_answered(fleet: Fleet, ids: list[int]) -> None:
    with Client(fleet.fronts[0].grpc_url, sharded.NAME) as client:
        ask(client, np.array([ids]))


def test_queries_under_way_at_once_don_t_mix(fleet: Fleet) -> None:
    with Load(fleet.fronts[0].grpc_url, threads=8) as load:
        load.until(400)
    assert not load.wrong and not load.failed


def test_a_replica_killed_under_load_costs_no_answer_while_another_is_there(fleet: Fleet) -> None:
    victim = fleet.member(HOT, 0)
    with Load(fleet.fronts[0].grpc_url) as load:
        load.until(200)
        kill(victim)
        load.until(400)
        fleet.start_member(victim)
        load.until(200)
    assert not load.wrong and not load.failed


def test_a_replica_that_is_stopped_under_load_finishes_what_it_has_and_costs_nothing(fleet: Fleet) -> None:
    leaving = fleet.member(HOT, 1)
    with Load(fleet.fronts[0].grpc_url) as load:
        load.until(200)
        fleet.drain(leaving)
        assert leaving.state() == "STOPPED"
        load.until(200)
        fleet.start_member(leaving)
        load.until(200)
    assert not load.wrong and not load.failed


def test_without_a_replica_errors_come_at_once_and_only_for_queries_that_need_it_until_it_returns(fleet: Fleet) -> None:
    victim = fleet.member(COLD)
    with Load(fleet.fronts[1].grpc_url) as load:
        load.until(100)
        kill(victim)
        load.until(200)
        assert load.failed
        assert all("no replica answers" in text and "embedding_1" in text for text in load.failed)
        with Client(fleet.fronts[1].grpc_url, sharded.NAME) as client:
            ask(client, np.array([[1, 2, 3, 4]]))  # it has no row in the shard that is gone
        fleet.start_member(victim)

        until(lambda: answers(fleet.fronts[1].grpc_url, [900, 901, 902, 903]), "answers of the replica that is back")
        failures = len(load.failed)
        load.until(100)
        assert len(load.failed) <= failures + 4  # those that were under way when it came back
    assert not load.wrong
    assert all("no replica answers" in text for text in load.failed)  # none hung until its own patience ended


def test_a_server_whose_worker_died_is_avoided_although_triton_says_it_is_ready(fleet: Fleet) -> None:
    victim = fleet.member(HOT, 0)
    assert victim.server is not None
    if not stubs(victim.server, "shop_embedding_0"):
        pytest.skip("the engine has no workers that could die alone")
    with Load(fleet.fronts[0].grpc_url) as load:
        load.until(100)
        for pid in stubs(victim.server, "shop_embedding_0"):
            os.kill(pid, signal.SIGKILL)
        load.until(300)
        assert victim.state() == "READY"
    fleet.start_member(victim)
    assert not load.wrong and not load.failed


def test_metrics_tell_which_replica_was_asked_and_which_is_avoided(fleet: Fleet) -> None:
    def page() -> str:
        with urllib.request.urlopen(fleet.fronts[0].metrics_url) as response:
            return str(response.read().decode())

    with Client(fleet.fronts[0].grpc_url, sharded.NAME) as client:
        for ids in queries(10, 2):
            ask(client, ids)
    ports = fleet.member(COLD).ports
    address = f"127.0.0.1:({ports['gRPC']}|{ports['HTTP']})"

    def up() -> bool:
        up_match = re.search(rf'^recsplit_remote_replica_up{{.*replica="{address}".*}} (\S+)$', page(), re.MULTILINE)
        return up_match is not None and float(up_match[2]) == 1

    until(up, "a replica that is shown as up")

    def counted(name: str) -> float:
        return sum(map(float, re.findall(rf'^recsplit_remote_{name}{{.*model="shop_embedding_1".*}} (\S+)$', page(), re.MULTILINE)))

    for name in ("calls_answered", "call_duration_us", "rows"):
        until(lambda name=name: counted(name) > 0, f"a count of {name}")  # type: ignore[misc]


def test_a_shard_that_has_only_its_batched_form_is_asked_with_the_tensors_as_they_are(tmp_path: Path) -> None:
    sharded.write(tmp_path, bags=False, places=("front", "own"))
    with serve_fleet(tmp_path) as running:
        assert [part.name for part in running.parts] == [COLD, "front"]
        with Load(running.fronts[0].grpc_url) as load:
            load.until(100)
        assert not load.wrong and not load.failed
        servers = [member.server for member in running.members if member.server is not None]
    until(lambda: not any(leftovers(server) for server in servers), "the end of all that the servers had")
    assert not running.folder.exists()


def test_a_front_that_is_stopped_under_load_answers_what_it_took_and_refuses_the_rest(fleet: Fleet) -> None:
    leaving = fleet.member("front", 1)
    assert leaving.server is not None
    with Load(leaving.server.grpc_url) as load:
        load.until(200)
        fleet.drain(leaving)
        load.until(20)
    # With a query that is never let go, here or in a test before, it would have been killed when its time was over.
    assert "successfully unloaded 'shop'" in leaving.server.log.read_text()
    fleet.start_member(leaving)
    assert not load.wrong
    refused = ("unknown model", "not ready", "can't reach", "CANCELLED")  # the last: it came just when the port was closed
    assert {text for text in load.failed if not any(words in text for words in refused)} == set()


def waiting_front(repository: Path, folder: Path, addresses: dict[str, list[Address]], await_ms: int) -> Path:
    """A front's repository as Kubernetes' pods have it: not ready before each shard has answered."""
    write_front(repository, find(repository).plan, addresses, folder, Asking(probe_ms=100))
    for file in (*folder.glob("*/config.pbtxt"), *folder.glob("*/1/engine.json")):
        if not file.parent.is_symlink():
            file.write_text(re.sub(r'(await_ms\\?": ?)0', rf"\g<1>{await_ms}", file.read_text()))
    return folder


def test_fronts_start_when_the_shards_are_ready(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one may be ready before it has found its shards, and its first queries fail."""
    launch, ready = Fleet._launch, list[int]()

    def recorded(self: Fleet, member: Member) -> Server:
        if member.part == FRONT:
            for other in self.members:
                if other.part != FRONT and other.server is not None:
                    ready.append(urllib.request.urlopen(f"http://{other.server.http_url}/v2/health/ready", timeout=30).status)
        return launch(self, member)

    monkeypatch.setattr(Fleet, "_launch", recorded)
    with serve_fleet(repository, replicas={"front": 1, HOT: 1, COLD: 1}) as fleet:
        assert ready == [200, 200] and answers(fleet.fronts[0].grpc_url, [5, 6, 7, 500])


def test_a_front_is_not_ready_before_its_shards_have_answered(repository: Path, tmp_path: Path, fleet: Fleet) -> None:
    """As the pods of a new build start: fronts and shards at once, and clients are sent to fronts that are ready."""
    cold = fleet.member(COLD)
    addresses = {
        part: [Address(f"127.0.0.1:{member.ports['HTTP']}", f"127.0.0.1:{member.ports['gRPC']}")]
        for part, member in ((HOT, fleet.member(HOT)), (COLD, cold))
    }
    fleet.drain(cold)
    front = waiting_front(repository, tmp_path / "front", addresses, 60_000)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(serve, front, ready_timeout_s=120)
        with pytest.raises(TimeoutError):
            starting.result(8)
        fleet.start_member(cold)
        with starting.result(120) as server, Client(server.grpc_url, sharded.NAME) as client:
            ask(client, queries(1, 8)[0])


def test_a_front_whose_shards_never_answer_fails_to_start_and_says_of_which(repository: Path, tmp_path: Path) -> None:
    front = waiting_front(repository, tmp_path / "front", {part: [Address("127.0.0.1:1", "127.0.0.1:1")] for part in (HOT, COLD)}, 500)
    with pytest.raises(RecsplitError) as failed:
        serve(front, ready_timeout_s=120)
    assert "no replica answers: 127.0.0.1:1" in f"{failed.value} {failed.value.detail}"
