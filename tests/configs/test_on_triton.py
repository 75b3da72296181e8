"""What is rendered, loaded by a real Triton: odd names, one scalar a row, rows of any length, and a warm-up before it is ready."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper, numpy_helper

from recsplit.configs.render import render
from recsplit.plan.plan import UNKNOWN_IDS, Lookup, Plan, Tensor, to_json
from recsplit.repository.staging import staging
from recsplit.serving import serve
from tests.configs.plans import shop

USER, ITEMS, AGE = 'user\'s "id"', "items\\größe\n", "age: {{ years }}"
POOLED = "pooled/0:é"
TABLE = np.arange(40, dtype=np.float32).reshape(10, 4)


def plan(version: int) -> Plan:
    base = shop(version=version)
    user, items, age = Tensor(USER, "INT64", ()), Tensor(ITEMS, "INT64", (-1,)), Tensor(AGE, "FP32", ())
    pooled, wide = Tensor(POOLED, "FP32", (4,)), Tensor("wide", "FP32", ())
    unknown, score = Tensor(UNKNOWN_IDS, "INT64", (2,)), Tensor("score", "FP32", ())
    return dataclasses.replace(
        base,
        max_batch_size=100,
        inputs=(user, items, age),
        outputs=(score, unknown),
        boundary=(pooled, wide),
        lookups=(Lookup("u", "users", "none", (USER,), None, 0, True, 10, 1), Lookup("i", "users", "sum", (ITEMS,), None, 0, True, 10, 1)),
        bags=(),
        embedding=dataclasses.replace(base.embedding, inputs=(user, items), outputs=(pooled, wide, unknown), instances=2),
        dense=dataclasses.replace(base.dense, inputs=(age, pooled, wide), outputs=(score,), instances=1),
    )


def save(path: Path, inputs: list[Any], outputs: list[Any], nodes: list[Any], constants: dict[str, Any]) -> None:
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def write_models(embedding: Path, dense: Path) -> None:
    info, node = helper.make_tensor_value_info, helper.make_node
    save(
        embedding,
        [info(USER, TensorProto.INT64, ["b"]), info(ITEMS, TensorProto.INT64, ["b", "n"])],
        [info(POOLED, TensorProto.FLOAT, ["b", 4]), info("wide", TensorProto.FLOAT, ["b"]), info(UNKNOWN_IDS, TensorProto.INT64, ["b", 2])],
        [
            node("Gather", ["table", ITEMS], ["rows"]),
            node("ReduceSum", ["rows", "one"], [POOLED], keepdims=0),
            node("Gather", ["bias", USER], ["wide"]),
            node("Unsqueeze", [USER, "one"], ["column"]),
            node("Mul", ["column", "zeros"], ["cleared"]),
            node("Add", ["cleared", "fine"], [UNKNOWN_IDS]),
        ],
        {
            "table": TABLE,
            "bias": TABLE[:, 0],
            "one": np.array([1], np.int64),
            "zeros": np.zeros((1, 2), np.int64),
            "fine": np.array([[-1, 0]], np.int64),
        },
    )  # fmt: skip
    save(
        dense,
        [info(AGE, TensorProto.FLOAT, ["b"]), info(POOLED, TensorProto.FLOAT, ["b", 4]), info("wide", TensorProto.FLOAT, ["b"])],
        [info("score", TensorProto.FLOAT, ["b"])],
        [
            node("ReduceSum", [POOLED, "one"], ["sum"], keepdims=0),
            node("Add", ["sum", "wide"], ["both"]),
            node("Add", ["both", AGE], ["score"]),
        ],
        {"one": np.array([1], np.int64)},
    )


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    repository = tmp_path_factory.mktemp("odd") / "models"
    with staging(repository, "shop") as stage:
        shop_plan = plan(stage.version)
        stage.write(render(shop_plan))
        stage.path("shop", "plan.json").write_text(to_json(shop_plan))
        write_models(stage.path("shop_embedding", "model.onnx"), stage.path("shop_dense", "model.onnx"))
        stage.publish(shop_plan.build)
    with serve(repository) as server, triton.InferenceServerClient(server.grpc_url) as connected:
        yield connected


def ask(client: Any, user: Any, items: Any, age: Any) -> Any:
    inputs = []
    for name, data in ((USER, np.array(user, np.int64)), (ITEMS, np.array(items, np.int64)), (AGE, np.array(age, np.float32))):
        tensor = triton.InferInput(name, data.shape, "FP32" if name == AGE else "INT64")
        tensor.set_data_from_numpy(data)
        inputs.append(tensor)
    return client.infer("shop", inputs)


@pytest.mark.parametrize("length", [1, 3])
def test_odd_names_scalars_and_rows_of_any_length_are_answered(client: Any, length: int) -> None:
    users, ages = np.array([[3], [9]]), np.array([[0.5], [20]])
    items = np.arange(2 * length).reshape(2, length)
    answer = ask(client, users, items, ages)
    expected = TABLE[items].sum(axis=(1, 2)) + TABLE[users[:, 0], 0] + ages[:, 0]
    np.testing.assert_allclose(answer.as_numpy("score"), expected[:, None])
    np.testing.assert_array_equal(answer.as_numpy(UNKNOWN_IDS), [[-1, 0], [-1, 0]])


@pytest.mark.parametrize(("model", "instances"), [("shop_embedding", 2), ("shop_dense", 1)])
def test_every_instance_warmed_up_with_64_rows(client: Any, model: str, instances: int) -> None:
    """Seen in the statistics: Triton counts warm-up requests as requests."""
    (stats,) = client.get_inference_statistics(model, as_json=True)["model_stats"]
    batches = {int(batch["batch_size"]): int(batch["compute_infer"]["count"]) for batch in stats["batch_stats"]}
    assert batches[64] == instances
    assert batches[1] >= instances


def test_triton_holds_what_was_rendered(client: Any) -> None:
    config = client.get_model_config("shop_embedding", as_json=True)["config"]
    assert config["instance_group"][0] | {"count": 2, "kind": "KIND_CPU"} == config["instance_group"][0]
    assert "default_queue_policy" not in config["dynamic_batching"]
    assert config["parameters"]["intra_op_thread_count"] == {"string_value": "1"}
    assert config["version_policy"] == {"specific": {"versions": ["1"]}}
