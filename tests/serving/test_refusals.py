"""What NVIDIA's onnxruntime backend refuses at load, the stand-in refuses too; the server goes on serving."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from onnx import NodeProto, TensorProto, helper
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from recsplit.serving import serve
from tests.serving.handmade import Spec, config, one_node, opening, tensor

F32, I64, BYTES, BF16 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BFLOAT16

ADD = helper.make_node("Add", ["a", "b"], ["sum"])
IDENTITY = helper.make_node("Identity", ["a"], ["sum"])
A, B, SUM = tensor("a", "FP32", [4]), tensor("b", "FP32", [4]), tensor("sum", "FP32", [4])


@dataclass(frozen=True)
class Case:
    """One model that can't be loaded: its graph (by default a + b = sum, all FP32 [batch, 4]), its config, and why not."""

    text: str
    reason: str
    inputs: tuple[Spec, ...] = (("a", F32, ["batch", 4]), ("b", F32, ["batch", 4]))
    outputs: tuple[Spec, ...] = (("sum", F32, ["batch", 4]),)
    node: NodeProto | None = field(default_factory=lambda: ADD)


def of(inputs: list[str], outputs: list[str], **settings: Any) -> str:
    return config("NAME", inputs, outputs, **settings)


def setting(key: str, value: str) -> str:
    return of([A, B], [SUM], parameters={key: value})


CASES = {
    "an input of another name": Case(of([A, tensor("c", "FP32", [4])], [SUM]), "unexpected inference input 'c', allowed inputs are: a, b"),
    "an output of another name": Case(of([A, B], [tensor("c", "FP32", [4])]), "unexpected inference output 'c', allowed outputs are: sum"),
    "an input of another dtype": Case(
        of([A, tensor("b", "FP64", [4])], [SUM]), "configuration expects datatype TYPE_FP64 for input 'b', model provides TYPE_FP32"
    ),
    "an output of another dtype": Case(
        of([A, B], [tensor("sum", "INT64", [4])]), "configuration expects datatype TYPE_INT64 for output 'sum', model provides TYPE_FP32"
    ),
    "an input of other dims": Case(of([A, tensor("b", "FP32", [5])], [SUM]), "shape [-1, 4]) but the model configuration specifies"),
    "an output of other dims": Case(of([A, B], [tensor("sum", "FP32", [3])]), "shape [-1, 4]) but the model configuration specifies"),
    "an input of another rank": Case(of([A, tensor("b", "FP32", [4, 1])], [SUM]), "specifies 3 dimensions (shape [-1, 4, 1])"),
    "an input dim of -1 where the model fixes it": Case(
        of([A, tensor("b", "FP32", [-1])], [SUM]), "specifies 2 dimensions (shape [-1, -1]"
    ),
    "an output dim of -1 where the model fixes it": Case(
        of([A, B], [tensor("sum", "FP32", [-1])]), "specifies 2 dimensions (shape [-1, -1]"
    ),
    "an output dim that is fixed where the model's varies": Case(
        of([A, B], [SUM]),
        "the model expects 2 dimensions (shape [-1, -1])",
        inputs=(("a", F32, ["batch", "n"]), ("b", F32, ["batch", "n"])),
        outputs=(("sum", F32, ["batch", "n"]),),
    ),
    "too few inputs": Case(of([A], [SUM]), "configuration expects 1 inputs, model provides 2: a, b"),
    "too many inputs": Case(of([A, B, tensor("c", "FP32", [4])], [SUM]), "configuration expects 3 inputs, model provides 2"),
    "no batching, and dims without the batch dimension": Case(
        of([A, B], [SUM], batch=0), "the model expects 2 dimensions (shape [-1, 4]) but the model configuration specifies 1 dimensions"
    ),
    "batching, and a model of a fixed batch": Case(
        of([A, B], [SUM]),
        "for the model to support batching the shape should have at least 1 dimension and the first dimension must be -1",
        inputs=(("a", F32, [2, 4]), ("b", F32, [2, 4])),
        outputs=(("sum", F32, [2, 4]),),
    ),
    "an optional input of a model that batches": Case(
        of([A, B, tensor("c", "FP32", [4]).replace("}", "optional: true }")], [SUM]),
        "optional input 'c' is not supported for models that support batching",
    ),
    "a GPU": Case(of([A, B], [SUM], kind="KIND_GPU"), "KIND_GPU"),
    "letters for a thread count": Case(setting("intra_op_thread_count", "abc"), "failed to convert 'abc' to an integral number"),
    "letters for the other thread count": Case(setting("inter_op_thread_count", "many"), "parameter 'inter_op_thread_count'"),
    "an execution mode of 2": Case(setting("execution_mode", "2"), "Expected values for execution_mode are 0 or 1 but got 2"),
    "maybe for a switch": Case(setting("enable_mem_arena", "maybe"), "failed to convert 'maybe' to boolean"),
    "an accelerator that is not there": Case(
        of([A, B], [SUM], extra='optimization { execution_accelerators { cpu_execution_accelerator: [{ name: "tensorrt" }] } }'),
        "unknown Execution Accelerator 'tensorrt' is requested",
    ),
    "lookups that are no JSON": Case(
        of([tensor("a", "INT64", [2])], [tensor("unknown_ids", "INT64", [2])], parameters={"recsplit.lookups": "[{]"}),
        "parameter 'recsplit.lookups' is not a list of lookups",
        inputs=(("a", I64, ["batch", 2]),),
        outputs=(("unknown_ids", I64, ["batch", 2]),),
        node=helper.make_node("Identity", ["a"], ["unknown_ids"]),
    ),
    "lookups that lack a field": Case(
        of([tensor("a", "INT64", [2])], [tensor("unknown_ids", "INT64", [2])], parameters={"recsplit.lookups": '[{"input": "a"}]'}),
        "parameter 'recsplit.lookups' is not a list of lookups",
        inputs=(("a", I64, ["batch", 2]),),
        outputs=(("unknown_ids", I64, ["batch", 2]),),
        node=helper.make_node("Identity", ["a"], ["unknown_ids"]),
    ),
    "strings": Case(
        of([tensor("a", "STRING", [4])], [tensor("sum", "STRING", [4])]),
        "input 'a' of model 'NAME' is a tensor(string), which recsplit's stand-in does not support",
        inputs=(("a", BYTES, ["batch", 4]),),
        outputs=(("sum", BYTES, ["batch", 4]),),
        node=IDENTITY,
    ),
    "bfloat16": Case(
        of([tensor("a", "BF16", [4])], [tensor("sum", "BF16", [4])]),
        "is a tensor(bfloat16)",
        inputs=(("a", BF16, ["batch", 4]),),
        outputs=(("sum", BF16, ["batch", 4]),),
        node=IDENTITY,
    ),
    "ragged batches": Case(of([A, B.replace("}", "allow_ragged_batch: true }")], [SUM]), "input 'b' of model 'NAME' allows ragged batches"),
    "batch inputs": Case(
        of(
            [A],
            [SUM],
            extra='batch_input [{ kind: BATCH_ELEMENT_COUNT target_name: "b" data_type: TYPE_FP32 source_input: "a" }]',
        ),
        "has batch_input",
    ),
    "a file that is not there": Case(of([A, B], [SUM], extra='default_model_filename: "other.onnx"'), "other.onnx"),
    "a model that is no ONNX": Case(of([A, B], [SUM]), "INVALID_PROTOBUF", node=None),
    "an operator that nobody knows": Case(
        of([A, B], [SUM]), "NoSuchOperator", node=helper.make_node("NoSuchOperator", ["a", "b"], ["sum"])
    ),
}


@pytest.fixture(scope="module")
def reasons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the server says to each load, all asked of one server, which has a model that loads as well."""
    repository: Path = tmp_path_factory.mktemp("refused")
    names = {f"case_{n}": title for n, title in enumerate(CASES)}
    good = Case(of([A, B], [SUM]), "")
    for name, case in [("good", good), *((name, CASES[title]) for name, title in names.items())]:
        path = repository / name / "1/model.onnx"
        path.parent.mkdir(parents=True)
        if case.node is None:
            path.write_bytes(b"no model")
        else:
            one_node(path, case.node, list(case.inputs), list(case.outputs))
        (path.parent.parent / "config.pbtxt").write_text(case.text.replace("NAME", name))
    said = {}
    with serve(repository, models=["good"]) as server, grpc.InferenceServerClient(server.grpc_url) as client:

        def load(name: str) -> str:
            try:
                client.load_model(name, headers=opening(server))
            except InferenceServerException as error:
                return str(error).replace(name, "NAME")
            return "it loaded"

        with ThreadPoolExecutor(4) as threads:
            for name, reason in zip(names, threads.map(load, names), strict=True):
                said[names[name]] = reason
        assert server.states()["good"] == "READY", "what was served before is served still"
        yield said


@pytest.mark.parametrize("title", CASES)
def test_refused(reasons: dict[str, str], title: str) -> None:
    assert CASES[title].reason in reasons[title]
