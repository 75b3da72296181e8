"""Who feeds whom: ancestors, what can travel to the embedding side, small constants; taking out a sub-graph, and evaluating it."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

Array = NDArray[np.generic]

#: Operators that only move, compare or count: what makes ids, masks and bag lengths of a client's input. A value
#: made by these alone can be computed on the embedding side; anything else is a layer of the dense model.
PORTABLE = frozenset(
    "Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Clip Concat ConstantOfShape "
    "CumSum Div Equal Expand Flatten Floor Gather GatherElements GatherND Greater GreaterOrEqual Identity IsNaN Less "
    "LessOrEqual Max Min Mod Mul Neg Not Or Pad Pow Range ReduceMax ReduceMin ReduceProd ReduceSum Reshape Round Shape "
    "Sign Size Slice Split Sqrt Squeeze Sub Tile Transpose Unsqueeze Where Xor".split()
)

#: Operators whose output tells the shape of their input and nothing of its data.
SHAPE_ONLY = frozenset({"Shape", "Size", "ConstantOfShape"})

#: What onnxruntime reads, pads and pools on a CPU.
TABLE_DTYPES = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16})

CONTROL = frozenset({"Loop", "If", "Scan"})
SEQUENCE = frozenset(
    "SequenceEmpty SequenceConstruct SequenceInsert SequenceErase SequenceAt SequenceLength SequenceMap "
    "ConcatFromSequence SplitToSequence".split()
)


#: Opset and IR version bounds within which sub-models are written; onnxruntime 1.17 and newer read them.
_IR_VERSION = 10


class Flow:
    """Answers about one graph, remembered. Make a new one after the graph changed."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._blockers: dict[ir.Value, ir.Node | None] = {}
        self._sources: dict[ir.Value, frozenset[ir.Value]] = {}
        order = {node: index for index, node in enumerate(graph)}
        for node in order:
            inputs = [value for value in node.inputs if value is not None]
            blocker = next((found for value in inputs if (found := self._blockers.get(value)) is not None), None)
            if blocker is None and (node.domain not in ("", "ai.onnx") or node.op_type not in PORTABLE or is_lookup_shaped(node)):
                blocker = node
            sources: frozenset[ir.Value] = frozenset()
            if node.op_type not in SHAPE_ONLY:
                sources = sources.union(*(self.sources(value) for value in inputs))
            for output in node.outputs:
                self._blockers[output] = blocker
                self._sources[output] = sources

    def blocker(self, value: ir.Value) -> ir.Node | None:
        """The first node on the way to `value` that can't travel to the embedding side; None if all can."""
        return self._blockers.get(value)

    def sources(self, value: ir.Value) -> frozenset[ir.Value]:
        """The graph inputs whose data (not only shape) reaches `value`."""
        if value.is_graph_input():
            return frozenset({value})
        return self._sources.get(value, frozenset())


def is_lookup_shaped(node: ir.Node) -> bool:
    """Whether the node reads rows of a rank-2 float initializer: a candidate for a lookup."""
    if node.domain == "recsplit":
        return True
    return node.op_type == "Gather" and axis_of(node) in (0, -2) and table_shape(node.inputs[0]) is not None


def table_shape(value: ir.Value | None) -> tuple[int, int] | None:
    """(rows, dim) where the value is a rank-2 initializer of a dtype that tables may have, else None."""
    tensor = value.const_value if value is not None and value.is_initializer() else None
    if tensor is None or tensor.dtype not in TABLE_DTYPES or len(tensor.shape) != 2:
        return None
    rows, dim = (int(size) for size in tensor.shape)  # type: ignore[arg-type]
    return rows, dim


def axis_of(node: ir.Node, default: int = 0) -> int:
    """The node's `axis` attribute."""
    attribute = node.attributes.get("axis")
    return default if attribute is None else attribute.as_int()


def ints_of(node: ir.Node, name: str, position: int) -> list[int] | None:
    """Integers given as attribute (older opsets) or as a constant input; None if absent or computed."""
    attribute = node.attributes.get(name)
    if attribute is not None:
        return list(attribute.as_ints())
    if len(node.inputs) <= position:
        return None
    array = constant(node.inputs[position])
    return None if array is None else [int(item) for item in array.reshape(-1)]


def constant(value: ir.Value | None, *, limit: int = 4096) -> Array | None:
    """The data of a small constant; None where it isn't one or is larger than `limit` elements."""
    tensor = value.const_value if value is not None and (value.is_initializer() or value.producer() is not None) else None
    if tensor is None or tensor.size > limit:
        return None
    return tensor.numpy()


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
        for node in tuple(graph):
            if is_lookup_shaped(node) and node.op_type == "Gather":
                _answer_zeros(graph, node)
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
    proto = ir.to_proto(ir.Model(graph, ir_version=min(model.ir_version, 10)))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _answer_zeros(graph: ir.Graph, node: ir.Node) -> None:
    """Put zeros of the same shape and dtype in the place of a lookup's output."""
    table, ids = node.inputs
    assert table is not None and table.const_value is not None and table_shape(table) is not None
    zero = ir.val(f"{node.outputs[0].name}_zero", const_value=ir.tensor(np.zeros(1, dtype=table.const_value.dtype.numpy())))
    dim = ir.val(f"{node.outputs[0].name}_dim", const_value=ir.tensor(np.array([table.const_value.shape[1]], dtype=np.int64)))
    graph.register_initializer(zero)
    graph.register_initializer(dim)
    shape = ir.node("Shape", [ids])
    whole = ir.node("Concat", [shape.outputs[0], dim], {"axis": 0})
    zeros = ir.node("Expand", [zero, whole.outputs[0]])
    for made, label in ((shape, "shape"), (whole, "whole"), (zeros, "zeros")):
        made.name = made.outputs[0].name = f"{node.outputs[0].name}_{label}"
    graph.insert_before(node, [shape, whole, zeros])
    ir.convenience.replace_all_uses_with(node.outputs[0], zeros.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _distinct_outputs(graph: ir.Graph) -> None:
    """ORT refuses an output that is an input or an initializer, and one listed twice: give each an Identity."""
    for index, value in enumerate(tuple(graph.outputs)):
        node = ir.node("Identity", [value], name=f"recsplit_probe_{index}")
        node.outputs[0].name = f"recsplit_probe_{index}"
        node.outputs[0].type = value.type
        graph.append(node)
        graph.outputs[index] = node.outputs[0]
