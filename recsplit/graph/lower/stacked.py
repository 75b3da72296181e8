"""Vectors that cross the boundary side by side, and that the dense model puts side by side again, stay together.

Packing splits [batch, n, dim] into what the model's own operators read; a model that stacks its vectors for their dot products, or
concatenates them for a layer, takes n splits, squeezes and unsqueezes to arrive where it began. A run of such pieces in a Concat
becomes the packed tensor, or a slice of it. Only data movement is left out, so answers stay the same bit for bit.
"""

from dataclasses import dataclass

import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.flow import constant, int_of, ints_of

#: Shorter runs are cheap as they are.
_LEAST = 2


@dataclass(frozen=True)
class _Piece:
    """Output `index` of a Split along axis 1 that is [batch, 1, dim]; `flat` where the Concat sees it as [batch, dim]."""

    split: ir.Node
    index: int
    flat: bool


def restack(emit: Emit) -> None:
    """Replace runs of pieces in every Concat along axis 1. The caller sorts the graph and drops what nothing reads any more."""
    for node in tuple(emit.graph):
        if node.op_type == "Concat" and int_of(node, "axis", 0) in (1, -1, -2):
            _shorten(emit, node)


def _shorten(emit: Emit, node: ir.Node) -> None:
    inputs = [value for value in node.inputs if value is not None]
    pieces = [_piece(emit, value, int_of(node, "axis", 0)) for value in inputs]
    new_inputs: list[ir.Value] = []
    start = 0
    while start < len(inputs):
        stop = start + 1
        while stop < len(inputs) and _follows(pieces[stop - 1], pieces[stop]):
            stop += 1
        first = pieces[start]
        new_inputs += inputs[start:stop] if first is None or stop - start < _LEAST else [_run(emit, first, stop - start)]
        start = stop
    if len(new_inputs) == len(inputs):
        return
    joined = emit.op("Identity", new_inputs[0]) if len(new_inputs) == 1 else emit.op("Concat", *new_inputs, axis=1)
    old = node.outputs[0]
    joined.type, joined.shape = old.type, old.shape
    emit.names.hand_over(old, joined, "pieces")
    ir.convenience.replace_all_uses_with(old, joined, replace_graph_outputs=True)


def _piece(emit: Emit, value: ir.Value, axis: int) -> _Piece | None:
    """What an input of a Concat along `axis` is a piece of, if it is one."""
    producer = value.producer()
    if producer is not None and producer.op_type == "Unsqueeze" and axis in (1, -2):
        inner = _squeezed(emit, producer.inputs[0])
        return None if inner is None or ints_of(producer, "axes", 1) not in ([1], [-2]) else _Piece(*inner, flat=False)
    inner = _squeezed(emit, value)
    return None if inner is None or axis not in (1, -1) else _Piece(*inner, flat=True)


def _squeezed(emit: Emit, value: ir.Value | None) -> tuple[ir.Node, int] | None:
    """The Split, and which of its outputs, that `value` [batch, dim] is; only ours, of which the rank is known."""
    squeeze = None if value is None else value.producer()
    if squeeze is None or squeeze.op_type != "Squeeze" or ints_of(squeeze, "axes", 1) != [1]:
        return None
    source = squeeze.inputs[0]
    split = None if source is None else source.producer()
    if source is None or split is None or split not in emit.new_nodes or split.op_type != "Split" or int_of(split, "axis", 0) != 1:
        return None
    return split, source.index() or 0


def _follows(one: _Piece | None, other: _Piece | None) -> bool:
    return one is not None and other is not None and (other.split, other.index, other.flat) == (one.split, one.index + 1, one.flat)


def _run(emit: Emit, first: _Piece, count: int) -> ir.Value:
    """`count` pieces from `first` on as one value: [batch, count, dim], or [batch, count * dim] where the Concat wants it flat."""
    packed, sizes = first.split.inputs[0], constant(first.split.inputs[1])
    assert packed is not None and sizes is not None
    begin = int(sizes[: first.index].sum())
    if count < len(sizes):
        packed = emit.op("Slice", packed, emit.const([begin]), emit.const([begin + count]), emit.const([1]))
    return emit.op("Flatten", packed, axis=1) if first.flat else packed
