"""Products with one-hot vectors: the row of the weight that the one stands at.

A product adds the row to zeros, so the numbers are the same; but for a weight that holds NaN or infinity, of which zero times it is NaN.
An id outside the weight has no one: its product is zeros, where a lookup finds it unknown.
"""

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.find.one_hot import counts_up
from recsplit.graph.flow import FLOATS, constant, int_of, ints_of
from recsplit.load.by_rows.stand_in import stand_in
from recsplit.load.by_rows.views import Views

_WHOLE = frozenset({ir.DataType.INT32, ir.DataType.INT64})
#: What keeps how often an id is among several: as BOOL it is there or not, and bytes end at 127.
_COUNTS = _WHOLE | FLOATS


@dataclass(frozen=True)
class _OneHot:
    """One-hot vectors [..., rows] of whole numbers `ids` [...]; `summed`: those of the last dimension of `ids` were added up."""

    ids: ir.Value
    rows: int
    summed: bool = False


def rows_of_products(emit: Emit, views: Views) -> None:
    """MatMul and Gemm of one-hot vectors with a stored weight [rows, dim], or [dim, rows] where it is transposed, become lookups."""
    for node in list(emit.graph):
        if node.domain != "" or node.op_type not in ("MatMul", "Gemm"):
            continue
        vectors, weight = node.inputs[0], node.inputs[1]
        one_hot = None if vectors is None else _one_hot(vectors)
        if one_hot is None or weight is None or int_of(node, "transA", 0) != 0:
            continue
        if node.op_type == "Gemm" and (_float_of(node, "alpha") != 1.0 or _float_of(node, "beta") != 1.0):
            continue
        table = _table(views, weight, one_hot.rows, turned=int_of(node, "transB", 0) == 1)
        if table is None:
            continue
        product = emit.op("Gather", table, one_hot.ids, axis=0, name="vectors")
        if one_hot.summed:
            assert one_hot.ids.shape is not None and table.shape is not None
            product.type, product.shape = table.type, ir.Shape([*one_hot.ids.shape, table.shape[1]])
            product = emit.reduce("ReduceSum", product, len(one_hot.ids.shape) - 1)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None:
            product.type, product.shape = node.outputs[0].type, node.outputs[0].shape
            product = emit.op("Add", product, bias)
        stand_in(emit, node.outputs[0], product)


def _one_hot(value: ir.Value) -> _OneHot | None:
    """What the one-hot vectors say, where nothing was done to them but casts between numbers, and one sum of several (multi-hot)."""
    node, kinds = _behind_casts(value)
    if node is not None and node.op_type == "ReduceSum" and node.domain == "" and node.inputs[0] is not None:
        vectors = node.inputs[0]
        single, rank = _one_hot(vectors), len(vectors.shape or ())
        last_but_one = int_of(node, "keepdims", 1) == 0 and ints_of(node, "axes", 1) in ([-2], [rank - 2])
        if single is None or single.summed or rank < 3 or not last_but_one or not kinds <= _COUNTS:
            return None
        return replace(single, summed=True)
    if node is None or node.domain != "" or ir.DataType.STRING in kinds:
        return None
    return _of_operator(node) if node.op_type == "OneHot" else _of_comparison(node) if node.op_type == "Equal" else None


def _behind_casts(value: ir.Value) -> tuple[ir.Node | None, set[ir.DataType | None]]:
    """The node that makes what was cast, and all that it was cast to."""
    node, kinds = value.producer(), set[ir.DataType | None]()
    while node is not None and node.domain == "" and node.op_type == "Cast" and node.inputs[0] is not None:
        kinds.add(ir.DataType(int_of(node, "to", 1)))
        node = node.inputs[0].producer()
    return node, kinds


def _of_operator(node: ir.Node) -> _OneHot | None:
    ids, depth, values = node.inputs
    number, bits, rank = constant(depth), constant(values), len(node.outputs[0].shape or ())
    if ids is None or number is None or bits is None or int_of(node, "axis", -1) not in (-1, rank - 1):
        return None
    if ids.dtype not in _WHOLE or bits.reshape(-1).tolist() != [0, 1] or number.size != 1:
        return None
    return _OneHot(ids, int(number.reshape(-1)[0]))


def _of_comparison(node: ir.Node) -> _OneHot | None:
    """Equal(Unsqueeze(ids, -1), [0, 1, ..., rows - 1]), as torch.onnx writes it."""
    for repeated, numbers in (node.inputs, reversed(node.inputs)):
        rows = counts_up(numbers)
        maker = None if repeated is None else repeated.producer()
        if not rows or maker is None or maker.op_type != "Unsqueeze" or maker.domain != "" or repeated is None:
            continue
        ids, rank = maker.inputs[0], len(repeated.shape or ())
        if ids is not None and ids.dtype in _WHOLE and ints_of(maker, "axes", 1) in ([-1], [rank - 1]):
            assert numbers is not None
            flat = constant(numbers, limit=rows)
            return _OneHot(ids, rows) if flat is not None and flat.ndim <= rank else None
    return None


def _table(views: Views, weight: ir.Value, rows: int, *, turned: bool) -> ir.Value | None:
    """The weight as [rows, dim]; None where it isn't stored, or has another number of rows."""
    maker = weight.producer()
    if maker is not None and maker.domain == "" and maker.op_type == "Transpose" and maker.inputs[0] is not None:
        if maker.attributes.get_ints("perm") not in (None, [1, 0], (1, 0)):
            return None
        weight, turned = maker.inputs[0], not turned
    tensor = weight.const_value if weight.is_initializer() else None
    if tensor is None or tensor.dtype not in FLOATS or len(tensor.shape) != 2:
        return None
    if int(tensor.shape.numpy()[1 if turned else 0]) != rows:
        return None
    return views.transposed(weight) if turned else weight


def _float_of(node: ir.Node, name: str) -> float:
    return float(np.float32(node.attributes.get_float(name, 1.0) or 0.0))
