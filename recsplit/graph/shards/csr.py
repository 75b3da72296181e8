"""The CSR form of a shard: rows and offsets in, pooled vectors out, for a shard on a server of its own.

A bag travels as torch.nn.EmbeddingBag takes it, so that of a query only the rows that lie in the shard are sent (ElasticRec,
section "bucketization", Fig. 11). Standard operators only: the bags are padded to the longest one, which is exact and has no
race, as adding into shared rows would.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.plan.plan import Reading

_OPSET, _IR_VERSION = 18, 8  # every Triton that recsplit builds for reads them


@dataclass(frozen=True)
class CsrTable:
    """What one reading reads in this shard: `tensor` [rows, dim], its row of zeros, and the row of the lowest number (max pooling)."""

    tensor: ir.TensorProtocol
    zero_row: int
    lowest_row: int | None


def bags_model(readings: Sequence[tuple[int, Reading, CsrTable]], *, opset: int = _OPSET, ir_version: int = _IR_VERSION) -> ir.Model:
    """The model of these readings, each with its number i in the plan and what it reads here.

    Inputs: `rows_<i>` INT32 [n], rows of the table; `offsets_<i>` INT32 [bags + 1], rising from 0: bag b pools rows
    offsets[b] .. offsets[b + 1]. A bag is one vector of one row of the batch, row after row. Output: `pooled_<i>`
    [bags, dim] of the table's dtype: the sum of a bag pooled by sum or mean (whoever knows the bag's whole width divides by
    it), its maximum for max, its only row for none; zeros, or the lowest number for max, of an empty one.

    Tables of one name are one initializer; an external tensor stays where it is. Raises ValueError for a max pooling without a
    lowest row.
    """
    graph = ir.Graph([], [], nodes=[], opset_imports={"": opset}, name="bags")
    model = ir.Model(graph, ir_version=ir_version)
    emit = Emit(model, prefix="bags")
    tables: dict[str, ir.Value] = {}
    for number, reading, table in readings:
        name = table.tensor.name or ""
        if name not in tables:
            tables[name] = ir.val(name, dtype=table.tensor.dtype, shape=table.tensor.shape.numpy(), const_value=table.tensor)
            graph.register_initializer(tables[name])
        rows = ir.val(f"rows_{number}", dtype=ir.DataType.INT32, shape=[f"rows_{number}"])
        offsets = ir.val(f"offsets_{number}", dtype=ir.DataType.INT32, shape=[f"ends_{number}"])
        graph.inputs.extend((rows, offsets))
        pooled = _pool(emit, reading, table, tables[name], rows, offsets)
        pooled.name = f"pooled_{number}"
        pooled.dtype = table.tensor.dtype
        pooled.shape = ir.Shape([f"bags_{number}", int(table.tensor.shape.numpy()[1])])
        graph.outputs.append(pooled)
    return model


def _pool(emit: Emit, reading: Reading, table: CsrTable, value: ir.Value, rows: ir.Value, offsets: ir.Value) -> ir.Value:
    """[bags, dim] of the table's dtype."""
    kinds = ["max" if pooling == "max" else "sum" for pooling in reading.poolings]
    if "max" in kinds and table.lowest_row is None:
        raise ValueError(f"reading of {reading.output!r} pools by max, and its table has no row of the lowest number")
    zero, one = emit.const(0, np.int32), emit.const(1, np.int32)
    starts = emit.op("Slice", offsets, emit.const([0]), emit.const([-1]))
    ends = emit.op("Slice", offsets, emit.const([1]), emit.const([np.iinfo(np.int64).max]))
    # At least one slot, so that the reductions below never meet an empty axis.
    longest = emit.op("Max", emit.op("ReduceMax", emit.op("Sub", ends, starts), keepdims=0), one)
    slots = emit.op("Range", zero, longest, one)
    positions = emit.op("Add", emit.unsqueeze(starts, 1), emit.unsqueeze(slots, 0))
    inside = emit.op("Less", positions, emit.unsqueeze(ends, 1))

    def gathered(pad_row: int) -> ir.Value:
        """[bags, longest, dim], slots beyond a bag's end filled with row `pad_row`."""
        padded = emit.concat([rows, emit.const([pad_row], np.int32)], axis=0)
        count = emit.op("Shape", rows)
        safe = emit.op("Where", inside, positions, emit.cast(count, ir.DataType.INT32))
        return emit.op("Gather", value, emit.op("Gather", padded, safe))

    if set(kinds) == {"sum"}:
        return emit.reduce("ReduceSum", gathered(table.zero_row), 1)
    assert table.lowest_row is not None
    best = emit.reduce("ReduceMax", gathered(table.lowest_row), 1)
    if set(kinds) == {"max"}:
        return best
    dim = int(table.tensor.shape.numpy()[1])
    by_row = [-1, len(kinds), dim]
    total = emit.reduce("ReduceSum", gathered(table.zero_row), 1)
    chosen = emit.const(np.array([kind == "max" for kind in kinds])[None, :, None], np.bool_)
    return emit.reshape(emit.op("Where", chosen, emit.reshape(best, by_row), emit.reshape(total, by_row)), [-1, dim])
