"""The heavier copy of a repository: the same answers, later, and counts that change in place."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import json_format
from tritonclient.grpc import InferenceServerClient

from recsplit.client import Client
from recsplit.configs.check import parse
from recsplit.errors import InputError
from recsplit.proof import samples
from recsplit.repository.find import find
from recsplit.serving import Server, serve
from recsplit.serving.control_key import GRPC_HEADER
from recsplit_perf.processes.heavier import heavier
from recsplit_perf.processes.instances import instances
from tests.waiting import until

MODEL, MS = "tiny_dense", 60.0


@pytest.fixture(scope="module")
def repository(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return heavier(tiny, tmp_path_factory.mktemp("heavier") / "models", MODEL, MS)


@pytest.fixture(scope="module")
def heavy(repository: Path) -> Iterator[Server]:
    with serve(repository) as running:
        yield running


def scale(server: Server, repository: Path, model: str, count: int) -> None:
    """Another instance count, in place: the rendered config with nothing else changed."""
    path = repository / model / "config.pbtxt"
    config = parse(path.read_text(), origin=str(path))
    config.instance_group[0].count = count
    with InferenceServerClient(server.grpc_url) as client:
        headers = {GRPC_HEADER: str(server.control_key)}
        client.load_model(model, headers=headers, config=json.dumps(json_format.MessageToDict(config, preserving_proto_field_name=True)))


def test_it_answers_what_the_light_one_answers_and_takes_so_long(server: Server, heavy: Server, tiny: Path) -> None:
    plan = find(tiny).plan
    query = samples.rows(plan, 5, np.random.default_rng(0))
    with Client(server.grpc_url, plan.name) as light, Client(heavy.grpc_url, plan.name) as slow:
        expected = light.infer(query)
        start = time.perf_counter()
        slow_answer = slow.infer(query)
        assert time.perf_counter() - start >= MS / 1000
    for name, data in expected.items():
        np.testing.assert_array_equal(slow_answer[name], data)


def test_a_count_changes_in_place_from_the_first_time_on(heavy: Server, repository: Path) -> None:
    before = instances(heavy.pid, MODEL)
    assert len(before) == 1
    scale(heavy, repository, MODEL, 3)
    until(lambda: len(instances(heavy.pid, MODEL)) == 3, "three instances")  # a process that starts another may be seen twice for a moment
    assert before < instances(heavy.pid, MODEL)  # a reload would start others
    scale(heavy, repository, MODEL, 1)
    until(lambda: len(instances(heavy.pid, MODEL)) == 1, "one instance")


def test_instances_are_what_limits_it(heavy: Server, repository: Path, tiny: Path) -> None:
    plan = find(tiny).plan
    query = samples.rows(plan, 1, np.random.default_rng(0))

    def seconds(count: int) -> float:
        scale(heavy, repository, MODEL, count)

        def ask() -> None:
            with Client(heavy.grpc_url, plan.name) as client:
                for _ in range(4):
                    client.infer(query)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    in_turn_s = 16 * MS / 1000
    assert seconds(1) >= in_turn_s  # never in one batch
    # Whatever else the machine does: sixteen executions end sooner than in turn only where some of them overlap.
    until(lambda: seconds(4) < in_turn_s, "executions side by side")


@pytest.mark.parametrize(
    ("model", "ms", "message"),
    [("tiny", 5.0, "no sub-model 'tiny'"), (MODEL, 0.0, "can't last 0 ms"), (MODEL, float("nan"), "can't last nan ms")],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(tiny: Path, tmp_path: Path, model: str, ms: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        heavier(tiny, tmp_path / "models", model, ms)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is there already"):
        heavier(tiny, tmp_path, MODEL, 5.0)
