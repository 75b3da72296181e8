"""Gather on a table that isn't [rows, dim]: weights [rows], blocks [rows, a, b], and tables stored as [dim, rows]."""

import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.flow import QUANTIZED, TABLE_DTYPES, Flow, int_of, leads_to_ids
from recsplit.load.by_rows.stand_in import stand_in
from recsplit.load.by_rows.views import Views


def rows_of_tables(emit: Emit, views: Views) -> None:
    """Read such a table as [rows, dim], and give what was read the dims that it had."""
    flow = Flow(emit.graph)
    for node in list(emit.graph):
        table, ids = (*node.inputs, None, None)[:2]
        if node.op_type != "Gather" or node.domain != "" or table is None or ids is None or not flow.sources(ids):
            continue
        tensor = table.const_value if table.is_initializer() else None
        if tensor is None or tensor.dtype not in TABLE_DTYPES or ids.shape is None or tensor.size == 0 or len(tensor.shape) == 0:
            continue
        if tensor.dtype in QUANTIZED and leads_to_ids(node.outputs[0]):  # a buffer of integers
            continue
        sizes, rank = [int(size) for size in tensor.shape.numpy()], len(ids.shape)
        axis = int_of(node, "axis", 0) % len(sizes)
        if axis == 0 and len(sizes) == 1:
            stand_in(emit, node.outputs[0], emit.op("Squeeze", _vectors(emit, views.flattened(table), ids), emit.const([rank])))
        elif axis == 0 and len(sizes) > 2:  # 0 keeps a dimension of the ids
            vectors = _vectors(emit, views.flattened(table), ids)
            stand_in(emit, node.outputs[0], emit.reshape(vectors, [0] * rank + sizes[1:]))
        elif axis == 1 and len(sizes) == 2 and _turned_back(node):
            vectors = _vectors(emit, views.transposed(table), ids)
            stand_in(emit, node.outputs[0], emit.op("Transpose", vectors, perm=[rank, *range(rank)]))


def _turned_back(node: ir.Node) -> bool:
    """Whether all that read columns [dim, batch, ...] turn them so that the batch comes first, as weight[:, ids].t() does."""
    readers = list(node.outputs[0].consumers())
    turns = [reader.attributes.get_ints("perm") or [1, 0] for reader in readers if reader.op_type == "Transpose" and reader.domain == ""]
    return 0 < len(turns) == len(readers) and all(turn[0] == 1 for turn in turns)


def _vectors(emit: Emit, table: ir.Value, ids: ir.Value) -> ir.Value:
    vectors = emit.op("Gather", table, ids, axis=0, name="vectors")
    assert table.shape is not None and ids.shape is not None
    vectors.type, vectors.shape = table.type, ir.Shape([*ids.shape, table.shape[1]])
    return vectors
