"""Who feeds whom: ancestors, what can travel to the embedding side; small constants and attributes."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[np.generic]

#: Operators that only move, compare or count: what makes ids, masks and bag lengths of a client's input. A value
#: made by these alone can be computed on the embedding side; anything else is a layer of the dense model.
PORTABLE = frozenset(
    "Abs Add And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Clip Concat ConstantOfShape "
    "CumSum Div Equal Expand Flatten Floor Gather GatherElements GatherND Greater GreaterOrEqual Identity IsNaN Less "
    "LessOrEqual Max Min Mod Mul Neg NonZero Not Or Pad Pow Range ReduceMax ReduceMin ReduceProd ReduceSum Reshape Round "
    "ScatterElements ScatterND Shape Sign Size Slice Split Sqrt Squeeze Sub Tile TopK Transpose Unsqueeze Where Xor".split()
)

#: The same of other domains: what makes ids of a client's numbers, each by itself.
_PORTABLE_ELSEWHERE = frozenset({("ai.onnx.ml", "LabelEncoder"), ("com.microsoft", "MurmurHash3")})

#: Operators whose output tells the shape of their input and nothing of its data.
SHAPE_ONLY = frozenset({"Shape", "Size", "ConstantOfShape"})

#: What onnxruntime reads, pads and pools on a CPU.
FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16})
#: What onnxruntime reads, and the model itself makes vectors of.
QUANTIZED = frozenset({ir.DataType.INT8, ir.DataType.UINT8})
TABLE_DTYPES = FLOATS | QUANTIZED

#: Operators that read by their second input.
_BY_INDICES = frozenset({"Gather", "GatherElements", "GatherND"})

#: Elements of the largest constant that is read. Tables are larger, and may be 10 GB on a disk.
SMALL = 1 << 16

CONTROL = frozenset({"Loop", "If", "Scan"})
SEQUENCE = frozenset(
    "SequenceEmpty SequenceConstruct SequenceInsert SequenceErase SequenceAt SequenceLength SequenceMap "
    "ConcatFromSequence SplitToSequence".split()
)


class Flow:
    """Answers about one graph, remembered. Make a new one after the graph changed."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._blockers: dict[ir.Value, ir.Node | None] = {}
        self._sources: dict[ir.Value, frozenset[ir.Value]] = {}
        order = {node: index for index, node in enumerate(graph)}
        for node in order:
            inputs = [value for value in node.inputs if value is not None]
            blocker = next((upstream_blocker for value in inputs if (upstream_blocker := self._blockers.get(value)) is not None), None)
            if blocker is None and (not is_portable(node) or is_lookup_shaped(node)):
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


def is_portable(node: ir.Node) -> bool:
    """Whether the node is one of those that make ids, masks and bag lengths of a client's numbers."""
    if node.domain in ("", "ai.onnx"):
        # A reduction in place adds in any order, and onnxruntime's ScatterND loses some of it.
        return node.op_type in PORTABLE and node.attributes.get_string("reduction", "none") == "none"
    return (node.domain, node.op_type) in _PORTABLE_ELSEWHERE


def is_lookup_shaped(node: ir.Node) -> bool:
    """Whether the node reads rows of a rank-2 initializer of floats, or of INT8 or UINT8 that aren't ids: a candidate for a lookup."""
    if node.domain == "recsplit":
        return True
    table = node.inputs[0] if node.op_type == "Gather" else None
    if table is None or int_of(node, "axis", 0) not in (0, -2) or table_shape(table) is None:
        return False
    return table.dtype not in QUANTIZED or not leads_to_ids(node.outputs[0])


def leads_to_ids(value: ir.Value) -> bool:
    """Whether whole numbers reach the indices of a node that reads by them, as those of a buffer `category_of` do."""
    seen: set[ir.Value] = set()
    ahead = [value]
    while ahead:
        current = ahead.pop()
        if current in seen or (current.dtype is not None and current.dtype.is_floating_point()):
            continue
        seen.add(current)
        for use in current.uses():
            if (use.node.op_type in _BY_INDICES and use.idx == 1) or use.node.domain == "recsplit":
                return True
            ahead.extend(use.node.outputs if use.node.op_type not in ("DequantizeLinear", *SHAPE_ONLY) else ())
    return False


def table_shape(value: ir.Value | None) -> tuple[int, int] | None:
    """(rows, dim) where the value is a rank-2 initializer of a dtype that tables may have, else None."""
    tensor = value.const_value if value is not None and value.is_initializer() else None
    if tensor is None or tensor.dtype not in TABLE_DTYPES or len(tensor.shape) != 2:
        return None
    rows, dim = (int(size) for size in tensor.shape)  # type: ignore[arg-type]
    return rows, dim


def int_of(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute, `default` where the node doesn't have it."""
    number = node.attributes.get_int(name, default)
    assert number is not None
    return number


def ints_of(node: ir.Node, name: str, position: int) -> list[int] | None:
    """Integers given as attribute (older opsets) or as a constant input; None if absent or computed."""
    attribute = node.attributes.get_ints(name)
    if attribute is not None:
        return list(attribute)
    array = constant(node.inputs[position]) if len(node.inputs) > position else None
    return None if array is None else [int(item) for item in array.reshape(-1)]


def constant(value: ir.Value | None, *, limit: int = SMALL) -> Array | None:
    """The data of a small constant, initializer or Constant node; None where it isn't one or has more than `limit` elements."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None or tensor.size > limit else np.asarray(tensor.numpy())


def upstream(value: ir.Value, *, data_only: bool = False) -> Iterator[ir.Value]:
    """`value` and every value of its graph on a way that leads to it, each once.

    With `data_only` ways end at operators that tell a shape and nothing of the data.
    """
    seen: set[ir.Value] = set()
    ahead = [value]
    while ahead:
        current = ahead.pop()
        if current in seen:
            continue
        seen.add(current)
        yield current
        producer = current.producer()
        if producer is not None and not (data_only and producer.op_type in SHAPE_ONLY):
            ahead.extend(item for item in producer.inputs if item is not None)
