"""The override that Triton is given: the rendered config but for its instances, so that nothing is loaded again."""

import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2

from recsplit.errors import InputError
from recsplit_controller.actuate import override, probe


@pytest.fixture
def rendered(repository: Path) -> model_config_pb2.ModelConfig:
    path = repository / "model_repository/tiny_dense/config.pbtxt"
    return override.read(path.read_text(), str(path))


def test_only_the_instances_differ(rendered: model_config_pb2.ModelConfig) -> None:
    text = override.override(rendered, count=5, threads=None, policy="")
    back = json_format.Parse(text, model_config_pb2.ModelConfig())
    assert override.count(back) == 5
    back.instance_group[0].count = rendered.instance_group[0].count
    assert back == rendered


def test_threads_and_policy_are_carried(rendered: model_config_pb2.ModelConfig) -> None:
    changed = json.loads(override.override(rendered, count=2, threads=3, policy="recsplit_heal_1"))
    assert changed["parameters"]["intra_op_thread_count"] == {"string_value": "3"}
    assert changed["instance_group"] == [{"count": 2, "kind": "KIND_CPU", "host_policy": "recsplit_heal_1"}]
    assert rendered.parameters["intra_op_thread_count"].string_value == "1"


def test_every_heal_is_another_policy() -> None:
    assert override.next_policy("") == "recsplit_heal_1"
    assert override.next_policy("recsplit_heal_9") == "recsplit_heal_10"
    with pytest.raises(InputError, match="can't be replaced without losing it"):
        override.next_policy("numa_0")


@pytest.mark.parametrize("text", ["name: 3", 'name: "x"', "instance_group [ { count: 1 }, { count: 1 } ]"])
def test_a_config_that_cant_be_changed_in_place_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"m/config\.pbtxt"):
        override.read(text, "m/config.pbtxt")


def test_a_probe_is_the_first_warm_up(rendered: model_config_pb2.ModelConfig) -> None:
    request = probe.request(rendered)
    assert request is not None
    assert {tensor.name: list(tensor.shape) for tensor in request.inputs} == {
        "dense": [1, 4],
        "embeddings_8": [1, 3, 8],
        "unknown_ids": [1, 2],
    }
    sizes = dict(zip((tensor.name for tensor in request.inputs), map(len, request.raw_input_contents), strict=True))
    assert sizes == {"dense": 16, "embeddings_8": 96, "unknown_ids": 16}
    assert not any(b"".join(request.raw_input_contents))


def test_without_a_warm_up_there_is_no_probe(rendered: model_config_pb2.ModelConfig) -> None:
    rendered.ClearField("model_warmup")
    assert probe.request(rendered) is None


def test_a_dead_process_is_told_from_other_failures() -> None:
    assert probe.dead("in ensemble 'tiny', Stub process 'tiny_dense_0_0' is not healthy.") == "Stub process 'tiny_dense_0_0' is not healthy"
    assert probe.dead("inference request batch-size must be <= 64 for 'tiny'") is None
