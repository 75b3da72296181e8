"""Buffers of integers on the way from a client's ids to rows, as `category_of[item]`: read inside their bounds, what is outside is unknown.

A buffer moves to the embedding side with the ids. There an id that it doesn't have must not fail the whole batch: it reads entry 0,
and every id that was made of it becomes -1, which no table has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.find.candidates import Candidate, ids_of
from recsplit.graph.flow import SHAPE_ONLY, Flow, int_of, is_portable, upstream

_PASSED_ON = frozenset({"Cast", "Identity"})
#: Takes elements of its first input elsewhere, and makes none.
_MOVES = frozenset("Expand Flatten Gather Reshape Slice Split Squeeze Tile Transpose Unsqueeze".split())
#: Makes each element of the elements at the same place.
_ELEMENTWISE = frozenset(
    "Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Clip Div Equal Floor Greater GreaterOrEqual IsNaN LabelEncoder "
    "Less LessOrEqual Max Min Mod Mul MurmurHash3 Neg Not Or Pow Round Sign Sqrt Sub Xor".split()
)


@dataclass(frozen=True)
class Guarded:
    """The nodes that read buffers, now inside their bounds, and why lookups whose ids can't be followed back to them stay."""

    reads: frozenset[ir.Node]
    refused: Mapping[ir.Node, str]


def guard(model: ir.Model, candidates: Sequence[Candidate]) -> Guarded:
    """Guard every read of a buffer that leads to the ids of a lookup, in place; the nodes come unsorted."""
    flow, emit = Flow(model.graph), Emit(model, "recsplit/buffer")
    nodes = [candidate.node for candidate in candidates if candidate.is_lookup]
    ways = {node: _way(ids_of(node)) for node in nodes}
    reads = {node for way in ways.values() for node in way if _reads_buffer(node, flow)}
    if not reads:
        return Guarded(frozenset(), {})
    masks, failing = _Masks(emit, reads), _Masks(emit, reads, failing=True)
    guarded: set[ir.Node] = set()  # not those whose lookups all stay: what they read outside is to fail as it did
    refused: dict[ir.Node, str] = {}
    for node, way in ways.items():
        if reads.isdisjoint(way):
            continue
        ids = ids_of(node)
        try:
            mask = masks.of(ids)
            never = failing.of(ids) if any(item.op_type == "Where" for item in way) else None
        except _NotFollowedError as error:
            refused[node] = (
                f"its ids come out of a buffer of integers by way of {error}, where it can't be told which of them "
                "are outside the buffer; it stays in the dense model"
            )
            continue
        assert mask is not None and ids.dtype is not None
        guarded |= reads & way
        known = emit.op("Where", mask if never is None else emit.op("Or", mask, never), emit.const(-1, ids.dtype.numpy()), ids, name="ids")
        known.type, known.shape = ids.type, ids.shape
        node.replace_input_with(list(node.inputs).index(ids), known)
    for node in guarded:
        node.replace_input_with(1, masks.inside(node))
    return Guarded(frozenset(guarded), refused)


def _way(ids: ir.Value) -> set[ir.Node]:
    """The nodes whose data reach the ids."""
    return {node for value in upstream(ids, data_only=True) if (node := value.producer()) is not None}


def _reads_buffer(node: ir.Node, flow: Flow) -> bool:
    data, places = (*node.inputs, None, None)[:2]
    tensor = data.const_value if data is not None and data.is_initializer() else None
    if node.op_type != "Gather" or node.domain != "" or tensor is None or places is None or len(tensor.shape) == 0:
        return False
    return not tensor.dtype.is_floating_point() and int_of(node, "axis", 0) in (0, -len(tensor.shape)) and bool(flow.sources(places))


class _NotFollowedError(Exception):
    """An operator that makes an element of several others."""


@dataclass
class _Masks:
    """BOOL values of the shapes of others: which of their elements were made of an id that a buffer doesn't have.

    What a Where doesn't take does not count, as a model may put ids below 0 aside after it read the buffer; with `failing` it does, and
    those ids alone count that the source itself fails on: it reads ids below 0 from the end.
    """

    emit: Emit
    reads: set[ir.Node]
    failing: bool = False
    known: dict[ir.Value, ir.Value | None] = field(default_factory=dict)
    outside: dict[ir.Node, ir.Value] = field(default_factory=dict)

    def of(self, value: ir.Value) -> ir.Value | None:
        """The mask of a value; None where no element can be."""
        if value not in self.known:
            node = value.producer()
            self.known[value] = None if node is None else self._made(node, value)
        return self.known[value]

    def inside(self, read: ir.Node) -> ir.Value:
        """The places that a buffer is read at: 0 for those that it doesn't have."""
        places = read.inputs[1]
        assert places is not None and places.dtype is not None
        inside = self.emit.op("Where", self._outside(read), self.emit.const(0, places.dtype.numpy()), places, name="inside")
        inside.type, inside.shape = places.type, places.shape
        return inside

    def _outside(self, read: ir.Node) -> ir.Value:
        if read not in self.outside:
            data, places = read.inputs[0], read.inputs[1]
            assert data is not None and data.const_value is not None and places is not None and places.dtype is not None
            size, kind = int(data.const_value.shape.numpy()[0]), places.dtype.numpy()
            below = self.emit.op("Less", places, self.emit.const(-size if self.failing else 0, kind))
            self.outside[read] = self.emit.op("Or", below, self.emit.op("GreaterOrEqual", places, self.emit.const(size, kind)))
        return self.outside[read]

    def _made(self, node: ir.Node, value: ir.Value) -> ir.Value | None:
        data = node.inputs[0] if node.inputs else None
        if node in self.reads:
            places, shape = node.inputs[1], node.inputs[0].shape if node.inputs[0] is not None else None
            assert places is not None and shape is not None
            mask = self._either([self.of(places), self._outside(node)])
            behind = len(shape) - 1
            return (
                mask if behind == 0 else self._as(self.emit.op("Unsqueeze", mask, self.emit.const([-1 - n for n in range(behind)])), value)
            )
        masks = [None if item is None else self.of(item) for item in node.inputs]
        if not any(masks) or node.op_type in SHAPE_ONLY:  # a shape tells nothing of the elements
            return None
        if node.op_type in _PASSED_ON:
            return masks[0]
        if node.op_type == "Where":
            return self._chosen(node, masks, value)
        if node.op_type == "Concat":
            # A number is never less than itself: no element of the other parts is outside.
            if value.dtype in (None, ir.DataType.BOOL):
                raise _NotFollowedError(f"{node.op_type} {node.name!r}")
            parts = [self.emit.op("Less", item, item) if mask is None else mask for item, mask in zip(node.inputs, masks, strict=True)]
            return self.emit.op("Concat", *parts, axis=int_of(node, "axis", 0))
        if node.op_type in _ELEMENTWISE and is_portable(node):
            return self._as(self._either(masks), value)
        if node.op_type in _MOVES and data is not None and not any(masks[1:]):
            attributes: dict[str, Any] = dict(node.attributes)
            moved = self.emit.ops(node.op_type, masks[0], *node.inputs[1:], outputs=len(node.outputs), **attributes)
            self.known.update(zip(node.outputs, moved, strict=True))
            return self.known[value]
        raise _NotFollowedError(f"{node.op_type} {node.name!r}")

    def _chosen(self, node: ir.Node, masks: Sequence[ir.Value | None], value: ir.Value) -> ir.Value:
        if self.failing:
            return self._as(self._either(masks), value)
        takes = node.inputs[0], self.emit.op("Not", node.inputs[0])
        chosen = [None if mask is None else self.emit.op("And", take, mask) for take, mask in zip(takes, masks[1:], strict=True)]
        return self._as(self._either([masks[0], *chosen]), value)

    def _either(self, masks: Sequence[ir.Value | None]) -> ir.Value:
        first, *others = [mask for mask in masks if mask is not None]
        for mask in others:
            first = self.emit.op("Or", first, mask)
        return first

    def _as(self, mask: ir.Value, value: ir.Value) -> ir.Value:
        """A mask in the shape of the value, where others in the operation were larger."""
        return self.emit.op("Expand", mask, self.emit.op("Shape", value))
