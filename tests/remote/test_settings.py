"""What a remote model's config must say, and that what recsplit writes says it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from remote_settings import Remote  # type: ignore[import-not-found]

from recsplit.configs.fleet import Asking, remote_config
from tests.remote import sharded
from tests.serving.handmade import as_json


def config(tmp_path: Path, changes: Mapping[str, Any] | None = None, *, bags: bool = True) -> dict[str, Any]:
    """The config of a remote model, as Triton passes it to the backend; `changes` to its parameter."""
    plan = sharded.write(tmp_path)
    text = (tmp_path / "shop_embedding_1/config.pbtxt").read_text()
    model_config = as_json(remote_config(plan, 1, text, ["10.0.0.1:8001", "shard-1:8001"], bags=bags, asking=Asking(hedge_ms=20)))
    settings = json.loads(model_config["parameters"]["recsplit.remote"]["string_value"])
    model_config["parameters"]["recsplit.remote"]["string_value"] = json.dumps({**settings, **(changes or {})})
    return model_config


def test_what_recsplit_writes_is_read_again(tmp_path: Path) -> None:
    remote = Remote.from_config(config(tmp_path))
    assert (remote.model, remote.replicas) == ("shop_embedding_1", ("10.0.0.1:8001", "shard-1:8001"))
    assert (remote.timeout_ms, remote.hedge_ms, remote.attempts) == (1000, 20, 3)
    (bags,) = remote.bags
    assert (bags.places, bags.output, bags.first, bags.last, bags.dim) == ("places_0", "vectors_1", 100, 1000, 8)
    assert (bags.widths, bags.poolings) == ((3, 1), ("sum", "none"))


def test_a_shard_without_the_csr_form_has_no_bags(tmp_path: Path) -> None:
    assert Remote.from_config(config(tmp_path, bags=False)).bags == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replicas": []}, "replicas are host:port"),
        ({"replicas": ["shard-1"]}, "replicas are host:port"),
        ({"timeout_ms": 0}, "timeout_ms is 0, and must be a number from 1 on"),
        ({"hedge_ms": "soon"}, "hedge_ms is 'soon'"),
        ({"patience": 3}, "can't be read: .*patience"),
        ({"bags": [{"number": 0}]}, "can't be read"),
    ],
)
def test_settings_that_don_t_fit_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Remote.from_config(config(tmp_path, changes))


def test_a_config_whose_tensors_don_t_hold_the_bags_is_refused(tmp_path: Path) -> None:
    model_config = config(tmp_path)
    model_config["input"][0]["dims"] = ["5"]
    with pytest.raises(ValueError, match="'places_0' has 5 places a row, and its bags take 4"):
        Remote.from_config(model_config)
    model_config = config(tmp_path / "again")
    model_config["output"][0]["dims"] = ["2", "9"]
    with pytest.raises(ValueError, match="'vectors_1' does not hold 2 vectors of 8"):
        Remote.from_config(model_config)


def test_a_config_without_the_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="and 'x' has none"):
        Remote.from_config({"name": "x"})
