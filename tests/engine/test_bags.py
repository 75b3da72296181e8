"""Shards on servers of their own: the engine pools bags of rows as the ONNX model in CSR does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsplit.configs.check import parse
from recsplit.configs.fleet import bags_config, shard_readings
from recsplit.engine.compilation import unavailable
from recsplit.engine.library import Model, Refused
from recsplit.plan.files import BAGS_FILE, BAGS_RECIPE_FILE, CONFIG_FILE
from recsplit.plan.plan import Plan
from recsplit.proof.parts import session
from tests.build.onnx_models import built
from tests.build.partitions import write_partition
from tests.build.test_sharded import ARRAYS, RANKER, SHARDS
from tests.engine.models import library

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))

Ids = NDArray[np.int32]


@pytest.fixture(scope="module", params=[(), ("int8", "bias=fp16"), ("int4",)], ids=["fp32", "int8", "int4"])
def shards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A ranker in three shards, whose items are pooled by mean and by maximum."""
    folder = tmp_path_factory.mktemp("bags")
    partition = write_partition(folder / "p.json", SHARDS)
    build = built(folder, RANKER, ARRAYS, partition=partition, embedding_runtime="native", table_dtype=request.param, search_s=0)
    return build.plan, build.repository


def opened(plan: Plan, repository: Path, number: int) -> tuple[Model, Path]:
    """The shard in the engine, as its own server loads it, and its version folder."""
    name = plan.shards[number].model.name
    config = parse(bags_config(plan, number, (repository / name / CONFIG_FILE).read_text()), origin=name)
    assert config.backend == "recsplit" and config.max_batch_size == 0
    tensors: dict[str, Any] = {
        side: [{"name": item.name, "data_type": _kind(item.data_type), "dims": list(item.dims)} for item in items]
        for side, items in (("input", config.input), ("output", config.output))
    }
    folder = repository / name / str(plan.version)
    return Model(library(), folder, {"max_batch_size": 0, **tensors}, {"workers": 2}), folder


def _kind(number: int) -> str:
    from tritonclient.grpc.model_config_pb2 import DataType

    return str(DataType.Name(number))


def asked(plan: Plan, number: int, batch: int, longest: int, random: np.random.Generator) -> dict[str, Ids]:
    """Bags of a batch for every reading of a shard."""
    inputs: dict[str, Ids] = {}
    for reading_number, reading, places in shard_readings(plan, number):
        lengths = random.integers(0, longest + 1, batch * len(reading.widths))
        inputs[f"rows_{reading_number}"] = random.integers(0, places.last - places.first, lengths.sum()).astype(np.int32)
        inputs[f"offsets_{reading_number}"] = np.cumsum(np.concatenate([[0], lengths])).astype(np.int32)
    return inputs


@pytest.mark.parametrize("number", [1, 2])
def test_bags_are_pooled_as_onnxruntime_pools_them(shards: tuple[Plan, Path], number: int) -> None:
    plan, repository = shards
    model, folder = opened(plan, repository, number)
    in_csr, random = session(folder / BAGS_FILE), np.random.default_rng(number)
    with model:
        for batch, longest in ((1, 0), (1, 1), (3, 7), (64, 20), (700, 3)):
            inputs = asked(plan, number, batch, longest, random)
            (answer,) = model.run([inputs])
            assert not isinstance(answer, Refused), answer
            for name, want in in_csr(inputs).items():
                np.testing.assert_allclose(answer[name], np.asarray(want, np.float64), rtol=1e-5, atol=1e-5)
        # Several requests of one batch are answered each for itself.
        several = [asked(plan, number, batch, 5, random) for batch in (1, 4, 2)]
        for inputs, answer in zip(several, model.run(several), strict=True):
            assert not isinstance(answer, Refused)
            for name, want in in_csr(inputs).items():
                np.testing.assert_allclose(answer[name], np.asarray(want, np.float64), rtol=1e-5, atol=1e-5)


def test_bags_that_cant_be_are_refused_and_the_others_answered(shards: tuple[Plan, Path]) -> None:
    plan, repository = shards
    model, _ = opened(plan, repository, 1)
    good = asked(plan, 1, 2, 3, np.random.default_rng(0))
    number = shard_readings(plan, 1)[0][0]
    rows, ends = f"rows_{number}", f"offsets_{number}"
    width = len(good[ends]) - 1
    bad: list[tuple[dict[str, Ids], str]] = [
        ({**good, ends: np.zeros(0, np.int32)}, "offsets begin at 0"),
        ({**good, ends: good[ends] + 1}, "offsets begin at 0"),
        ({**good, ends: good[ends][::-1].copy()}, "offsets begin at 0|offsets rise"),
        ({**good, ends: np.array([0, *[len(good[rows]) + 5] * width], np.int32)}, "offsets end at"),
        (
            {**good, rows: np.full(max(1, len(good[rows])), 10_000, np.int32), ends: np.array([0, *[1] * width], np.int32)},
            "row 10000 is outside",
        ),
        ({**good, rows: np.full(max(1, len(good[rows])), -1, np.int32), ends: np.array([0, *[1] * width], np.int32)}, "row -1 is outside"),
    ]
    with model:
        for inputs, message in bad:
            first, second = model.run([inputs, good])
            assert isinstance(first, Refused) and any(words in str(first) for words in message.split("|")), first
            assert not isinstance(second, Refused)


def test_a_file_that_isnt_the_configs_is_refused(shards: tuple[Plan, Path]) -> None:
    plan, repository = shards
    path = repository / plan.shards[1].model.name / str(plan.version) / BAGS_RECIPE_FILE
    before = path.read_text()
    broken = json.loads(before)
    broken["readings"][0]["number"] = 77
    for text in (json.dumps(broken), before[: len(before) // 2], "[]", before.replace('"rows":', '"rows":1')):
        path.write_text(text)
        with pytest.raises(Exception, match=r"bags\.json|tables\.bin|ends before"):
            opened(plan, repository, 1)
    path.write_text(before)
