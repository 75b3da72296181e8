"""Fused tables of any size that exist by name only."""

import onnx_ir as ir

from recsplit.graph.lower.fused_tables import FusedTable


def fused(rows: int, dim: int = 8) -> FusedTable:
    """One table `t` of that many rows."""
    data = ir.ExternalTensor("nowhere.bin", 0, rows * dim * 4, ir.DataType.FLOAT, shape=ir.Shape([rows, dim]), name="t")
    graph = ir.Graph([], [], nodes=[])
    table = ir.val("t", dtype=ir.DataType.FLOAT, shape=[rows, dim], const_value=data)
    graph.register_initializer(table)
    return FusedTable(ir.val("tables"), dim, (table,), {table: 0}, rows, (0,) * dim, "FP32")
