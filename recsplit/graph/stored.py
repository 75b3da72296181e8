"""Reading rows as they are stored: where tables lie in fewer bits than their vectors have, standard operators widen what was read.

Done last, on each model that is written: until then every graph reads tables of the numbers that they stand for. Rows of half precision are
cast; scaled ones (recsplit.rows.scaled) are taken apart: scale and bias by a table of all halves, since ONNX has no way to read two
bytes as one; codes of four bits by arithmetic that FP32 does exactly. Why not GatherBlockQuantized: decisions/0022.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.lower.fused_tables import FusedTable
from recsplit.plan.dtypes import ONNX, TRITON
from recsplit.rows import scaled

_HEADER = scaled.HEADER_BYTES


def file_dtype(stored: str) -> ir.DataType:
    """The element type of rows in the file: bytes where they are scaled."""
    return ir.DataType.UINT8 if stored in scaled.BITS else ir.DataType[ONNX[stored]]


def file_width(stored: str, dim: int) -> int:
    """Elements of a row in the file."""
    return scaled.row_bytes(dim, scaled.BITS[stored]) if stored in scaled.BITS else dim


def read_stored(model: ir.Model, tables: Mapping[str, FusedTable]) -> None:
    """Let `model` read these fused tables, by the names of its initializers, as they are stored. Its initializers' data isn't looked at.

    In place; the model's nodes stay sorted.
    """
    emit = Emit(model, "recsplit/stored")
    halves: ir.Value | None = None
    for name, table in tables.items():
        value = model.graph.initializers.get(name)
        if value is None or value.dtype is None or table.stored == TRITON[value.dtype.name]:
            continue
        dtype, rows = value.dtype, (value.shape or [None])[0]
        # A new type each time: copies of a value share theirs, and setting its dtype would change it in all of them.
        value.type, value.shape = ir.TensorType(file_dtype(table.stored)), ir.Shape([rows, file_width(table.stored, table.dim)])
        if table.stored in scaled.BITS and halves is None:
            halves = _halves(emit)
        for gather in [use.node for use in value.uses()]:
            assert gather.op_type == "Gather"
            _widen(emit, gather, dtype, table, halves)


def read_in_order(model: ir.Model, maps: Mapping[str, ir.TensorProtocol]) -> None:
    """Let `model` read fused tables, by the names of its initializers, whose rows lie in another order: maps[table][row] is where one lies.

    In place; the model's nodes stay sorted. Before `read_stored`.
    """
    emit = Emit(model, "recsplit/order")
    for name, tensor in maps.items():
        value = model.graph.initializers.get(name)
        if value is None:
            continue
        places = ir.val(tensor.name or "", dtype=ir.DataType.INT32, shape=tensor.shape.numpy(), const_value=tensor)
        model.graph.register_initializer(places)
        for gather in [use.node for use in value.uses()]:
            row = gather.inputs[1]
            assert gather.op_type == "Gather" and row is not None
            place = emit.op("Gather", places, row, axis=0, name="places")
            node = place.producer()
            assert node is not None
            emit.graph.remove(node)
            emit.graph.insert_before(gather, node)
            gather.replace_input_with(1, place)


def _widen(emit: Emit, gather: ir.Node, dtype: ir.DataType, table: FusedTable, halves: ir.Value | None) -> None:
    """What reads the vectors of `gather` reads them as `dtype`."""
    read = gather.outputs[0]
    before = set(emit.new_nodes)
    label, shape = read.name, read.shape
    users = list(read.uses())
    is_output = read.is_graph_output()
    if table.stored in scaled.BITS:
        assert halves is not None
        vectors = _scaled(emit, read, table, halves)
        vectors = vectors if dtype == ir.DataType.FLOAT else emit.cast(vectors, dtype)
    else:
        vectors = emit.cast(read, dtype)
    for use in users:
        use.node.replace_input_with(use.idx, vectors)
    if is_output:
        emit.graph.outputs[emit.graph.outputs.index(read)] = vectors
    read.name, vectors.name = emit.names.fresh(f"{label}_as_stored"), label
    vectors.type, vectors.shape = ir.TensorType(dtype), shape
    read.type, read.shape = ir.TensorType(file_dtype(table.stored)), None
    last = gather
    for node in [node for node in emit.graph if node in emit.new_nodes and node not in before]:
        emit.graph.remove(node)
        emit.graph.insert_after(last, node)
        last = node


def _scaled(emit: Emit, rows: ir.Value, table: FusedTable, halves: ir.Value) -> ir.Value:
    """FP32 numbers [..., dim] of scaled rows UINT8 [..., row bytes]."""
    width = file_width(table.stored, table.dim)
    header = emit.cast(_last_axis(emit, rows, 0, _HEADER), ir.DataType.FLOAT)
    # The low and the high byte of the scale, and of the bias, as one whole number each.
    both = emit.op("MatMul", header, emit.const([[1, 0], [256, 0], [0, 1], [0, 256]], np.float32, name="bytes"))
    scale, bias = emit.split(emit.op("Gather", halves, emit.cast(both, ir.DataType.INT32), axis=0), [1, 1], axis=-1)
    codes = emit.cast(_last_axis(emit, rows, _HEADER, width), ir.DataType.FLOAT)
    if scaled.BITS[table.stored] == 4:
        high = emit.op("Floor", emit.op("Mul", codes, emit.const(1 / 16, np.float32)))
        low = emit.op("Sub", codes, emit.op("Mul", high, emit.const(16, np.float32)))
        before = emit.op("Slice", emit.op("Shape", codes), emit.const([0]), emit.const([-1]))
        shape = emit.op("Concat", before, emit.const([table.dim + table.dim % 2]), axis=0)  # never -1: there may be no rows to divide
        codes = emit.op("Reshape", emit.concat([emit.unsqueeze(low, -1), emit.unsqueeze(high, -1)], axis=-1), shape)
        if table.dim % 2:
            codes = _last_axis(emit, codes, 0, table.dim)
    return emit.op("Add", emit.op("Mul", codes, scale), bias)


def _last_axis(emit: Emit, data: ir.Value, first: int, last: int) -> ir.Value:
    return emit.op("Slice", data, emit.const([first]), emit.const([last]), emit.const([-1]))


def _halves(emit: Emit) -> ir.Value:
    """All numbers of FP16 by their bits, as FP32."""
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    return emit.const(numbers, np.float32, name="halves")
