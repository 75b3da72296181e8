"""Packing: what crosses the boundary travels as few tensors, and the dense side takes them apart again."""

from collections.abc import Sequence

import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.lower.collected import Crossing, Lowering


def pack(lowering: Lowering) -> list[ir.Value]:
    """Few tensors cross: vectors of one dtype and dim as one [batch, n, dim]; the dense side takes them apart again."""
    emit = lowering.emit
    embedding_nodes = emit.new_nodes - lowering.dense_nodes  # nodes on the embedding side, which keep reading what they read
    groups: dict[tuple[ir.DataType, int], list[Crossing]] = {}
    for part in lowering.crossings:
        dtype = part.outs[0][0].dtype or part.value.dtype or ir.DataType.FLOAT
        groups.setdefault((dtype, part.dim), []).append(part)
    boundary: list[ir.Value] = []
    for (dtype, dim), parts in groups.items():
        uses = {
            out: [(use.node, use.idx) for use in out.uses() if use.node not in embedding_nodes] for part in parts for out, _, _ in part.outs
        }
        packed = emit.concat([part.value for part in parts], axis=1)
        name = f"embeddings_{dim}" if dtype == ir.DataType.FLOAT else f"embeddings_{dtype.name.lower()}_{dim}"
        packed.name, packed.dtype = emit.names.fresh(name), dtype
        outs = [item for part in parts for item in part.outs]
        pieces = emit.split(packed, [count for _, count, _ in outs], axis=1)
        for (out, count, dims), piece in zip(outs, pieces, strict=True):
            restored = _restore(emit, piece, count, dims, dim)
            if restored is packed and out.is_graph_output():
                restored = emit.op("Identity", packed)  # crosses under its own name, leaves under the output's
            _redirect(lowering, out, restored, uses[out])
        boundary.append(packed)
        lowering.packed[packed] = tuple(parts)
    for number, value in enumerate(lowering.alone):
        if value.is_graph_output():
            value = _split_output(emit, value)
        value.name = emit.names.fresh(f"vectors_{number}")
        boundary.append(value)
    return boundary


def _restore(emit: Emit, piece: ir.Value, count: int, dims: tuple[int, ...], dim: int) -> ir.Value:
    """A piece [batch, count, dim] in the shape the dense model expects: `dims` behind whatever comes first."""
    if dims == (dim,) and count == 1:
        return emit.op("Squeeze", piece, emit.const([1]))
    if dims == (count, dim):
        return piece
    return emit.reshape(piece, [-1, *dims])


def _redirect(lowering: Lowering, out: ir.Value, restored: ir.Value, uses: Sequence[tuple[ir.Node, int]]) -> None:
    """Let the dense side read `restored` where it read `out`."""
    restored_dtype = restored.dtype or out.dtype
    if out.is_graph_output():
        graph = lowering.emit.graph
        lowering.emit.names.hand_over(out, restored, "lookup")
        restored.shape = out.shape
        for index, value in enumerate(tuple(graph.outputs)):
            if value is out:
                graph.outputs[index] = restored
    if restored_dtype is not None:
        restored.dtype = restored_dtype
    for node, index in uses:
        node.replace_input_with(index, restored)


def _split_output(emit: Emit, value: ir.Value) -> ir.Value:
    """A boundary value that is also a model output: give the output its own value, so that both can have a name."""
    copy = emit.op("Identity", value)
    copy.type, copy.shape = value.type, value.shape
    for index, output in enumerate(tuple(emit.graph.outputs)):
        if output is value:
            emit.graph.outputs[index] = copy
    emit.names.hand_over(value, copy, "lookup")
    return value
