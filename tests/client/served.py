"""Models made by hand, each for one thing that a client meets on a server."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray

LIMIT = 8  # max_batch_size of every model here
ROWS = 100  # of the table behind `marking` and `refusing`

#: The ragged model's own inputs: flat ids with the start of each bag, for two features, one of them weighted by nothing.
BAGS = {
    "values": "items",
    "lengths": "items_lengths",
    "weights": None,
    "features": ["viewed", "bought"],
    "source_values": "flat_items",
    "source_offsets": None,
    "source_lengths": "bag_lengths",
    "source_weights": None,
    "source_row": None,
    "include_last_offset": False,
}

#: id 0..99 of column 0, then what was computed from column 1.
LOOKUPS = [
    {"input": "ids", "columns": [0, 2], "table": "users", "rows": ROWS, "shift": 0, "direct": True, "width": 2},
    {"input": "ids", "columns": None, "table": "hashed", "rows": 10, "shift": 0, "direct": False, "width": 1},
]

HEADER = '<ir_version: 9, opset_import: ["": 17]>'

#: score = sum of a row of x, doubled; ids come back as they went in.
PLAIN = """
agraph (float[batch, 3] x, int64[batch, 2] ids) => (float[batch, 1] score, int64[batch, 2] same_ids)
<int64[1] one = {1}, float two = {2.0}> { sum = ReduceSum<keepdims = 1>(x, one) score = Mul(sum, two) same_ids = Identity(ids) }
"""

#: The sum of each row's ids by feature, from rows: which slots lie in [start, end) of the feature.
SUMS = """
agraph (int64[batch, slots] items, int64[batch, 2] items_lengths) => (int64[batch, 2] sums)
<int64 axis = {1}, int64[1] last = {2}, int64[1] middle = {1}, int64 zero = {0}, int64 one = {1}, int64[1] second = {1}> {
  ends = CumSum(items_lengths, axis)
  starts = Sub(ends, items_lengths)
  shape = Shape(items)
  slots = Gather(shape, one)
  slot = Range(zero, slots, one)
  ends3 = Unsqueeze(ends, last)
  starts3 = Unsqueeze(starts, last)
  before = Less(slot, ends3)
  after = GreaterOrEqual(slot, starts3)
  inside = And(before, after)
  mask = Cast<to = 7>(inside)
  items3 = Unsqueeze(items, middle)
  kept = Mul(items3, mask)
  sums = ReduceSum<keepdims = 0>(kept, last)
}
"""

#: score = the ids' sum; a row with an id outside 0..99 is marked with the first such one.
MARKS = """
agraph (int64[batch, 3] ids) => (float[batch, 1] score, int64[batch, 2] unknown_ids)
<int64 zero = {0}, int64 top = {99}, int64 none = {-1}, int64[1] one = {1}> {
  clamped = Clip(ids, zero, top)
  known = Equal(ids, clamped)
  known_int = Cast<to = 7>(known)
  first = ArgMin<axis = 1, keepdims = 1>(known_int)
  id = GatherElements<axis = 1>(ids, first)
  least = ReduceMin<axes = [1], keepdims = 1>(known_int)
  fine = Cast<to = 9>(least)
  position = Where(fine, none, first)
  unknown_ids = Concat<axis = 1>(position, id)
  sum = ReduceSum<keepdims = 1>(clamped, one)
  score = Cast<to = 1>(sum)
}
"""

INT32 = "agraph (int32[batch, 1] ids) => (int32[batch, 1] same_ids) { same_ids = Identity(ids) }"
SCALAR = "agraph (int64[batch] user) => (int64[batch] same_user) { same_user = Identity(user) }"
BARE = "agraph (int64[batch, 1] ids) => (float[batch, 1] y) <float[3] table = {1, 2, 3}> { y = Gather(table, ids) }"
WHOLE = "agraph (float[2, n] x) => (float[2, n] y) { y = Identity(x) }"


def sums(values: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """What the ragged model answers: [batch, 2], from its own inputs."""
    ends = np.cumsum(lengths)
    flat = [values[end - length : end].sum() for end, length in zip(ends, lengths, strict=True)]
    return np.array(flat, dtype=np.int64).reshape(2, -1).T


def write(repository: Path) -> Path:
    """All models."""
    _model(repository, "plain", PLAIN, ["x FP32 3", "ids INT64 2"], ["score FP32 1", "same_ids INT64 2"])
    _model(repository, "int32", INT32, ["ids INT32 1"], ["same_ids INT32 1"])
    _model(repository, "scalar", SCALAR, ["user INT64 1"], ["same_user INT64 1"], reshape="reshape: { shape: [ ] }")
    _model(repository, "whole", WHOLE, ["x FP32 2,-1"], ["y FP32 2,-1"], batch=0)
    _model(repository, "bare", BARE, ["ids INT64 1"], ["y FP32 1"])
    # Two seconds for company that never comes; at "hasty" the queue gives a request up long before.
    delay = "max_queue_delay_microseconds: 2000000 preferred_batch_size: [8]"
    policy = "default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 1000 }"
    _model(repository, "slow", INT32, ["ids INT32 1"], ["same_ids INT32 1"], batching=delay)
    _model(repository, "hasty", INT32, ["ids INT32 1"], ["same_ids INT32 1"], batching=f"{delay} {policy}")
    # Without lookups in its config recsplit's backend lets marks through, as NVIDIA's does; with them it fails the request.
    marks = ["score FP32 1", "unknown_ids INT64 2"]
    _model(repository, "marking_step", MARKS, ["ids INT64 3"], marks)
    _model(repository, "refusing_step", MARKS, ["ids INT64 3"], marks, parameters={"recsplit.lookups": LOOKUPS})
    _ensemble(repository, "marking", "marking_step", ["ids INT64 3"], marks)
    _ensemble(repository, "refusing", "refusing_step", ["ids INT64 3"], marks)
    ragged = ["items INT64 -1", "items_lengths INT64 2"]
    _model(repository, "sums", SUMS, ragged, ["sums INT64 2"])
    _ensemble(repository, "ragged", "sums", ragged, ["sums INT64 2"], {"recsplit.client": {"bags": [BAGS], "max_batch_size": LIMIT}})
    return repository


#: What a server has to load.
NAMES = ("plain", "int32", "scalar", "whole", "bare", "slow", "hasty", "marking", "refusing", "ragged")


def _model(
    repository: Path,
    name: str,
    graph: str,
    inputs: list[str],
    outputs: list[str],
    *,
    batch: int = LIMIT,
    batching: str = "",
    reshape: str = "",
    parameters: Mapping[str, object] | None = None,
) -> None:
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    onnx.save(onnx.parser.parse_model(HEADER + graph), folder / "1/model.onnx")
    lines = [f'name: "{name}" backend: "onnxruntime" max_batch_size: {batch}', _tensors(inputs, outputs, reshape)]
    lines += [f"dynamic_batching {{ {batching} }}"] if batch else []
    lines += ["instance_group [{ count: 1 kind: KIND_CPU }]", _parameters(parameters or {})]
    (folder / "config.pbtxt").write_text("\n".join(lines))


def _ensemble(
    repository: Path, name: str, step: str, inputs: list[str], outputs: list[str], parameters: Mapping[str, object] | None = None
) -> None:
    (repository / name / "1").mkdir(parents=True)
    maps = [f'input_map {{ key: "{item.split()[0]}" value: "{item.split()[0]}" }}' for item in inputs]
    maps += [f'output_map {{ key: "{item.split()[0]}" value: "{item.split()[0]}" }}' for item in outputs]
    steps = f'ensemble_scheduling {{ step [{{ model_name: "{step}" model_version: -1 {" ".join(maps)} }}] }}'
    text = [
        f'name: "{name}" platform: "ensemble" max_batch_size: {LIMIT}',
        _tensors(inputs, outputs, ""),
        steps,
        _parameters(parameters or {}),
    ]
    (repository / name / "config.pbtxt").write_text("\n".join(text))


def _tensors(inputs: list[str], outputs: list[str], reshape: str) -> str:
    """`name dtype dims` as input and output declarations."""
    text = ""
    for field, items in (("input", inputs), ("output", outputs)):
        each = (item.split() for item in items)
        text += f"{field} [" + ", ".join(f'{{ name: "{n}" data_type: TYPE_{t} dims: [{d}] {reshape} }}' for n, t, d in each) + "]\n"
    return text


def _parameters(parameters: Mapping[str, object]) -> str:
    return "\n".join(
        f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(json.dumps(value))} }} }}' for key, value in parameters.items()
    )
