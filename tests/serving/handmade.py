"""A small two-step repository made by hand, in the form that recsplit builds: embedding model, dense model, ensemble."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf import json_format, text_format
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import model_config_pb2

from recsplit.serving import Server
from recsplit.serving.control_key import GRPC_HEADER

ROWS, DIM, COLUMNS = 1000, 8, 4
NAME = "shop"

Spec = tuple[str, int, list[int | str]]


def table() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)


def weights() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((DIM * COLUMNS + 1, 1)).astype(np.float32)


def expected(sparse: NDArray[np.int64], dense: NDArray[np.float32]) -> NDArray[np.float32]:
    pooled = table()[sparse].reshape(len(sparse), -1)
    return np.asarray(np.concatenate([pooled, dense], axis=1) @ weights())


def embedding_model(path: Path, *, rows: int = ROWS, dim: int = DIM, values: NDArray[np.float32] | None = None) -> None:
    """Gather from one table by `sparse` [batch, 4]; unknown ids are clamped, and marked as the contract says."""
    nodes = [
        helper.make_node("Clip", ["sparse", "zero", "last"], ["clamped"]),
        helper.make_node("Gather", ["table", "clamped"], ["gathered"], axis=0),
        helper.make_node("Reshape", ["gathered", "flat"], ["vectors"]),
        helper.make_node("Equal", ["sparse", "clamped"], ["known"]),
        helper.make_node("Cast", ["known"], ["known_int"], to=TensorProto.INT64),
        helper.make_node("ArgMin", ["known_int"], ["first"], axis=1, keepdims=1),
        helper.make_node("GatherElements", ["sparse", "first"], ["id"], axis=1),
        helper.make_node("ReduceMin", ["known_int"], ["all_known"], axes=[1], keepdims=1),
        helper.make_node("Cast", ["all_known"], ["fine"], to=TensorProto.BOOL),
        helper.make_node("Where", ["fine", "none", "first"], ["position"]),
        helper.make_node("Concat", ["position", "id"], ["unknown_ids"], axis=1),
    ]
    constants = {"zero": 0, "last": rows - 1, "flat": [-1, COLUMNS * dim], "none": -1}
    graph = helper.make_graph(
        nodes,
        "embedding",
        [helper.make_tensor_value_info("sparse", TensorProto.INT64, ["batch", COLUMNS])],
        [
            helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", COLUMNS * dim]),
            helper.make_tensor_value_info("unknown_ids", TensorProto.INT64, ["batch", 2]),
        ],
        [
            *(numpy_helper.from_array(np.asarray(value, dtype=np.int64), name) for name, value in constants.items()),
            numpy_helper.from_array(table() if values is None else values, "table"),
        ],
    )
    _save(graph, path, external=True)


def dense_model(path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Concat", ["vectors", "dense"], ["all"], axis=1),
            helper.make_node("MatMul", ["all", "weights"], ["score"]),
        ],
        "dense",
        [
            helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", COLUMNS * DIM]),
            helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["batch", 1]),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(weights(), "weights")],
    )
    _save(graph, path, external=False)


def _save(graph: onnx.GraphProto, path: Path, *, external: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    onnx.save(model, path, save_as_external_data=external, location="tables.bin" if external else None, size_threshold=1024)


def lookups(*, rows: int = ROWS) -> str:
    columns = [
        {"input": "sparse", "columns": [n, n + 1], "table": f"emb_{n}", "rows": rows, "shift": 0, "direct": True, "width": 1}
        for n in range(COLUMNS)
    ]
    return json.dumps(columns)


def one_node(
    path: Path, node: onnx.NodeProto, inputs: list[Spec], outputs: list[Spec], constants: Mapping[str, NDArray[Any]] | None = None
) -> None:
    """A model of one operator; inputs and outputs as (name, onnx dtype, shape)."""
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(*spec) for spec in inputs],
        [helper.make_tensor_value_info(*spec) for spec in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    _save(graph, path, external=False)


def tensor(name: str, dtype: str, dims: list[int]) -> str:
    return f'{{ name: "{name}" data_type: TYPE_{dtype} dims: {dims} }}'


def config(
    name: str,
    inputs: list[str],
    outputs: list[str],
    *,
    batch: int = 64,
    delay_us: int = 0,
    instances: int = 1,
    kind: str = "KIND_CPU",
    parameters: Mapping[str, str] | None = None,
    extra: str = "",
) -> str:
    lines = [f'name: "{name}"', 'backend: "onnxruntime"', f"max_batch_size: {batch}"]
    lines += [f"input [{', '.join(inputs)}]", f"output [{', '.join(outputs)}]"] if inputs else []
    lines += [f"dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }}"] if batch else []
    lines += [f"instance_group [{{ count: {instances} kind: {kind} }}]"]
    for key, value in {"intra_op_thread_count": "1", **(parameters or {})}.items():
        lines += [f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value)} }} }}']
    return "\n".join([*lines, extra]) + "\n"


SPARSE, DENSE = tensor("sparse", "INT64", [COLUMNS]), tensor("dense", "FP32", [1])
VECTORS, UNKNOWN, SCORE = tensor("vectors", "FP32", [COLUMNS * DIM]), tensor("unknown_ids", "INT64", [2]), tensor("score", "FP32", [1])

ENSEMBLE = f"""
name: "{NAME}"
platform: "ensemble"
max_batch_size: 64
input [{SPARSE}, {DENSE}]
output [{SCORE}, {UNKNOWN}]
ensemble_scheduling {{
  step [
    {{
      model_name: "{NAME}_embedding" model_version: -1
      input_map {{ key: "sparse" value: "sparse" }}
      output_map {{ key: "vectors" value: "vectors" }}
      output_map {{ key: "unknown_ids" value: "unknown_ids" }}
    }},
    {{
      model_name: "{NAME}_dense" model_version: -1
      input_map {{ key: "vectors" value: "vectors" }}
      input_map {{ key: "dense" value: "dense" }}
      output_map {{ key: "score" value: "score" }}
    }}
  ]
}}
"""


def write(repository: Path, *, delay_us: int = 0) -> Path:
    """The whole repository, with a plan.json that only marks the ensemble as recsplit's."""
    embedding_model(repository / f"{NAME}_embedding/1/model.onnx")
    dense_model(repository / f"{NAME}_dense/1/model.onnx")
    (repository / NAME / "1").mkdir(parents=True)
    (repository / NAME / "1/plan.json").write_text("{}")
    (repository / NAME / "config.pbtxt").write_text(ENSEMBLE)
    (repository / f"{NAME}_embedding/config.pbtxt").write_text(
        config(f"{NAME}_embedding", [SPARSE], [VECTORS, UNKNOWN], delay_us=delay_us, parameters={"recsplit.lookups": lookups()})
    )
    (repository / f"{NAME}_dense/config.pbtxt").write_text(
        config(f"{NAME}_dense", [tensor("vectors", "FP32", [COLUMNS * DIM]), DENSE], [SCORE])
    )
    return repository


def opening(server: Server) -> dict[str, str]:
    """Headers that open a server's model control over gRPC."""
    return {GRPC_HEADER: str(server.control_key)}


def as_json(config_text: str) -> dict[str, Any]:
    """A config.pbtxt as the JSON that Triton's load call takes."""
    message = text_format.Parse(config_text, model_config_pb2.ModelConfig())
    return dict(json_format.MessageToDict(message, preserving_proto_field_name=True))
