"""The override that Triton is given: the rendered config but for its instances, threads and versions."""

import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2

from recsplit.configs import override
from recsplit.configs.override import Served
from recsplit.errors import InputError


@pytest.fixture
def rendered(repository: Path) -> model_config_pb2.ModelConfig:
    path = repository / "model_repository/tiny_dense/config.pbtxt"
    return override.read(path.read_text(), str(path))


def test_only_the_instances_differ(rendered: model_config_pb2.ModelConfig) -> None:
    text = override.override(rendered, Served(5, "", None, 0, ()))
    back = json_format.Parse(text, model_config_pb2.ModelConfig())
    assert override.count(back) == 5
    back.instance_group[0].count = rendered.instance_group[0].count
    assert back == rendered


def test_all_that_a_server_was_told_is_carried_and_read_back(rendered: model_config_pb2.ModelConfig) -> None:
    served = Served(2, "recsplit_heal_1", 3, 7, (4, 5))
    changed = json.loads(override.override(rendered, served))
    assert changed["parameters"]["intra_op_thread_count"] == {"string_value": "3"}
    assert changed["parameters"]["recsplit.change"] == {"string_value": "7"}, "what makes it a reload"
    assert changed["version_policy"] == {"specific": {"versions": ["4", "5"]}}
    assert override.served(json_format.ParseDict(changed, model_config_pb2.ModelConfig()), {5, 4}) == served
    assert changed["instance_group"] == [{"count": 2, "kind": "KIND_CPU", "host_policy": "recsplit_heal_1"}]
    assert rendered.parameters["intra_op_thread_count"].string_value == "1"


def test_every_heal_is_another_policy() -> None:
    assert override.next_policy("") == "recsplit_heal_1"
    assert override.next_policy("recsplit_heal_9") == "recsplit_heal_10"
    with pytest.raises(InputError, match="can't be replaced without losing it"):
        override.next_policy("numa_0")


@pytest.mark.parametrize("text", ["name: 3", 'name: "x"', "instance_group [ { count: 1 }, { count: 1 } ]"])
def test_a_config_with_another_number_of_groups_than_one_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"m/config\.pbtxt"):
        override.read(text, "m/config.pbtxt")
