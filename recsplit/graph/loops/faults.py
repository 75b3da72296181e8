"""Faults that torch's exporters put into a file and that no rewriting can mend: what the source said is lost."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from recsplit.graph.flow import constant, int_of, ints_of
from recsplit.graph.infer import infer_shapes
from recsplit.graph.loops.as_bag import read_bag
from recsplit.graph.loops.collapse import loop_name, loops_of
from recsplit.graph.loops.numbers import Unknown
from recsplit.graph.loops.reads import is_filled
from recsplit.graph.loops.turns import Baked, NotABag, made_by, source
from recsplit.graph.loops.values import Numbers

_AGAIN = (
    "export again with a dynamic batch, torch.onnx.export(..., dynamo=True, dynamic_shapes=...) with Dim.AUTO, "
    "or give recsplit the module itself: package.module:factory"
)
_POOL = "in the module, pool by nn.EmbeddingBag or scatter_add in place of index_add or index_put, and export again with dynamo=True"


@dataclass(frozen=True)
class Fault:
    """Why a model can't be right for other requests than the exporter's example. `node` is the node's name."""

    node: str
    what: str
    hint: str


def faults(model: ir.Model) -> tuple[Fault, ...]:
    """Known faults of exporters, in the order of the graph; before or after collapse_loops.

    1. Bags with the example's sizes: constant offsets, a fixed number of bags or of ids.
    2. Split of a ragged input into the example's sizes, which the old exporter makes of jagged inputs (TorchRec).
    3. ScatterElements or ScatterND without reduction in a sum, which it makes of index_add, index_put(accumulate=True)
       and, below opset 16, scatter_add: where an index comes twice, all but one of its rows are lost.
    4. ScatterND with reduction "add": a standard operator, but onnxruntime's CPU kernel loses updates when two
       threads add to one row.

    Shapes that the file doesn't tell are filled in, in place. No table is read.
    """
    suspects = [node for node in model.graph.all_nodes() if node.op_type in ("Split", "ScatterElements", "ScatterND")]
    loops = loops_of(model)
    if loops or suspects:
        infer_shapes(model)
    numbers = Numbers({})
    varying = {
        unknown
        for value in model.graph.inputs
        if value.shape is not None
        for axis in range(len(value.shape))
        for unknown in numbers.length(value, axis).unknowns()
    }
    faults_by_node: dict[ir.Node, Fault | None] = {loop: _baked_bag(loop) for loop in loops}
    for node in suspects:
        faults_by_node[node] = _baked_split(node, numbers, varying) if node.op_type == "Split" else _lost_sum(node) or _race(node)
    return tuple(fault for node in model.graph.all_nodes() if (fault := faults_by_node.get(node)) is not None)


def _baked_bag(loop: ir.Node) -> Fault | None:
    try:
        read_bag(loop)
    except Baked as refusal:
        return Fault(loop_name(loop), f"Loop {loop_name(loop)!r} pools bags, and {refusal}", _AGAIN)
    except NotABag:
        pass
    return None


def _baked_split(node: ir.Node, numbers: Numbers, varying: set[Unknown]) -> Fault | None:
    """A Split along a dimension that varies, into sizes that don't."""
    sizes = ints_of(node, "split", 1)
    ragged = source(node)
    rank = numbers.rank(ragged)
    axis = int_of(node, "axis", 0)
    if sizes is None or (axis if axis >= 0 or rank is None else axis + rank) != 0:
        return None
    if not numbers.length(ragged, 0).unknowns() & varying:
        return None
    what = f"Split {node.name!r} cuts {ragged.name!r}, whose length varies, into the pieces of the example, {sizes}"
    return Fault(_name(node), what, _AGAIN)


def _lost_sum(node: ir.Node) -> Fault | None:
    """Add(x, Scatter(zeros like x, indices, updates)), which stands for index_add and loses rows of equal indices."""
    zeros, indices, _ = node.inputs
    if "reduction" in node.attributes or not is_filled(zeros, 0) or _is_distinct(indices):
        return None
    consumers = list(node.outputs[0].consumers())
    if len(consumers) != 1 or consumers[0].op_type != "Add" or consumers[0].inputs[1] is not node.outputs[0]:
        return None
    into = consumers[0].inputs[0]
    shaped = made_by(zeros, "ConstantOfShape")
    shape = None if shaped is None else made_by(shaped.inputs[0], "Shape")
    stored = None if into is None else ir.convenience.get_const_tensor(into)
    fixed = None if zeros is None else ir.convenience.get_const_tensor(zeros)
    same = stored is not None and fixed is not None and stored.shape == fixed.shape
    if not same and (shape is None or source(shape) is not into):
        return None
    what = f"{node.op_type} {node.name!r} stands for a sum by index and has no reduction: of rows with the same index all but one are lost"
    return Fault(_name(node), what, _POOL)


def _race(node: ir.Node) -> Fault | None:
    if node.op_type != "ScatterND" or node.attributes.get_string("reduction") != "add":
        return None
    what = f"ScatterND {node.name!r} adds: onnxruntime on the CPU loses updates where two threads add to the same row"
    return Fault(_name(node), what, _POOL)


def _is_distinct(indices: ir.Value | None) -> bool:
    """Whether no index comes twice: a Range, or a constant without repetition, stretched over the other dimensions."""
    array = constant(indices)
    if array is not None:
        return np.unique(array).size == array.size
    node = made_by(indices, "Expand", "Unsqueeze", "Reshape", "Cast", "Range")
    return node is not None and (node.op_type == "Range" or _is_distinct(node.inputs[0]))


def _name(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or node.op_type
