"""Quantized tables: rows are read first, and dequantized as they were.

Only the rows that are read are dequantized, by the same arithmetic: (row - zero point) * scale in floats.
"""

import numpy as np
import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.flow import QUANTIZED, Flow, int_of
from recsplit.load.by_rows.stand_in import stand_in

_MIDDLE = 128  # the zero point of UINT8 blocks that have none


def rows_of_quantized(emit: Emit) -> None:
    """Gather(DequantizeLinear(table), ids) reads rows of the table as it is stored; so does GatherBlockQuantized of 8 bits."""
    flow = Flow(emit.graph)
    for node in list(emit.graph):
        if node.op_type == "Gather" and node.domain == "" and node.inputs[0] is not None:
            maker, ids = node.inputs[0].producer(), node.inputs[1]
            table = None if maker is None or maker.op_type != "DequantizeLinear" or maker.domain != "" else maker.inputs[0]
            if maker is None or ids is None or not _is_table(table) or not flow.sources(ids) or int_of(node, "axis", 0) not in (0, -2):
                continue
            rows = _dequantized(emit, maker, ids)
        elif node.op_type == "GatherBlockQuantized" and node.domain == "com.microsoft":
            rows = _blocks(emit, node, flow)
        else:
            continue
        if rows is not None:
            stand_in(emit, node.outputs[0], rows)


def _is_table(value: ir.Value | None) -> bool:
    tensor = value.const_value if value is not None and value.is_initializer() else None
    return tensor is not None and tensor.dtype in QUANTIZED and len(tensor.shape) == 2 and tensor.size > 0


def _dequantized(emit: Emit, node: ir.Node, ids: ir.Value) -> ir.Value | None:
    """A DequantizeLinear of the rows that ids read; None where it is of a form that isn't understood."""
    table, scale, point = (*node.inputs, None)[:3]
    if scale is None or scale.shape is None or ids.shape is None or int_of(node, "block_size", 0) != 0:
        return None
    rank = len(ids.shape)
    rows = _read(emit, table, ids)
    if len(scale.shape) == 0:
        return emit.op("DequantizeLinear", rows, scale, point)
    if int_of(node, "axis", 1) in (1, -1):
        return emit.op("DequantizeLinear", rows, scale, point, axis=rank)
    if scale.dtype != ir.DataType.FLOAT or not scale.is_initializer() or (point is not None and not point.is_initializer()):
        return None
    scales = emit.unsqueeze(_read(emit, scale, ids), -1)
    points = None if point is None else emit.unsqueeze(_read(emit, point, ids), -1)
    return _scaled(emit, rows, points, scales)


def _blocks(emit: Emit, node: ir.Node, flow: Flow) -> ir.Value | None:
    """Rows of 8 bits whose blocks of columns have scales of their own."""
    table, ids, scales, points = (*node.inputs, None)[:4]
    if not _is_table(table) or table is None or ids is None or not flow.sources(ids) or ids.shape is None or scales is None:
        return None
    if not scales.is_initializer() or scales.dtype != ir.DataType.FLOAT or scales.shape is None or table.shape is None:
        return None
    if int_of(node, "bits", 4) != 8 or int_of(node, "gather_axis", 0) != 0 or int_of(node, "quantize_axis", 1) not in (1, -1):
        return None
    size, rank = int_of(node, "block_size", 128), len(ids.shape)
    dim, count = table.shape[1], scales.shape[1]
    if not isinstance(dim, int) or not isinstance(count, int) or (count > 1 and count * size != dim):
        return None
    rows, factors = _read(emit, table, ids), _read(emit, scales, ids)
    zeros = emit.const(np.array(_MIDDLE), np.uint8) if points is None else _read(emit, points, ids)
    if count == 1:
        return _scaled(emit, rows, zeros, factors)
    rows = emit.reshape(rows, [0] * rank + [count, size])
    zeros = zeros if points is None else emit.unsqueeze(zeros, -1)
    return emit.reshape(_scaled(emit, rows, zeros, emit.unsqueeze(factors, -1)), [0] * rank + [dim])


def _read(emit: Emit, table: ir.Value | None, ids: ir.Value) -> ir.Value:
    assert table is not None and table.shape is not None and ids.shape is not None
    vectors = emit.op("Gather", table, ids, axis=0, name="vectors")
    vectors.type, vectors.shape = table.type, ir.Shape([*ids.shape, *table.shape[1:]])
    return vectors


def _scaled(emit: Emit, rows: ir.Value, points: ir.Value | None, scales: ir.Value) -> ir.Value:
    """(rows - points) * scales, the difference in whole numbers, as onnxruntime dequantizes."""
    whole = emit.cast(rows, ir.DataType.INT32)
    if points is not None:
        whole = emit.op("Sub", whole, emit.cast(points, ir.DataType.INT32))
    return emit.op("Mul", emit.cast(whole, ir.DataType.FLOAT), scales)
