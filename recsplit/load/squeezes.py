"""Squeezes of .onnx files: each names the axes that it takes away, and none takes the batch."""

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes import common

from recsplit.errors import InputError
from recsplit.graph.flow import ints_of
from recsplit.graph.names import Names


def settle_squeezes(model: ir.Model) -> None:
    """Name the axes of every Squeeze that names none, in place: those that are one for every batch.

    Without names it would take the batch away when it is one row. Where no axis is one for every batch it does nothing, and goes.
    Raises InputError where a Squeeze names an axis that isn't one: no runtime takes that, though torch's squeeze does.
    """
    graph = model.graph
    names = Names(graph)
    batches = {str(value.shape[0]) for value in graph.inputs if value.shape is not None and _is_named(value.shape[0])}
    for node in list(graph):
        value = node.inputs[0] if node.op_type == "Squeeze" and node.domain == "" else None
        if value is None or value.shape is None:
            continue
        named = ints_of(node, "axes", 1)
        if named is not None:
            _refuse_wrong(node, value, value.shape, [axis % len(value.shape) for axis in named], batches)
        elif (len(node.inputs) < 2 or node.inputs[1] is None) and len(value.shape) and not isinstance(value.shape[0], int):
            _name(graph, node, value, value.shape, names)
    common.IdentityEliminationPass()(model)


def _is_named(size: object) -> bool:
    return isinstance(size, ir.SymbolicDim) and size.value is not None


def _refuse_wrong(node: ir.Node, value: ir.Value, shape: ir.Shape, axes: Sequence[int], batches: set[str]) -> None:
    for axis in axes:
        size = shape[axis]
        is_batch = axis == 0 and _is_named(size) and str(size) in batches
        if is_batch or (isinstance(size, int) and size != 1):
            raise InputError(
                f"Squeeze {node.name!r} takes dimension {axis} of {value.name!r} away, which is {'the batch' if is_batch else size} "
                "and not 1: the file runs nowhere" + (" but on one row" if is_batch else ""),
                hint="torch's squeeze does nothing there: take it out of forward and export again, or build from the factory or the .pt2",
            )


def _name(graph: ir.Graph, node: ir.Node, value: ir.Value, shape: ir.Shape, names: Names) -> None:
    axes = [axis for axis, size in enumerate(shape) if size == 1]
    if axes:
        named = ir.Value(name=names.fresh(f"{value.name}_squeezed"), const_value=ir.tensor(axes), type=ir.TensorType(ir.DataType.INT64))
        named.shape = ir.Shape([len(axes)])
        graph.register_initializer(named)
        node.resize_inputs(2)
        node.replace_input_with(1, named)
    elif all(isinstance(size, int) for size in shape[1:]):
        copy = ir.node("Identity", [value], name=node.name)
        old, new = node.outputs[0], copy.outputs[0]
        new.name, new.type, new.shape = old.name, old.type, value.shape
        ir.convenience.replace_nodes_and_values(graph, node, [node], [copy], [old], [new])
