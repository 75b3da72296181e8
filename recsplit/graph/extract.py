"""Taking a sub-graph out of a model: as a model of its own, or to evaluate it."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from recsplit.graph.flow import Array, is_lookup_shaped, table_shape
from recsplit.graph.names import Names

#: The IR version in which sub-models are written, unless a model's own is lower; onnxruntime 1.18 and newer read it.
_IR_VERSION = 10


def part(model: ir.Model, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value], role: str) -> ir.Model:
    """A copy of the sub-model between inputs and outputs, called `role`; inputs that it doesn't read are left out."""
    graph = ir.convenience.extract(model.graph, tuple(inputs), tuple(outputs))
    used = {value for node in ir.traversal.RecursiveGraphIterator(graph) for value in node.inputs} | set(graph.outputs)
    for value in tuple(graph.inputs):
        if value not in used:
            graph.inputs.remove(value)
    for name, value in tuple(graph.initializers.items()):
        if value not in used:
            del graph.initializers[name]
    graph.name = role
    graph.opset_imports.pop("recsplit", None)
    return ir.Model(graph, ir_version=min(model.ir_version, _IR_VERSION), producer_name="recsplit")


def evaluate(model: ir.Model, outputs: Iterable[ir.Value], feeds: Mapping[str, Array], *, shapes_only: bool = False) -> list[Array]:
    """Values of `outputs` for graph inputs `feeds` (only those needed are used). Raises onnxruntime's own errors.

    With `shapes_only` every lookup answers zeros, so that no table is read (it may be 10 GB); only shapes mean something.
    """
    session = session_for(model, tuple(outputs), shapes_only=shapes_only)
    needed = {item.name: feeds[item.name] for item in session.get_inputs()}
    return [np.asarray(item) for item in session.run(None, needed)]


def session_for(model: ir.Model, outputs: tuple[ir.Value, ...], *, shapes_only: bool = False) -> ort.InferenceSession:
    """A session over the sub-graph from the graph inputs to `outputs`; one thread, quiet."""
    graph = ir.convenience.extract(model.graph, tuple(model.graph.inputs), outputs)
    if shapes_only:
        names = Names(graph)
        for node in tuple(graph):
            if is_lookup_shaped(node) and node.op_type == "Gather":
                _answer_zeros(graph, node, names)
    used = {value for node in ir.traversal.RecursiveGraphIterator(graph) for value in node.inputs}
    for value in tuple(graph.inputs):
        if value not in used and value not in graph.outputs:
            graph.inputs.remove(value)
    for name, value in tuple(graph.initializers.items()):
        if value not in used and value not in graph.outputs:
            del graph.initializers[name]
        elif isinstance(value.const_value, ir.ExternalTensor):  # a session made from bytes knows no folder to read it from
            value.const_value = ir.tensor(value.const_value.numpy(), name=name)
    _distinct_outputs(graph)
    proto = ir.to_proto(ir.Model(graph, ir_version=min(model.ir_version, _IR_VERSION)))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _answer_zeros(graph: ir.Graph, node: ir.Node, names: Names) -> None:
    """Put zeros of the same shape and dtype in the place of a lookup's output."""
    table, ids = node.inputs
    assert table is not None and table.const_value is not None and table_shape(table) is not None
    name = node.outputs[0].name
    zero = ir.val(names.fresh(f"{name}_zero"), const_value=ir.tensor(np.zeros(1, dtype=table.const_value.dtype.numpy())))
    dim = ir.val(names.fresh(f"{name}_dim"), const_value=ir.tensor(np.array([table.const_value.shape[1]], dtype=np.int64)))
    graph.register_initializer(zero)
    graph.register_initializer(dim)
    shape = ir.node("Shape", [ids])
    whole = ir.node("Concat", [shape.outputs[0], dim], {"axis": 0})
    zeros = ir.node("Expand", [zero, whole.outputs[0]])
    for new_node, label in ((shape, "shape"), (whole, "whole"), (zeros, "zeros")):
        new_node.name = new_node.outputs[0].name = names.fresh(f"{name}_{label}")
    graph.insert_before(node, [shape, whole, zeros])
    ir.convenience.replace_all_uses_with(node.outputs[0], zeros.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _distinct_outputs(graph: ir.Graph) -> None:
    """ORT refuses an output that is an input or an initializer, and one listed twice: give each an Identity."""
    names = Names(graph)
    for index, value in enumerate(tuple(graph.outputs)):
        node = ir.node("Identity", [value])
        node.name = node.outputs[0].name = names.fresh(f"recsplit_probe_{index}")
        node.outputs[0].type = value.type
        graph.append(node)
        graph.outputs[index] = node.outputs[0]
