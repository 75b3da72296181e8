"""Finding tables and lookups: every candidate in a graph, and why it is a lookup or not."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from recsplit.graph.find.other_readers import other_reading, weight_bytes
from recsplit.graph.flow import CONTROL, FLOATS, Flow, int_of, ints_of, is_lookup_shaped, table_shape, upstream


@dataclass(frozen=True)
class Candidate:
    """A node that reads, or seems to read, rows of a table.

    `reason` is empty for a lookup and says why not otherwise. `table`, `rows`, `dim` are those of the (first) table; `size_bytes`
    of all that the node reads. `by_requests`: whether a client's data decides which rows are read.
    """

    node: ir.Node
    kind: str
    table: str
    rows: int
    dim: int
    size_bytes: int
    by_requests: bool
    reason: str

    @property
    def is_lookup(self) -> bool:
        """Whether the node is cut out to the embedding side."""
        return not self.reason


def find(model: ir.Model, *, loops: Mapping[str, str] | None = None) -> tuple[Candidate, ...]:
    """Every candidate of the main graph, in order.

    Args:
        model: the IR, loops already collapsed.
        loops: for each Loop left in the graph, why it wasn't read as a bag.
    """
    flow = Flow(model.graph)
    judgements = (_judge(node, flow, loops or {}) for node in model.graph)
    return tuple(candidate for candidate in judgements if candidate is not None)


def table_name(value: ir.Value) -> str:
    """The table's name as the model's author knows it: the parameter's name without a final '.weight'."""
    return (value.name or "table").removesuffix(".weight")


def tables_of(node: ir.Node) -> tuple[ir.Value, ...]:
    """The table initializers that a lookup node reads."""
    values = node.inputs[3:] if node.op_type == "JaggedBags" else node.inputs[:1]
    return tuple(value for value in values if value is not None)


def ids_of(node: ir.Node) -> ir.Value:
    """The ids that a lookup node reads rows by."""
    value = node.inputs[0 if node.op_type == "JaggedBags" else 1]
    assert value is not None
    return value


def _judge(node: ir.Node, flow: Flow, loops: Mapping[str, str]) -> Candidate | None:
    if is_lookup_shaped(node):
        return _judge_lookup(node, flow)
    if node.op_type in CONTROL:
        tables = _tables_inside(node)
        why = loops.get(node.name or "", "its body isn't one of the forms that exporters make of an EmbeddingBag")
        asked = any(flow.sources(value) for value in node.inputs if value is not None)
        return Candidate(node, node.op_type, "?", 0, 0, sum(map(weight_bytes, tables)), asked, why) if tables else None
    if node.op_type == "Gather" and node.domain in ("", "ai.onnx"):
        unreadable = _unreadable(node, flow)
        if unreadable is not None:
            return unreadable
    reading = other_reading(node, flow)
    if reading is None:
        return None
    rows, dim = _rows_and_dim(reading.table)
    return Candidate(node, node.op_type, _weight_name(reading.table), rows, dim, reading.size_bytes, True, reading.reason)


def _unreadable(node: ir.Node, flow: Flow) -> Candidate | None:
    """A Gather that reads a float table of any size in a way, or of a kind, that can't be cut out."""
    data, ids = node.inputs[0], node.inputs[1]
    if data is None or ids is None:
        return None
    tensor = data.const_value if data.is_initializer() else None
    if table_shape(data) is not None and data.dtype in FLOATS:
        why = f"it picks along axis {int_of(node, 'axis', 0)}: columns of the table, not rows"
    elif tensor is not None and tensor.dtype.is_floating_point() and tensor.dtype not in FLOATS:
        why = f"its table is of {tensor.dtype.name}, which onnxruntime can't pool on a CPU: store it as FLOAT16 or FLOAT"
    elif not data.is_initializer() and _made_of_weights(data, flow):
        maker = data.producer()
        assert maker is not None
        why = f"its table isn't stored but computed by {maker.op_type} {maker.name!r}: export it as a constant"
    else:
        return None
    return Candidate(node, "Gather", table_name(data), *_rows_and_dim(data), weight_bytes(data), bool(flow.sources(ids)), why)


def _rows_and_dim(table: ir.Value) -> tuple[int, int]:
    """Rows, and elements of a row, of a table of any rank; 0 where its shape isn't known."""
    if table.shape is None or len(table.shape) == 0:
        return 0, 0
    sizes = [size if isinstance(size, int) else 0 for size in table.shape]
    return sizes[0], math.prod(sizes[1:])


def _weight_name(table: ir.Value) -> str:
    """The name of a constant that is read; of the largest weight that it is made of where it is computed."""
    weights = [value for value in upstream(table, data_only=True) if value.is_initializer()]
    return table_name(max(weights, key=weight_bytes, default=table))


def _judge_lookup(node: ir.Node, flow: Flow) -> Candidate:
    tables = tables_of(node)
    shapes = [table_shape(value) for value in tables]
    size_bytes, asked = sum(map(weight_bytes, tables)), bool(flow.sources(ids_of(node)))
    if None in shapes:
        why = "its table isn't a stored rank-2 tensor of floats, INT8 or UINT8"
        return Candidate(node, node.op_type, table_name(tables[0]), 0, 0, size_bytes, asked, why)
    rows, dim = shapes[0] or (0, 0)
    return Candidate(node, node.op_type, table_name(tables[0]), rows, dim, size_bytes, asked, _why_not(node, flow))


def _why_not(node: ir.Node, flow: Flow) -> str:
    """Empty if the ids can be made on the embedding side, else what prevents it."""
    ids = ids_of(node)
    operands = [value for value in node.inputs if value is not None and value not in tables_of(node)]
    for value in operands:
        blocker = flow.blocker(value)
        if blocker is None:
            continue
        weights = node.inputs[2 if node.op_type == "JaggedBags" else 3] if len(node.inputs) > 3 and node.domain == "recsplit" else None
        what = "ids" if value is ids else "per-sample weights" if value is weights else "bags"
        if is_lookup_shaped(blocker):
            return f"its {what} come out of another lookup ({blocker.op_type} {blocker.name!r}), so it stays in the dense model"
        maker = f"{blocker.op_type} {blocker.name!r}"
        if any(value is not None and value.dtype is not None and value.dtype.is_floating_point() for value in blocker.inputs):
            return f"its {what} depend on floating-point layers ({maker} comes before them), so it stays in the dense model"
        return f"its {what} are made by {maker}, which is no operator of the embedding model, so it stays in the dense model"
    if not flow.sources(ids):
        shaped = not ids.is_initializer() and ids.producer() is not None
        reason = "tell positions only (made from shapes, not from data)" if shaped else "are a constant of the model"
        return f"its ids {reason}, so it stays in the dense model"
    return ""


def _tables_inside(node: ir.Node) -> list[ir.Value]:
    """The tables of which a Loop or If reads rows somewhere in its bodies (implicit captures included)."""
    tables: dict[ir.Value, None] = {}
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in ir.traversal.RecursiveGraphIterator(attribute.as_graph()):
                table = inner.inputs[0] if inner.op_type == "Gather" else None
                if table is not None and table_shape(table) is not None:
                    tables[table] = None
    return list(tables)


def _made_of_weights(value: ir.Value, flow: Flow) -> bool:
    """Whether a computed value holds no request data and comes from a rank-2 float initializer."""
    return not flow.sources(value) and any(table_shape(item) is not None for item in upstream(value))


def reduce_axes(node: ir.Node) -> list[int] | None:
    """The axes of a Reduce node, None if not constant."""
    return ints_of(node, "axes", 1)
