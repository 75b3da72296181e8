"""Constant folding by onnx's reference operators: shapes that are known, and exact arithmetic on small constants."""

import math

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from recsplit.graph.flow import SMALL, constant, int_of
from recsplit.load.arrays import Array

#: Folding these only makes the file larger, but for sizes and axes of a few numbers, which other nodes are told by.
GROWING = {"ConstantOfShape", "Expand", "Tile", "EyeLike"}
_FEW = 16
#: Operators that only move, choose or compare elements, and those that IEEE 754 rounds correctly. Exp, Log, Pow, Tanh, sums and products
#: of matrices differ by the library in the last bit: the server's runtime computes them.
EXACT = frozenset(
    "Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Compress Concat Div Equal Expand Flatten Floor "
    "Gather GatherElements GatherND Greater GreaterOrEqual Identity IsInf IsNaN Less LessOrEqual Max Min Mul Neg NonZero Not Or Pad Relu "
    "Reshape Shape Sign Size Slice Split Sqrt Squeeze Sub Tile Transpose Trilu Unsqueeze Where Xor".split()
)


def fold_constants(model: ir.Model) -> None:
    """Replace what inferred shapes and small constants determine by initializers, in the main graph, in place; no large tensor is read."""
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


def _bounds(node: ir.Node, rank: int) -> slice:
    return slice(int_of(node, "start", 0), int_of(node, "end", rank))


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
    shape, chosen = node.inputs[0].producer(), constant(node.inputs[1])
    if shape is None or shape.op_type != "Shape" or chosen is None or shape.inputs[0] is None or shape.inputs[0].shape is None:
        return None
    sizes = list(shape.inputs[0].shape)[_bounds(shape, len(shape.inputs[0].shape))]
    if not all(-len(sizes) <= index < len(sizes) and isinstance(sizes[index], int) for index in chosen.reshape(-1)):
        return None
    return np.array([sizes[index] for index in chosen.reshape(-1)], dtype=np.int64).reshape(chosen.shape)


def _evaluate(node: ir.Node, opset: int) -> Array | None:
    """The node's value where all its inputs are small constants."""
    if not node.inputs or (not _few(node) if node.op_type in GROWING else not is_exact(node)):
        return None
    if any(attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in node.attributes.values()):
        return None
    arrays = {}
    for value in node.inputs:
        if value is None:
            continue
        array = constant(value)
        if array is None or array.dtype.kind not in "biuf":
            return None
        arrays[value.name or ""] = array
    if not arrays:
        return None
    try:
        (result,) = ReferenceEvaluator(ir.to_proto(node), opsets={"": opset}).run(None, arrays)
    except Exception:  # an operator without a reference: it stays
        return None
    return np.asarray(result) if isinstance(result, np.ndarray | np.generic) and result.size <= SMALL else None


def _few(node: ir.Node) -> bool:
    shape = node.outputs[0].shape
    sizes = [size for size in shape if isinstance(size, int)] if shape is not None else []
    return shape is not None and len(sizes) == len(shape) and math.prod(sizes) <= _FEW


def _replace(graph: ir.Graph, node: ir.Node, array: Array) -> None:
    old = node.outputs[0]
    tensor = ir.tensor(array, name=old.name)
    new = ir.Value(name=old.name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    old.replace_all_uses_with(new)
    graph.remove(node, safe=True)
    graph.register_initializer(new)


def is_exact(node: ir.Node) -> bool:
    """Whether every implementation of the operator answers alike to the bit: by EXACT, or since it works on whole numbers."""
    dtypes = [value.dtype for value in (*node.inputs, *node.outputs) if value is not None]
    whole = all(dtype is not None and not dtype.is_floating_point() for dtype in dtypes)
    return node.domain in ("", "ai.onnx") and (node.op_type in EXACT or whole)
