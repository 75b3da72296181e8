"""A small partitioned repository made by hand, in the form that `recsplit build --partition` writes: one table in two shards."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from recsplit.graph.shards.csr import CsrTable, bags_model
from recsplit.plan.plan import Lookup, Partial, Plan, Range, Reading, Segment, Shard, Source, Submodel, Table, Tensor, to_json
from tests.serving.handmade import config, tensor

NAME = "shop"
ROWS, DIM = 1000, 8
#: Vector 0 is the sum of three rows, vector 1 a single one.
WIDTHS, POOLINGS = (3, 1), ("sum", "none")
BOUNDS = (0, 100, ROWS)
BATCH = 64


def table() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)


def weights() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((len(WIDTHS) * DIM, 1)).astype(np.float32)


def expected(ids: NDArray[Any]) -> NDArray[np.float32]:
    """The scores [batch, 1] for ids [batch, 4]."""
    vectors = table()[ids]
    pooled = np.concatenate([vectors[:, :3].sum(axis=1), vectors[:, 3]], axis=1)
    return np.asarray(pooled @ weights(), np.float32)


def _save(path: Path, nodes: list[Any], inputs: Any, outputs: Any, constants: dict[str, NDArray[Any]]) -> None:
    def values(specs: list[tuple[str, int, list[Any]]]) -> list[Any]:
        return [helper.make_tensor_value_info(name, dtype, ["batch", *dims]) for name, dtype, dims in specs]

    path.parent.mkdir(parents=True, exist_ok=True)
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "part", values(inputs), values(outputs), initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def write(repository: Path, *, bags: bool = True, places: tuple[str, str] = ("own", "own")) -> Plan:
    """The repository and its plan; without `bags`, a shard has only its batched form."""
    int32, int64, float32 = TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT
    _save(
        repository / f"{NAME}_embedding/1/model.onnx",
        [helper.make_node("Cast", ["ids"], ["places_0"], to=int32)],
        [("ids", int64, [4])], [("places_0", int32, [4])], {},
    )  # fmt: skip
    for number in range(2):
        write_shard(repository / f"{NAME}_embedding_{number}/1", number, bags=bags)
    _save(
        repository / f"{NAME}_dense/1/model.onnx",
        [
            helper.make_node("Sum", ["vectors_0", "vectors_1"], ["vectors"]),
            helper.make_node("Reshape", ["vectors", "flat"], ["row"]),
            helper.make_node("MatMul", ["row", "weights"], ["score"]),
        ],
        [(f"vectors_{number}", float32, [2, DIM]) for number in range(2)], [("score", float32, [1])],
        {"flat": np.array([0, -1]), "weights": weights()},
    )  # fmt: skip
    plan = make_plan(places, bags=bags)
    partials = [tensor(f"vectors_{number}", "FP32", [2, DIM]) for number in range(2)]
    ids, rows, score = tensor("ids", "INT64", [4]), tensor("places_0", "INT32", [4]), tensor("score", "FP32", [1])
    texts = {
        f"{NAME}_embedding": config(f"{NAME}_embedding", [ids], [rows], batch=BATCH),
        f"{NAME}_dense": config(f"{NAME}_dense", partials, [score], batch=BATCH),
        **{
            f"{NAME}_embedding_{number}": config(f"{NAME}_embedding_{number}", [rows], [partials[number]], batch=BATCH)
            for number in range(2)
        },
        NAME: _ensemble(ids, score),
    }
    for name, text in texts.items():
        (repository / name / "1").mkdir(parents=True, exist_ok=True)
        key, value = ("build", "handmade") if name == NAME else ("ensemble", NAME)
        (repository / name / "config.pbtxt").write_text(
            text + f'parameters {{ key: "recsplit.{key}" value {{ string_value: "{value}" }} }}\n'
        )
        (repository / name / "1/build.txt").write_text("handmade\n")
    (repository / NAME / "1/plan.json").write_text(to_json(plan))
    return plan


def write_shard(folder: Path, number: int, *, bags: bool) -> None:
    """model.onnx, and bags.onnx if wanted, of the places BOUNDS[number] .. BOUNDS[number + 1]."""
    first, last = BOUNDS[number], BOUNDS[number + 1]
    rows = np.concatenate([table()[first:last], np.zeros((1, DIM), np.float32)])
    nodes = [
        helper.make_node("Sub", ["places_0", "first"], ["own"]),
        helper.make_node("GreaterOrEqual", ["places_0", "first"], ["above"]),
        helper.make_node("Less", ["places_0", "last"], ["below"]),
        helper.make_node("And", ["above", "below"], ["inside"]),
        helper.make_node("Where", ["inside", "own", "zero_row"], ["rows"]),
        helper.make_node("Gather", ["table", "rows"], ["gathered"]),
        helper.make_node("Split", ["gathered", "sizes"], ["three", "one"], axis=1),
        helper.make_node("ReduceSum", ["three", "axis"], ["sum"], keepdims=1),
        helper.make_node("Concat", ["sum", "one"], [f"vectors_{number}"], axis=1),
    ]
    constants: dict[str, NDArray[Any]] = {
        "first": np.array([first], np.int32), "last": np.array([last], np.int32),
        "zero_row": np.array([last - first], np.int32), "table": rows,
        "sizes": np.array([3, 1]), "axis": np.array([1]),
    }  # fmt: skip
    outputs = [(f"vectors_{number}", TensorProto.FLOAT, [2, DIM])]
    _save(folder / "model.onnx", nodes, [("places_0", TensorProto.INT32, [4])], outputs, constants)
    if bags:
        reading = Reading("places_0", "vectors", WIDTHS, POOLINGS)  # type: ignore[arg-type]
        model = bags_model([(0, reading, CsrTable(ir.tensor(rows, name="table"), last - first, None))])
        ir.save(model, folder / "bags.onnx")


def make_plan(places: tuple[str, str], *, bags: bool) -> Plan:
    def submodel(name: str, role: Any, inputs: list[Tensor], outputs: list[Tensor]) -> Submodel:
        return Submodel(name, role, tuple(inputs), tuple(outputs), "onnxruntime", "cpu", 1, 1)

    ids, rows = Tensor("ids", "INT64", (4,)), Tensor("places_0", "INT32", (4,))
    partials, score = [Tensor(f"vectors_{number}", "FP32", (2, DIM)) for number in range(2)], Tensor("score", "FP32", (1,))
    shards = tuple(
        Shard(
            submodel(f"{NAME}_embedding_{number}", "shard", [rows], [partials[number]]),
            (Partial("vectors", f"vectors_{number}"),),
            (Segment("items", first, last),),
            (Range("places_0", first, last, DIM, "FP32"),),
            places[number],  # type: ignore[arg-type]
            1,
            (last - first) * DIM * 4,
        )
        for number, (first, last) in enumerate(itertools.pairwise(BOUNDS))
    )
    return Plan(
        name=NAME, version=1, build="handmade", source=Source("onnx", "handmade", None), max_batch_size=BATCH, queue_delay_us=0,
        queue_timeout_us=0, unknown_ids="zero", inputs=(ids,), outputs=(score,), boundary=(Tensor("vectors", "FP32", (2, DIM)),),
        tables=(Table("items", ROWS, DIM, "FP32", "FP32", ROWS * DIM * 4),),
        lookups=(Lookup("items", "items", "sum", ("ids",), (0, 4), 0, direct=True, limit=ROWS, width=4),), bags=(),
        embedding=submodel(f"{NAME}_embedding", "embedding", [ids], [rows]), shards=shards,
        losses=(),
        ordered_by="",
        resident=(),
        readings=(Reading("places_0", "vectors", WIDTHS, POOLINGS),) if bags else (),  # type: ignore[arg-type]
        dense=submodel(f"{NAME}_dense", "dense", partials, [score]), form="ensemble", tolerance=1e-4,
    )  # fmt: skip


def _ensemble(ids: str, score: str) -> str:
    def step(model: str, inputs: list[str], outputs: list[str]) -> str:
        maps = [f'input_map {{ key: "{name}" value: "{name}" }}' for name in inputs]
        maps += [f'output_map {{ key: "{name}" value: "{name}" }}' for name in outputs]
        return f'{{ model_name: "{model}" model_version: 1 {" ".join(maps)} }}'

    steps = [
        step(f"{NAME}_embedding", ["ids"], ["places_0"]),
        *(step(f"{NAME}_embedding_{number}", ["places_0"], [f"vectors_{number}"]) for number in range(2)),
        step(f"{NAME}_dense", ["vectors_0", "vectors_1"], ["score"]),
    ]
    return (
        f'name: "{NAME}"\nplatform: "ensemble"\nmax_batch_size: {BATCH}\ninput [{ids}]\noutput [{score}]\n'
        f"ensemble_scheduling {{ step [{', '.join(steps)}] }}\n"
    )
