"""The request that finds a dead instance: a warm-up of the config's own."""

from pathlib import Path

import pytest
from tritonclient.grpc import model_config_pb2

from recsplit.configs import override
from recsplit_controller.actuate import probe


@pytest.fixture
def rendered(repository: Path) -> model_config_pb2.ModelConfig:
    path = repository / "model_repository/tiny_dense/config.pbtxt"
    return override.read(path.read_text(), str(path))


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
