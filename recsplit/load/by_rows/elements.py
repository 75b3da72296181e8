"""GatherElements along the first axis, where the id of a row is repeated over all of its columns: that reads the row."""

import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.flow import TABLE_DTYPES, constant, int_of
from recsplit.load.by_rows.stand_in import stand_in


def rows_of_elements(emit: Emit) -> None:
    """GatherElements(table [rows, dim], Expand(ids [n, 1], [1, dim])) becomes Gather(table, ids); of a table [rows] it is that already."""
    for node in list(emit.graph):
        if node.op_type != "GatherElements" or node.domain != "" or int_of(node, "axis", 0) != 0:
            continue
        table, indices = node.inputs
        tensor = table.const_value if table is not None and table.is_initializer() else None
        if table is None or indices is None or tensor is None:
            continue
        if len(tensor.shape) == 1:  # a buffer of integers as well
            stand_in(emit, node.outputs[0], emit.op("Gather", table, indices, axis=0, name="vectors"))
        elif len(tensor.shape) == 2 and tensor.dtype in TABLE_DTYPES:
            ids = _repeated(indices, int(tensor.shape.numpy()[1]))
            if ids is not None:
                single = emit.op("Squeeze", ids, emit.const([1]), name="ids")
                single.type = ids.type
                stand_in(emit, node.outputs[0], emit.op("Gather", table, single, axis=0, name="vectors"))


def _repeated(indices: ir.Value, dim: int) -> ir.Value | None:
    """The ids [n, 1] that `indices` [n, dim] repeats `dim` times along the last axis; None where it isn't made so."""
    node = indices.producer()
    if node is None or node.domain != "" or node.op_type not in ("Expand", "Tile"):
        return None
    ids, times = node.inputs[0], constant(node.inputs[1])
    if ids is None or ids.shape is None or len(ids.shape) != 2 or ids.shape[1] != 1 or times is None:
        return None
    numbers = [int(number) for number in times.reshape(-1)]
    return ids if numbers in ([1, dim], [dim] if node.op_type == "Expand" else []) else None
