"""Sizes, positions and small constants, read off the values of a graph."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from recsplit.graph.flow import constant, int_of, ints_of
from recsplit.graph.loops.numbers import ONE, ZERO, Number

_INTEGERS = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.INT16, ir.DataType.INT8, ir.DataType.UINT8})
#: Operators whose output has the dtype of their first input.
_SAME_DTYPE = frozenset(
    "Add Concat Flatten Gather Identity Mul Neg Range Reshape ScatterElements Slice Split Squeeze Sub Unsqueeze".split()
)
#: Operators that keep the elements and their order.
_SAME_ELEMENTS = frozenset("Flatten Identity Reshape Squeeze Unsqueeze".split())


def is_along_front(node: ir.Node) -> bool:
    """Whether a Slice cuts along axis 0 only, without leaving out any."""
    return all(
        ints_of(node, name, position) == only or (name not in node.attributes and (*node.inputs, None, None)[position] is None)
        for name, position, only in (("axes", 3, [0]), ("steps", 4, [1]))
    )


def dtype(value: ir.Value | None) -> ir.DataType | None:
    """The dtype of a value, where it is told or follows from how the value is made."""
    if value is None or value.dtype is not None:
        return None if value is None else value.dtype
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return tensor.dtype
    node = value.producer()
    if node is None or not node.inputs:
        return None
    if node.op_type in ("Shape", "Size"):
        return ir.DataType.INT64
    if node.op_type == "Cast":
        return ir.DataType(int_of(node, "to", 0))
    if node.op_type == "CastLike":
        return dtype(node.inputs[1])
    return dtype(node.inputs[0]) if node.op_type in _SAME_DTYPE else None


class Numbers:
    """Reads numbers off values. `known` gives values a meaning from outside, such as the counters of loops."""

    def __init__(self, known: Mapping[ir.Value, Number]) -> None:
        self.known = known
        self._elements: dict[tuple[ir.Value, Number], Number] = {}

    def scalar(self, value: ir.Value | None) -> Number:
        """The number in a tensor of one element."""
        return self.element(value, ZERO)

    def element(self, value: ir.Value | None, position: Number) -> Number:
        """The number at a position of a tensor of integers, row-major where it has several dimensions."""
        if value is None:
            return Number.unknown("absent", position)
        if value in self.known:
            return self.known[value]
        key = (value, position)
        if key not in self._elements:
            number = self._element(value, position)
            self._elements[key] = Number.unknown("at", value, position) if number is None else number
        return self._elements[key]

    def _element(self, value: ir.Value, position: Number) -> Number | None:
        at = position.constant
        array = constant(value)
        if array is not None:
            at = 0 if array.size == 1 else at
            item = array.reshape(-1)[at].item() if at is not None and -array.size <= at < array.size else None
            return Number.of(int(item)) if item is not None and not isinstance(item, bool) and item == int(item) else None
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx") or not node.inputs:
            return None
        op, source = node.op_type, node.inputs[0]
        if op in _SAME_ELEMENTS:
            # Only a vector may stand for the same vector: offsets are given to the new node as they are found.
            return self.element(source, position) if op == "Identity" or at is not None or self.rank(source) == 1 else None
        if op in ("Cast", "CastLike"):
            return self.element(source, position) if source is not None and self._is_whole(source) else None
        if op in ("Add", "Sub", "Mul"):
            left, right = (self.element(item, ZERO if self.is_single(item) else position) for item in node.inputs)
            return left + right if op == "Add" else left - right if op == "Sub" else left * right
        if op == "Gather" and int_of(node, "axis", 0) == 0 and self.rank(source) == 1:
            return self.element(source, self.element(node.inputs[1], position))
        if op == "Slice" and self.rank(source) == 1:
            first = self._first(node)
            beyond = None if first is None else (first + position - self.scalar(node.inputs[2])).constant
            return None if first is None or (beyond is not None and beyond >= 0) else self.element(source, first + position)
        if op == "Shape" and at is not None:
            start = int_of(node, "start", 0)
            return self.length(source, at + start) if start >= 0 and (at >= 0 or _is_whole_shape(value)) else None
        if op == "Size" or (op == "ReduceProd" and _is_whole_shape(source)):
            shaped = source if op == "Size" else _shaped(source)
            return self.count(shaped)
        if op == "Range":
            return self.scalar(source) + position * self.scalar(node.inputs[2])
        if op == "Concat" and at is not None:
            return self._in_concat(node, at)
        if op == "Expand" and self.is_single(source):
            return self.scalar(source)
        return None

    def length(self, value: ir.Value | None, axis: int) -> Number:
        """The size of a dimension."""
        rank = self.rank(value)
        axis = axis + rank if axis < 0 and rank is not None else axis
        derived_length = None if value is None else self._made_length(value, axis, rank)
        if derived_length is not None:
            return derived_length
        shape = None if value is None else value.shape
        if shape is not None and 0 <= axis < len(shape):
            dim = shape[axis]
            if isinstance(dim, int):
                return Number.of(dim)
            if dim.value is not None:
                return Number.unknown("name", dim.value)
        return Number.unknown("length", value, axis)

    def _made_length(self, value: ir.Value, axis: int, rank: int | None) -> Number | None:
        """The size of a dimension as it follows from how the value is made; surer than an exporter's annotation."""
        node = value.producer()
        if node is None or not node.inputs or ir.convenience.get_const_tensor(value) is not None:
            return None
        op, source = node.op_type, node.inputs[0]
        if op in ("Identity", "Cast", "CastLike", "ScatterElements", "CumSum"):
            return self.length(source, axis)
        if op == "Reshape" and rank is not None and rank > 1:
            return self._reshaped_length(node, axis, rank)
        if rank != 1:
            return None
        if op in ("Add", "Sub", "Mul", "Mod"):
            several = [item for item in node.inputs if not self.is_single(item)]
            return self.length(several[0], 0) if len(several) == 1 else None
        if op == "Shape" and "end" not in node.attributes and int_of(node, "start", 0) == 0:
            whole = self.rank(source)
            return None if whole is None else Number.of(whole)
        if op == "Reshape":
            return self.count(source)
        if op == "Slice":
            first, last = self._first(node), constant(node.inputs[2])
            to_the_end = last is not None and int(last.reshape(-1)[0].item()) >= (1 << 31) - 1
            return self.length(source, 0) - first if first is not None and to_the_end else None
        if op == "Concat":
            total = ZERO
            for item in node.inputs:
                total += self.length(item, 0)
            return total
        if op == "Range":
            way, step = self.scalar(node.inputs[1]) - self.scalar(source), self.scalar(node.inputs[2])
            if way.constant is not None and step.constant:
                return Number.of(max(-(-way.constant // step.constant), 0))
            return way.over(step) or Number.unknown("length", value, axis)
        return None

    def _reshaped_length(self, node: ir.Node, axis: int, rank: int) -> Number | None:
        """The size of a dimension after a Reshape: as written, or what is left over for -1."""
        written = [self.element(node.inputs[1], Number.of(place)) for place in range(rank)]
        if any(size.constant == 0 or size.element() is not None for size in written):
            return None
        if written[axis].constant != -1:
            return written[axis]
        others = -written[axis]
        for size in written[:axis] + written[axis + 1 :]:
            others *= size
        return self.count(node.inputs[0]).over(others)

    def count(self, value: ir.Value | None) -> Number:
        """The number of elements."""
        node = None if value is None else value.producer()
        if node is not None and node.op_type in _SAME_ELEMENTS | {"Cast"}:
            return self.count(node.inputs[0])
        rank = self.rank(value)
        if rank is None:
            return Number.unknown("count", value)
        total = ONE
        for axis in range(rank):
            total *= self.length(value, axis)
        return total

    def rank(self, value: ir.Value | None) -> int | None:
        """The number of dimensions, where it is told or follows from how the value is made."""
        if value is None or value.shape is not None:
            return None if value is None or value.shape is None else len(value.shape)
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None:
            return len(tensor.shape)
        node = value.producer()
        if node is None or not node.inputs:
            return None
        if node.op_type in ("Shape", "Range"):
            return 1
        if node.op_type in ("Identity", "Cast", "CastLike", "CumSum", "ScatterElements", "Slice", "Split"):
            return self.rank(node.inputs[0])
        if node.op_type == "Reshape":
            return self.length(node.inputs[1], 0).constant
        if node.op_type == "Concat":
            return next((rank for item in node.inputs if (rank := self.rank(item)) is not None), None)
        return None

    def is_single(self, value: ir.Value | None) -> bool:
        """Whether the tensor is known to have one element."""
        return value in self.known or self.count(value) == ONE

    def _is_whole(self, value: ir.Value) -> bool:
        """Whether a tensor surely holds whole numbers: the new exporter counts int32 offsets in floats."""
        if value in self.known or dtype(value) in _INTEGERS:
            return True
        array, node = constant(value), value.producer()
        if array is not None:
            return bool(np.issubdtype(array.dtype, np.floating) and np.all(array == np.floor(array)))
        if node is None or node.op_type not in ("Cast", "CastLike", "Identity", "Range"):
            return False
        inputs = node.inputs if node.op_type == "Range" else node.inputs[:1]
        return all(item is not None and self._is_whole(item) for item in inputs)

    def _first(self, node: ir.Node) -> Number | None:
        """The position at which a Slice along axis 0 begins; None if counted from the end."""
        first = self.scalar(node.inputs[1])
        return None if not is_along_front(node) or (first.constant is not None and first.constant < 0) else first

    def _in_concat(self, node: ir.Node, at: int) -> Number | None:
        """The element at a known position of joined vectors."""
        for item in node.inputs:
            length = self.length(item, 0).constant if self.rank(item) == 1 else None
            if length is None:
                return None
            if 0 <= at < length:
                return self.element(item, Number.of(at))
            at -= length
        return None


def _is_whole_shape(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    return node is not None and node.op_type == "Shape" and int_of(node, "start", 0) == 0 and "end" not in node.attributes


def _shaped(value: ir.Value | None) -> ir.Value | None:
    """The tensor whose shape `value` is."""
    node = None if value is None else value.producer()
    return None if node is None else node.inputs[0]
