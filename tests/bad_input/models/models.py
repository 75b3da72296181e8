"""Model files, good and broken, written by hand in a moment."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray
from onnx import numpy_helper

from tests.bad_input.kinds import Kind

INPUTS = "float[batch, 4] dense, int64[batch] user, int64[batch, 3] tags"
OUTPUTS = "float[batch, 1] score"
USERS, TAGS, DIM = 100, 40, 8

#: The good model: an id and a bag of three, two tables, one layer.
LOGIT = """
looked = Gather(users, user) each = Gather(tag_rows, tags) pooled = ReduceSum<keepdims = 0>(each, one)
joined = Concat<axis = 1>(dense, looked, pooled) logit = Gemm(joined, w, b)
"""
SCORE = "score = Sigmoid(logit)"

Make = Callable[[Path], object]


def tensors() -> dict[str, NDArray[np.generic]]:
    """The good model's tables and weights."""
    rng = np.random.default_rng(0)
    return {
        "users": rng.standard_normal((USERS, DIM)).astype(np.float32),
        "tag_rows": rng.standard_normal((TAGS, DIM)).astype(np.float32),
        "one": np.array([1]),
        "fixed": np.arange(4),
        "w": rng.standard_normal((4 + 2 * DIM, 1)).astype(np.float32),
        "b": np.zeros(1, dtype=np.float32),
    }


def model(
    body: str = LOGIT + SCORE, *, inputs: str = INPUTS, outputs: str = OUTPUTS, opsets: str = '"": 17', **others: NDArray[np.generic]
) -> onnx.ModelProto:
    """A model of these nodes in ONNX's text form, with the good model's tensors, or `others` in their place, where it reads them."""
    shop_model = onnx.parser.parse_model(f"<ir_version: 8, opset_import: [{opsets}]> shop ({inputs}) => ({outputs}) {{ {body} }}")
    read = {name for node in _nodes(shop_model.graph) for name in node.input}
    shop_model.graph.initializer.extend(numpy_helper.from_array(data, name) for name, data in (tensors() | others).items() if name in read)
    return shop_model


def saved(
    body: str = LOGIT + SCORE, *, inputs: str = INPUTS, outputs: str = OUTPUTS, opsets: str = '"": 17', **others: NDArray[np.generic]
) -> Make:
    """Writes `model` to the path that it is given."""
    return lambda path: path.write_bytes(model(body, inputs=inputs, outputs=outputs, opsets=opsets, **others).SerializeToString())


def write_external(path: Path, data: str = "shop.data") -> None:
    """The good model with its tensors in another file."""
    onnx.save(model(), path, save_as_external_data=True, location=data, size_threshold=0)


def from_file(name: str, make: Make | bytes, error: str, hint: str, *, code: int = 2, suffix: str = "onnx") -> Kind:
    """The kind of a bad model file, bad.<suffix>: `make` writes it at the path that it is given, or is its bytes."""

    def put(folder: Path) -> None:
        path = folder / f"bad.{suffix}"
        if isinstance(make, bytes):
            path.write_bytes(make)
        else:
            make(path)

    return Kind(name, f"build bad.{suffix} -o models --name shop", error, hint, code, put)


def _nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes of a graph and of the graphs in it."""
    inner = [node for outer in graph.node for attribute in outer.attribute for node in _nodes(attribute.g)]
    return [*graph.node, *inner]
