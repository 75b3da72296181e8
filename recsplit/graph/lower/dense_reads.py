"""Constants that stay in the dense model and are read by a client's ids, `year[item]`, and places in a row: read inside their bounds.

An id outside would fail the run, and with it the requests of everybody in the batch. It reads place 0, and its row is marked.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common

from recsplit.graph import measure
from recsplit.graph.emit import Emit
from recsplit.graph.flow import Flow, int_of
from recsplit.graph.lower.collected import Lowering, first_unknown

_WITHIN_ROWS = frozenset({"GatherElements", "ScatterElements"})
_READS = frozenset({"Gather", "GatherND"}) | _WITHIN_ROWS


@dataclass(frozen=True)
class DenseRead:
    """The ids that a constant is read by, and which of them are outside, BOOL of their shape; `width`: of a row, None where it varies."""

    ids: ir.Value
    outside: ir.Value
    width: int | None


def guard_dense_reads(model: ir.Model, others: Collection[ir.Node]) -> list[DenseRead]:
    """Guard every such read but those of `others`, in place; the nodes come sorted. Those whose rows can be marked are answered.

    Ids below 0 count from the end, as in ONNX and in torch's indexing: what is outside for the source is outside here.
    """
    flow, emit = Flow(model.graph), Emit(model, "recsplit/dense_read")
    outside_by_ids: dict[ir.Value, list[ir.Value]] = {}
    for node in [node for node in model.graph if node not in others]:
        bounds, ids = _bounds(node, flow), node.inputs[1] if len(node.inputs) > 1 else None
        if bounds is None or ids is None or ids.dtype not in (ir.DataType.INT32, ir.DataType.INT64):
            continue
        kind = ids.dtype.numpy()
        sizes = bounds[0] if len(bounds) == 1 else bounds  # of several indices each has its own
        below = emit.op("Less", ids, emit.const([-size for size in bounds] if len(bounds) > 1 else -bounds[0], kind))
        outside = emit.op("Or", below, emit.op("GreaterOrEqual", ids, emit.const(sizes, kind)))
        inside = emit.op("Where", outside, emit.const(0, kind), ids, name="inside")
        inside.type, inside.shape = ids.type, ids.shape
        node.replace_input_with(1, inside)
        if flow.blocker(ids) is None:
            outside_by_ids.setdefault(ids, []).append(outside)
    common.TopologicalSortPass()(model)
    lie = measure.rows(model, list(outside_by_ids))
    shapes = measure.shapes(model, list(outside_by_ids))
    return [
        DenseRead(ids, outside, item.width)
        for (ids, several), item, shape in zip(outside_by_ids.items(), lie, shapes, strict=True)
        for outside in several
        if not item.mixed and shape[:1] == ("batch",)
    ]


def mark_dense_reads(lowering: Lowering, reads: Sequence[DenseRead]) -> None:
    """Mark their rows. Called when all lookups are described: the positions of these marks are behind those of the lookups."""
    emit, position = lowering.emit, lowering.position
    for read in reads:
        lowering.reads.check(read.outside, read.ids, read.width, position)
        position += read.width or 1
        if read.width is not None:
            bad, ids = emit.reshape(read.outside, [-1, read.width]), emit.reshape(read.ids, [-1, read.width])
        else:  # one slot more, since there is no first of nothing
            padded = [emit.op("Pad", emit.reshape(item, [0, -1]), emit.const([0, 0, 0, 1])) for item in (read.outside, read.ids)]
            bad, ids = first_unknown(emit, *padded, axis=1)
        ids.type = read.ids.type
        lowering.mark(bad, ids)


def _bounds(node: ir.Node, flow: Flow) -> list[int] | None:
    """The sizes that each index must stay below; None where the node reads, and writes, at no place that a client's data say.

    Gather and GatherND of a constant; GatherElements and ScatterElements within a row of anything.
    """
    if node.domain != "" or node.op_type not in _READS or int_of(node, "batch_dims", 0) != 0:
        return None
    data, ids = node.inputs[0], node.inputs[1]
    if data is None or ids is None or data.shape is None or ids.shape is None or not flow.sources(ids):
        return None
    axis = int_of(node, "axis", 0)
    if node.op_type in _WITHIN_ROWS:
        size = data.shape[axis] if axis % len(data.shape) else None
        return [size] if isinstance(size, int) else None
    if flow.sources(data) or data.is_graph_input():
        return None
    count = ids.shape[-1] if node.op_type == "GatherND" and len(ids.shape) else None
    chosen = [data.shape[axis]] if node.op_type == "Gather" else list(data.shape[:count]) if isinstance(count, int) else [None]
    sizes = [size for size in chosen if isinstance(size, int)]
    return sizes if len(sizes) == len(chosen) else None
