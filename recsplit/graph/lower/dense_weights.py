"""Bags whose per-sample weights come out of a layer, or of another lookup: rows cross, and are weighed and summed in the dense model."""

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from recsplit.graph.emit import Emit
from recsplit.graph.find.candidates import ids_of, tables_of
from recsplit.graph.flow import Flow, int_of


def weigh_after_lookup(model: ir.Model) -> None:
    """Take such a bag of fixed length apart, in place: Gather, Mul, ReduceSum. Padded slots count as zeros, whatever their weights."""
    flow, emit = Flow(model.graph), Emit(model, "recsplit/weighed")
    for node in list(model.graph):
        weights = _dense_weights(node, flow)
        if weights is None:
            continue
        (table,), ids = tables_of(node), ids_of(node)
        assert table.dtype is not None and table.shape is not None and ids.dtype is not None
        vectors = emit.op("Gather", table, ids, axis=0, name="vectors")
        vectors.dtype, vectors.shape = table.dtype, ir.Shape([*(ids.shape or [None, None]), table.shape[1]])
        weighed = emit.op("Mul", vectors, emit.unsqueeze(weights, -1))
        padding = int_of(node, "padding_idx", -1)
        if padding >= 0:
            padded = emit.unsqueeze(emit.op("Equal", ids, emit.const(padding, ids.dtype.numpy())), -1)
            weighed = emit.op("Where", padded, emit.const(np.array(0), table.dtype.numpy(), name="zero"), weighed)
        total = emit.reduce("ReduceSum", weighed, 1)
        old = node.outputs[0]
        total.type, total.shape = old.type, old.shape
        emit.names.hand_over(old, total, "bag")
        ir.convenience.replace_all_uses_with(old, total, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
    if emit.new_nodes:
        common.TopologicalSortPass()(model)


def _dense_weights(node: ir.Node, flow: Flow) -> ir.Value | None:
    """The weights of a bag of fixed length that can't be made on the embedding side, where its ids can."""
    if node.domain != "recsplit" or node.op_type != "EmbeddingBag" or len(node.inputs) < 4 or node.inputs[2] is not None:
        return None
    weights = node.inputs[3]
    return None if weights is None or flow.blocker(weights) is None or flow.blocker(ids_of(node)) is not None else weights
