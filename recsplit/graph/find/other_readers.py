"""Large constants that nodes read by a client's ids in another way than a lookup does: what stays in the dense model, and why."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from recsplit.graph.find.one_hot import origin
from recsplit.graph.flow import CONTROL, Flow, int_of, upstream

#: Bytes from which on a constant that ids read is worth a line: smaller ones are masks, calendars and scales.
LARGE_BYTES = 1 << 10


@dataclass(frozen=True)
class OtherReading:
    """What a node reads by ids: the constant as the node gets it, the bytes of the weights that it is made of, and why it's no lookup."""

    table: ir.Value
    size_bytes: int
    reason: str


def other_reading(node: ir.Node, flow: Flow) -> OtherReading | None:
    """The largest constant that the node reads by ids which come from a client; None where there is none of LARGE_BYTES or more."""
    readings = [OtherReading(table, weight_bytes(table), reason) for table, ids, reason in _reads(node) if _asks(flow, table, ids)]
    largest = max(readings, key=lambda reading: reading.size_bytes, default=None)
    return largest if largest is not None and largest.size_bytes >= LARGE_BYTES else None


def weight_bytes(value: ir.Value) -> int:
    """Bytes of the initializers that a constant is made of; its own where it is one."""
    tensors = [item.const_value for item in upstream(value, data_only=True) if item.is_initializer()]
    return sum(int(tensor.nbytes) for tensor in tensors if tensor is not None)


def _asks(flow: Flow, table: ir.Value, ids: ir.Value) -> bool:
    """Whether the table is a constant, and the ids hold a client's data."""
    return not table.is_graph_input() and not flow.sources(table) and bool(flow.sources(ids))


def _reads(node: ir.Node) -> Iterator[tuple[ir.Value, ir.Value, str]]:
    """Everything that the node reads by indices: table, indices, and what keeps it from being a lookup by rows."""
    if node.op_type in CONTROL:
        return
    for table, ids, reason in _operands(node):
        if table is not None and ids is not None:
            yield table, ids, reason


def _operands(node: ir.Node) -> Iterator[tuple[ir.Value | None, ir.Value | None, str]]:
    inputs = [*node.inputs, *[None] * 7]
    match (node.domain.removeprefix("ai.onnx"), node.op_type):
        case ("", "Gather"):
            yield inputs[0], inputs[1], _why_not_rows(node)
        case ("", "GatherElements"):
            yield inputs[0], inputs[1], "it reads single elements, each of a row of its own: read whole rows by Gather"
        case ("", "GatherND"):
            yield inputs[0], inputs[1], "it reads by several indices at once: read whole rows by Gather"
        case (".ml", "ArrayFeatureExtractor"):
            yield inputs[0], inputs[1], "it picks along the last axis: columns of the table, not rows"
        case ("com.microsoft", "GatherBlockQuantized"):
            yield inputs[0], inputs[1], "its rows are stored in blocks, in a form that recsplit doesn't read"
        case ("com.microsoft", "EmbedLayerNormalization" | "QEmbedLayerNormalization"):
            reason = "its operator looks up, adds and normalizes in one: export the model without that fusion"
            yield inputs[2], inputs[0], reason
            yield inputs[3], inputs[7] if len(node.inputs) > 7 else None, reason
            yield inputs[4], inputs[1], reason
        case ("", "MatMul" | "Gemm" | "Einsum"):
            for weight, vectors in ((inputs[1], inputs[0]), (inputs[0], inputs[1])):
                maker = None if vectors is None else origin(vectors)
                if maker is not None:
                    how = f"its rows are read by a product with one-hot vectors (of {maker.op_type} {maker.name!r})"
                    yield weight, vectors, f"{how}: read them by ids, with nn.Embedding or Gather"
        case _:
            pass


def _why_not_rows(node: ir.Node) -> str:
    """Why a Gather that isn't a lookup by rows is none, whatever its table."""
    table, axis = node.inputs[0], int_of(node, "axis", 0)
    if table is not None and not table.is_initializer():
        maker = table.producer()
        what = "a constant" if maker is None else f"{maker.op_type} {maker.name!r}"
        return f"its table isn't stored but computed by {what}: export it as a constant"
    if table is not None and table.dtype is not None and not table.dtype.is_floating_point():
        return f"it holds {table.dtype.name} numbers, not vectors"
    rank = len(table.shape) if table is not None and table.shape is not None else 0
    if axis not in (0, -rank):
        return f"it picks along axis {axis}: columns of the table, not rows"
    return f"its table has {rank} dimensions, not rows and a dim"
