"""The inputs of ragged bags in rows: put into the graph in the place of a model's own, and what is computed from them made again."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.find.ragged import FLATTEN, RaggedGroup
from recsplit.graph.flow import Array

_REPEATED = frozenset({"Expand", "ConstantOfShape"})  # one constant everywhere, as torch.zeros_like makes it


def as_rows(emit: Emit, ragged_group: RaggedGroup, *, int32_ids: bool) -> tuple[ir.Value, ir.Value, ir.Value | None]:
    """Put the group's inputs in rows into the graph; returns (values, lengths, weights) in the dtypes of the old ones.

    Groups whose bags come from the same offsets share `lengths`. Where the rest of the model
    computed the batch size from the old inputs' shapes, it computes it from the new ones'.
    """
    graph = emit.graph
    lengths = next((value for value in graph.inputs if value.name == ragged_group.bags.lengths and value is not ragged_group.offsets), None)
    narrow = int32_ids and ragged_group.values.dtype == ir.DataType.INT64
    slots = f"{ragged_group.bags.values}_slots"  # a symbol of its own: another group's rows have other numbers of slots
    values = ir.val(ragged_group.bags.values, dtype=ir.DataType.INT32 if narrow else ragged_group.values.dtype, shape=["batch", slots])
    new_inputs = [values]
    if lengths is None:
        lengths = ir.val(ragged_group.bags.lengths, dtype=ir.DataType.INT64, shape=["batch", len(ragged_group.bags.features)])
        new_inputs.append(lengths)
    weights = None
    if ragged_group.weights is not None:
        weights = ir.val(f"{ragged_group.bags.weights}", dtype=ragged_group.weights.dtype, shape=["batch", slots])
        new_inputs.append(weights)
    position = list(graph.inputs).index(ragged_group.values)
    for place, value in enumerate(new_inputs, position):
        graph.inputs.insert(place, value)
    _shape_of_offsets(emit, ragged_group, lengths)
    if narrow:
        values = emit.cast(values, ir.DataType.INT64)
        values.dtype = ir.DataType.INT64
    return values, lengths, weights


def drop_old_inputs(model: ir.Model, groups: Sequence[RaggedGroup]) -> str:
    """Remove the ragged inputs that nothing reads any more; the reason if something still does, else empty."""
    for old in dict.fromkeys(
        value for ragged_group in groups for value in (ragged_group.values, ragged_group.offsets, ragged_group.weights) if value is not None
    ):
        readers = [node.op_type for node in old.consumers()]
        if readers or old.is_graph_output():
            return f"input {old.name!r} is ragged and also read by {', '.join(readers) or 'an output'} outside the lookups"
        if old in model.graph.inputs:
            model.graph.inputs.remove(old)
    return ""


def elementwise(emit: Emit, value: ir.Value, old: ir.Value, new: ir.Value) -> ir.Value:
    """`value`, made element by element from `old`, made again from `new` (of any shape); what is used twice is made once."""
    copies = {old: new}

    def again(item: ir.Value) -> ir.Value:
        if item not in copies:
            copies[item] = copy(item)
        return copies[item]

    def copy(item: ir.Value) -> ir.Value:
        node = item.producer()
        if node is None:
            return item
        if node.op_type == "ConstantOfShape":
            return emit.const(_fill(node), _fill(node).dtype)
        if node.op_type in FLATTEN or node.op_type in _REPEATED:
            assert node.inputs[0] is not None
            return again(node.inputs[0])
        inputs = [None if operand is None else again(operand) for operand in node.inputs]
        name = emit.names.fresh(f"{item.name}/rows")
        copied = ir.node(node.op_type, inputs, dict(node.attributes), domain=node.domain, name=name)
        copied.outputs[0].name, copied.outputs[0].type = name, item.type
        emit.graph.append(copied)
        emit.new_nodes.add(copied)
        return copied.outputs[0]

    return again(value)


def _fill(node: ir.Node) -> Array:
    """The one number of a ConstantOfShape."""
    return np.asarray(node.attributes["value"].as_tensor().numpy()).reshape(()) if "value" in node.attributes else np.zeros((), np.float32)


def _shape_of_offsets(emit: Emit, ragged_group: RaggedGroup, lengths: ir.Value) -> None:
    """A model may compute its batch size from Shape(offsets): compute it from `lengths` instead."""
    for node in [node for node in ragged_group.offsets.consumers() if node.op_type in ("Shape", "Size")]:
        batch = emit.op("Slice", emit.op("Shape", lengths), emit.const([0]), emit.const([1]))
        count = emit.op("Mul", batch, emit.const([len(ragged_group.bags.features)])) if len(ragged_group.bags.features) > 1 else batch
        if ragged_group.bags.include_last_offset:
            count = emit.op("Add", count, emit.const([1]))
        if node.op_type == "Size":
            count = emit.op("Squeeze", count, emit.const([0]))
        ir.convenience.replace_all_uses_with(node.outputs[0], count, replace_graph_outputs=True)
