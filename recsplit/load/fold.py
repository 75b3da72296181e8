"""Constant folding by onnx's reference operators: shapes that are known, and arithmetic on small constants."""

import logging

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes import common

from recsplit.load.arrays import Array

MAX_ELEMENTS = 1 << 16
RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"}
#: Folding these only makes the file larger.
GROWING = {"ConstantOfShape", "Expand", "Tile", "EyeLike"}


def fold_constants(model: ir.Model) -> None:
    """Infer shapes, then replace what they and small constants determine by initializers, in the main graph, in place.

    Large tensors are neither read nor handed to the shape inference.
    """
    infer_shapes(model)
    opset = model.opset_imports.get("", 0)
    for node in list(model.graph):
        if node.domain != "" or len(node.outputs) != 1 or node.outputs[0].is_graph_output():
            continue
        value = _shape_of(node)
        if value is None:
            value = _sizes_of(node)
        if value is None:
            value = _evaluate(node, opset)
        if value is not None:
            _replace(model.graph, node, value)


def infer_shapes(model: ir.Model) -> None:
    """onnx's own inference, without large tensors and best effort: shapes that it can't tell stay unknown."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    finally:
        logging.disable(disabled)


def _bounds(node: ir.Node, rank: int) -> slice:
    start = node.attributes["start"].as_int() if "start" in node.attributes else 0
    end = node.attributes["end"].as_int() if "end" in node.attributes else rank
    return slice(start, end)


def _shape_of(node: ir.Node) -> Array | None:
    """Shape(x) where all sizes asked for are known."""
    if node.op_type != "Shape" or node.inputs[0] is None or node.inputs[0].shape is None:
        return None
    sizes = list(node.inputs[0].shape)[_bounds(node, len(node.inputs[0].shape))]
    return np.array(sizes, dtype=np.int64) if all(isinstance(size, int) for size in sizes) else None


def _sizes_of(node: ir.Node) -> Array | None:
    """Gather(Shape(x), constant) where those sizes are known, as in x.shape[1]."""
    if node.op_type != "Gather" or node.inputs[0] is None or node.inputs[1] is None:
        return None
    shape, chosen = node.inputs[0].producer(), _constant(node.inputs[1])
    if shape is None or shape.op_type != "Shape" or chosen is None or shape.inputs[0] is None or shape.inputs[0].shape is None:
        return None
    sizes = list(shape.inputs[0].shape)[_bounds(shape, len(shape.inputs[0].shape))]
    if not all(-len(sizes) <= index < len(sizes) and isinstance(sizes[index], int) for index in chosen.reshape(-1)):
        return None
    return np.array([sizes[index] for index in chosen.reshape(-1)], dtype=np.int64).reshape(chosen.shape)


def _evaluate(node: ir.Node, opset: int) -> Array | None:
    """The node's value where all its inputs are small constants."""
    if node.op_type in RANDOM or node.op_type in GROWING or not node.inputs:
        return None
    if any(attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in node.attributes.values()):
        return None
    arrays = {}
    for value in node.inputs:
        if value is None:
            continue
        array = _constant(value)
        if array is None:
            return None
        arrays[value.name or ""] = array
    if not arrays:
        return None
    try:
        (result,) = ReferenceEvaluator(ir.to_proto(node), opsets={"": opset}).run(None, arrays)
    except Exception:  # an operator without a reference: it stays
        return None
    return np.asarray(result) if isinstance(result, np.ndarray | np.generic) and result.size <= MAX_ELEMENTS else None


def _constant(value: ir.Value) -> Array | None:
    tensor = value.const_value if value.is_initializer() else None
    if tensor is None or tensor.size > MAX_ELEMENTS or tensor.dtype == ir.DataType.STRING:
        return None
    return np.asarray(tensor.numpy())


def _replace(graph: ir.Graph, node: ir.Node, array: Array) -> None:
    old = node.outputs[0]
    tensor = ir.tensor(array, name=old.name)
    new = ir.Value(name=old.name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    old.replace_all_uses_with(new)
    graph.remove(node, safe=True)
    graph.register_initializer(new)
