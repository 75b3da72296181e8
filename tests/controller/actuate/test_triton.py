"""Instances of a real Triton, changed by the actuator: seen, healed, and left alone where something is wrong."""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recsplit.client import Client
from recsplit.client.failures import ServerError
from recsplit.errors import InputError
from recsplit.proof import samples
from recsplit.repository.find import find
from recsplit.serving import Server, serve
from recsplit_controller.actuate.triton import TritonActuator
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Target
from recsplit_perf.processes.instances import instances
from tests.waiting import WITHIN_S, until

DENSE, EMBEDDING = "shop_dense", "shop_embedding"
TARGETS = (Target(DENSE, DENSE, "dense"), Target(EMBEDDING, EMBEDDING, "embedding"))
KEY = "0123456789abcdef-KEY"


@pytest.fixture(scope="module")
def served(light: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of this module's own, for some tests change files of it."""
    return shutil.copytree(light, tmp_path_factory.mktemp("served") / "models")


@pytest.fixture(scope="module")
def server(served: Path) -> Iterator[Server]:
    with serve(served, control_key=KEY) as running:
        yield running


@pytest.fixture
def actuator(server: Server, served: Path) -> Iterator[TritonActuator]:
    triton_actuator = TritonActuator(server.grpc_url, served, TARGETS, key=KEY)
    yield triton_actuator
    triton_actuator.close()


def settle(server: Server, count: int) -> None:
    """Wait for the end of the dense model's old instances: they end when the new ones serve."""
    until(lambda: len(instances(server.pid, DENSE)) == count, f"{count} instances")


def do(actuator: TritonActuator, action: Action) -> Outcome:
    """Begin an action and wait until it has ended."""
    actuator.begin(action)
    return outcome(actuator)


def outcome(actuator: TritonActuator) -> Outcome:
    ended: list[Outcome] = []

    def has_ended() -> bool:
        ended.extend(actuator.outcomes())
        return bool(ended)

    until(has_ended, "the end of the action")
    assert len(ended) == 1
    return ended[0]


def to(count: int, target: str = DENSE, threads: int | None = None) -> Action:
    return Action("scale", target, count, 0.0, "the test's", threads)


def ask(server: Server, repository: Path, times: int = 1) -> list[str]:
    """Ask the ensemble; the errors."""
    plan, errors = find(repository).plan, []
    with Client(server.grpc_url, plan.name, timeout_s=20) as client:
        for _ in range(times):
            try:
                client.infer(samples.rows(plan, 3, np.random.default_rng(0)))
            except ServerError as error:
                errors.append(str(error))
    return errors


def test_counts_change_in_place_and_are_told(actuator: TritonActuator, server: Server, served: Path) -> None:
    first = instances(server.pid, DENSE)
    ended = do(actuator, to(3))
    assert ended.action == to(3) and ended.error is None
    assert actuator.counts() == {DENSE: Count.steady(3), EMBEDDING: Count.steady(1)}
    grown = instances(server.pid, DENSE)
    assert first < grown and len(grown) == 3
    assert do(actuator, to(1)).error is None
    assert actuator.counts() == {DENSE: Count.steady(1), EMBEDDING: Count.steady(1)}
    assert ask(server, served) == []


def test_of_many_targets_all_are_known_and_a_change_is_seen_at_once(server: Server, served: Path) -> None:
    many = TritonActuator(server.grpc_url, served, [Target(f"{number}", DENSE, "dense") for number in range(120)], key=KEY)
    present = many.counts()["0"].serving
    assert present is not None and set(many.counts().values()) == {Count.steady(present)}
    assert do(many, to(present % 3 + 1, "7")).error is None
    assert many.counts()["7"] == Count.steady(present % 3 + 1)
    many.counts()
    assert set(many.counts().values()) == {Count.steady(present % 3 + 1)}
    many.close()


def test_two_models_change_side_by_side(actuator: TritonActuator) -> None:
    actuator.begin(to(2))
    actuator.begin(to(2, EMBEDDING))
    ended: list[Outcome] = []
    for _ in range(1200):
        ended += actuator.outcomes()
        if len(ended) == 2:
            break
        time.sleep(0.05)
    assert {item.action.target: item.error for item in ended} == {DENSE: None, EMBEDDING: None}
    assert actuator.counts() == {DENSE: Count.steady(2), EMBEDDING: Count.steady(2)}


def test_a_dead_process_is_found_and_healed(light: Path) -> None:
    # A server of its own: a request that met a dead process keeps a hold on its model, which no later reload gets rid of.
    with serve(light) as server:
        actuator = TritonActuator(server.grpc_url, light, TARGETS)
        assert do(actuator, to(2)).error is None
        assert actuator.ill() == {}
        settle(server, 2)
        before = instances(server.pid, DENSE)
        os.kill(min(before), signal.SIGKILL)
        ill: dict[str, str] = {}
        for _ in range(60):
            ask(server, light)
            ill = actuator.ill()
            if ill:
                break
            time.sleep(0.2)
        assert set(ill) == {DENSE} and re.search("Stub process .* is not healthy", ill[DENSE])
        assert do(actuator, Action("heal", DENSE, 2, 0.0, ill[DENSE])).error is None
        after = instances(server.pid, DENSE)
        assert len(after) == 2 and not after & before
        assert ask(server, light, 20) == []
        assert actuator.ill() == {}
        # And once healed, counts change still.
        assert do(actuator, to(3)).error is None
        assert actuator.counts()[DENSE] == Count.steady(3)
        actuator.close()


def test_threads_are_changed_by_a_reload_and_back(actuator: TritonActuator, server: Server, served: Path) -> None:
    before = instances(server.pid, DENSE)
    assert do(actuator, to(2, threads=find(served).plan.dense.threads + 1)).error is None
    settle(server, 2)
    assert len(instances(server.pid, DENSE) - before) == len(instances(server.pid, DENSE)) == 2
    assert do(actuator, to(1)).error is None
    assert actuator.counts()[DENSE] == Count.steady(1)
    assert ask(server, served) == []


def test_a_load_that_fails_leaves_what_ran(actuator: TritonActuator, server: Server, served: Path) -> None:
    before = actuator.counts()[DENSE]
    model = served / DENSE / "1/model.onnx"
    kept = model.rename(served / "kept.onnx")
    try:
        ended = do(actuator, to(4))
        assert ended.error is not None and "load failed for model 'shop_dense'" in ended.error and "\n" not in ended.error
        assert actuator.counts()[DENSE] == before
        assert ask(server, served) == []
    finally:
        kept.rename(model)
    assert do(actuator, to(2)).error is None


def test_without_the_key_nothing_changes(server: Server, served: Path) -> None:
    actuator = TritonActuator(server.grpc_url, served, TARGETS, key="another-key-of-16-letters")
    before = actuator.counts()
    ended = do(actuator, to(4))
    assert ended.error is not None and "restricted" in ended.error
    assert Count() not in before.values() and actuator.counts() == before
    actuator.close()


def test_another_build_in_the_folder_is_not_mixed_in(actuator: TritonActuator, served: Path) -> None:
    path = served / DENSE / "config.pbtxt"
    text = path.read_text()
    path.write_text(text.replace("versions: [ 1 ]", "versions: [ 2 ]"))
    try:
        ended = do(actuator, to(4))
    finally:
        path.write_text(text)
    assert ended.error is not None and "holds 2: recsplit update" in ended.error


def test_who_closes_in_mid_change_leaves_it_to_the_server(server: Server, served: Path) -> None:
    first = TritonActuator(server.grpc_url, served, TARGETS, key=KEY)
    count = 1 + (first.counts()[EMBEDDING].serving or 0) % 3
    first.begin(to(count, EMBEDDING))
    first.close()
    second = TritonActuator(server.grpc_url, served, TARGETS, key=KEY)
    assert second.counts()[EMBEDDING] != Count()
    assert do(second, to(3, EMBEDDING)).error is None
    assert second.counts()[EMBEDDING] == Count.steady(3)
    second.close()


def test_a_server_that_is_away_is_no_exception_and_is_seen_when_it_is_back(light: Path) -> None:
    with serve(light) as server:
        port = int(server.grpc_url.rpartition(":")[2])
        actuator = TritonActuator(server.grpc_url, light, TARGETS)
        assert do(actuator, to(2)).error is None
    assert actuator.counts() == {DENSE: Count(), EMBEDDING: Count()}
    assert actuator.ill() == {}
    assert do(actuator, to(2)).error is not None
    with serve(light, grpc_port=port):
        until(lambda: Count() not in actuator.counts().values(), "counts of the server that is back")
        assert actuator.counts() == {DENSE: Count.steady(1), EMBEDDING: Count.steady(1)}
        assert do(actuator, to(2)).error is None
    actuator.close()


def stopped(pid: int) -> bool:
    """Whether every thread of a process is."""
    return all(path.read_text().rpartition(")")[2].split()[0] == "T" for path in Path(f"/proc/{pid}/task").glob("*/stat"))


def test_a_hung_server_does_not_hold_up_the_loop(light: Path) -> None:
    with serve(light) as server:
        actuator = TritonActuator(server.grpc_url, light, TARGETS)
        assert actuator.counts() == {DENSE: Count.steady(1), EMBEDDING: Count.steady(1)}
        os.kill(server.pid, signal.SIGSTOP)
        until(lambda: stopped(server.pid), "a server of which no thread goes on")
        try:
            answers: list[object] = []
            thread = threading.Thread(target=lambda: answers.extend((actuator.counts(), actuator.ill())), daemon=True)
            thread.start()
            thread.join(WITHIN_S)
            assert answers == [{DENSE: Count(), EMBEDDING: Count()}, {}]
        finally:
            os.kill(server.pid, signal.SIGCONT)
            actuator.close()


def test_targets_that_are_not_the_servers_are_refused(light: Path) -> None:
    with pytest.raises(InputError, match=r"nobody/config\.pbtxt can't be read"):
        TritonActuator("127.0.0.1:1", light, [Target("nobody", "nobody", "dense")])
    with pytest.raises(InputError, match="0 instance groups"):
        TritonActuator("127.0.0.1:1", light, [Target("shop", "shop", "front")])
    actuator = TritonActuator("127.0.0.1:1", light, TARGETS)
    with pytest.raises(InputError, match="'front' is no model"):
        actuator.begin(to(1, "front"))
    actuator.close()
