"""INT64 operators that onnxruntime computes wrongly, written as those that it computes right.

Seen with onnxruntime 1.31.1 on x86-64 (1.19.2, Triton 24.10's, is right): Min, Max, Clip, Relu, Sign and ReduceMax take a number from 2**31
to 2**32 for a negative one, for they compare the lower halves of two numbers with equal upper halves as signed. ReduceSum, ReduceProd and
Pow compute in FP64, which is wrong from 2**53 on; Mod with fmod does so in both versions. Less, Greater, Equal, Where, Add, Sub, Mul, Div,
Mod, Abs and Neg are right (tests/graph/test_int64.py compares each with numpy).

Hashed ids are of that size, so every one of these operators that may see such a number is rewritten, in both models.
"""

from collections.abc import Callable, Sequence

import onnx_ir as ir
from onnx_ir.passes import common

from recsplit.graph.emit import Emit
from recsplit.graph.flow import constant, int_of, ints_of, upstream

#: Numbers below it are computed right by all operators.
_SMALL = 2**31
_HALF = 2**32
#: Factors of a product that are multiplied one by one.
_MOST_FACTORS = 256


def rewrite_int64(model: ir.Model) -> bool:
    """Rewrite them in the main graph, in place, whose nodes are sorted afterwards; whether there were any."""
    emit = Emit(model, "recsplit/int64")
    for node in tuple(model.graph):
        write = _WRITERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if write is None or not _is_int64(node) or _stays_small(node):
            continue
        old = node.outputs[0]
        new = write(emit, node)
        if new is None:
            continue
        new.type, new.shape = old.type, old.shape
        if old.is_graph_output():
            emit.names.hand_over(old, new, node.op_type)
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
    if emit.new_nodes:
        common.TopologicalSortPass()(model)
    return bool(emit.new_nodes)


def _is_int64(node: ir.Node) -> bool:
    """Whether the operator works on INT64: all of these give what they get."""
    value = node.inputs[0]
    tensor = None if value is None else value.const_value
    return ir.DataType.INT64 in (node.outputs[0].dtype, None if value is None else value.dtype, None if tensor is None else tensor.dtype)


def _stays_small(node: ir.Node) -> bool:
    """Whether every number that the operator meets is surely small; products grow, but those of sizes."""
    if node.op_type in ("ReduceProd", "Pow"):
        value = node.inputs[0]
        return value is None or not any(item.is_graph_input() for item in upstream(value, data_only=True))
    return all(_is_small(value) for value in node.inputs if value is not None)


def _is_small(value: ir.Value) -> bool:
    """Whether the value's numbers are surely below 2**31: truth values, sizes of tensors, small constants, remainders of small numbers."""
    small = constant(value)
    if small is not None:
        return small.dtype.kind not in "iu" or all(abs(int(number)) < _SMALL for number in (small.min(initial=0), small.max(initial=0)))
    node = value.producer()
    if node is None:
        return False
    if node.op_type == "Cast":
        source = node.inputs[0]
        narrow = (ir.DataType.BOOL, ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.INT32)
        return source is not None and source.dtype in narrow
    if node.op_type == "Mod":
        return node.inputs[1] is not None and constant(node.inputs[1]) is not None and _is_small(node.inputs[1])
    if node.op_type in ("Shape", "Size", "ArgMax", "ArgMin", "NonZero"):
        return True
    if node.op_type == "Where":
        return all(value is not None and _is_small(value) for value in node.inputs[1:])
    moves = node.op_type in ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Identity", "Expand", "Slice", "Gather", "Split")
    return moves and node.inputs[0] is not None and _is_small(node.inputs[0])


def _chosen(compare: str) -> Callable[[Emit, ir.Node], ir.Value | None]:
    """Min (by Less) or Max (by Greater) of any number of values."""

    def write(emit: Emit, node: ir.Node) -> ir.Value:
        first, *rest = [value for value in node.inputs if value is not None]
        for value in rest:
            first = _either(emit, compare, first, value)
        return first if rest else emit.op("Identity", first)

    return write


def _either(emit: Emit, compare: str, one: ir.Value, other: ir.Value) -> ir.Value:
    return emit.op("Where", emit.op(compare, one, other), one, other)


def _clip(emit: Emit, node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    for position, compare in ((1, "Greater"), (2, "Less")):  # the upper bound wins where the bounds cross, as in ONNX and torch
        bound = node.inputs[position] if len(node.inputs) > position else None
        if bound is not None:
            value = _either(emit, compare, value, bound)
    return value if value is not node.inputs[0] else emit.op("Identity", value)


def _relu(emit: Emit, node: ir.Node) -> ir.Value:
    assert node.inputs[0] is not None
    return _either(emit, "Greater", node.inputs[0], emit.const(0))


def _sign(emit: Emit, node: ir.Node) -> ir.Value:
    positive, negative = (emit.cast(emit.op(compare, node.inputs[0], emit.const(0)), ir.DataType.INT64) for compare in ("Greater", "Less"))
    return emit.op("Sub", positive, negative)


def _reduce(node: ir.Node) -> tuple[list[int] | None, int] | None:
    """(axes, keepdims) of a Reduce; axes None: all. None where the axes are computed, or none at all by noop_with_empty_axes."""
    computed = len(node.inputs) > 1 and node.inputs[1] is not None and constant(node.inputs[1]) is None
    axes = ints_of(node, "axes", 1)
    if computed or (not axes and int_of(node, "noop_with_empty_axes", 0)):
        return None
    return axes or None, int_of(node, "keepdims", 1)


def _reduced(emit: Emit, kind: str, value: ir.Value, axes: Sequence[int] | None, keepdims: int) -> ir.Value:
    if axes is None:
        return emit.op(kind, value, keepdims=keepdims)
    if kind == "ReduceSum" or emit.opset >= 18:
        return emit.op(kind, value, emit.const(list(axes), name="axes"), keepdims=keepdims)
    return emit.op(kind, value, axes=list(axes), keepdims=keepdims)


def _halves(emit: Emit, value: ir.Value) -> tuple[ir.Value, ir.Value]:
    """`value` as upper * 2**32 + lower, 0 <= lower < 2**32."""
    lower = emit.op("Mod", value, emit.const(_HALF))
    return emit.op("Div", emit.op("Sub", value, lower), emit.const(_HALF)), lower


def _reduce_sum(emit: Emit, node: ir.Node) -> ir.Value | None:
    """The sums of the halves, which stay below 2**53 for 2**21 numbers; their product and sum wrap around as INT64 does."""
    how, value = _reduce(node), node.inputs[0]
    if how is None or value is None:
        return None
    upper, lower = (_reduced(emit, "ReduceSum", half, *how) for half in _halves(emit, value))
    return emit.op("Add", emit.op("Mul", upper, emit.const(_HALF)), lower)


def _reduce_extreme(kind: str) -> Callable[[Emit, ir.Node], ir.Value | None]:
    """The extreme of the upper halves, then that of the lower halves beside it, which are moved to where they compare right."""

    def write(emit: Emit, node: ir.Node) -> ir.Value | None:
        how, value = _reduce(node), node.inputs[0]
        if how is None or value is None:
            return None
        axes, keepdims = how
        upper, lower = _halves(emit, value)
        centred = emit.op("Sub", lower, emit.const(_SMALL))
        best = _reduced(emit, kind, upper, axes, 1)
        worst = emit.const(-_SMALL if kind == "ReduceMax" else _SMALL - 1)
        beside = emit.op("Where", emit.op("Equal", upper, best), centred, worst)
        below = _reduced(emit, kind, beside, axes, keepdims)
        above = best if keepdims else _reduced(emit, kind, upper, axes, 0)
        return emit.op("Add", emit.op("Mul", above, emit.const(_HALF)), emit.op("Add", below, emit.const(_SMALL)))

    return write


def _reduce_prod(emit: Emit, node: ir.Node) -> ir.Value | None:
    """A chain of products, which wrap around as INT64 does; None where a size isn't known."""
    how, value = _reduce(node), node.inputs[0]
    if how is None or value is None or value.shape is None:
        return None
    shape = list(value.shape)
    axes = sorted(axis % len(shape) for axis in (how[0] if how[0] is not None else range(len(shape))))
    sizes = [size for axis in axes if isinstance(size := shape[axis], int) and 0 < size <= _MOST_FACTORS]
    if len(sizes) < len(axes):
        return None
    for axis, size in zip(axes, sizes, strict=True):
        first, *others = emit.split(value, [1] * size, axis)
        for other in others:
            first = emit.op("Mul", first, other)
        value = first
    return value if how[1] else emit.op("Squeeze", value, emit.const(axes))


def _pow(emit: Emit, node: ir.Node) -> ir.Value | None:
    """Squares and products, for whole constant exponents."""
    value, exponent = node.inputs[0], constant(node.inputs[1])
    if value is None or exponent is None or exponent.size != 1:
        return None
    number = float(exponent.reshape(-1)[0])
    if number != int(number) or not 1 <= number <= _MOST_FACTORS:
        return None
    result, square, left = None, value, int(number)
    while left:
        if left % 2:
            result = square if result is None else emit.op("Mul", result, square)
        left //= 2
        square = emit.op("Mul", square, square) if left else square
    return emit.op("Identity", value) if result is value else result


def _mod(emit: Emit, node: ir.Node) -> ir.Value | None:
    """With fmod the remainder has the sign of the number: what is left of a division that cuts off."""
    if not int_of(node, "fmod", 0):
        return None
    number, divisor = node.inputs
    return emit.op("Sub", number, emit.op("Mul", emit.op("Div", number, divisor), divisor))


_WRITERS: dict[str, Callable[[Emit, ir.Node], ir.Value | None]] = {
    "Min": _chosen("Less"),
    "Max": _chosen("Greater"),
    "Clip": _clip,
    "Relu": _relu,
    "Sign": _sign,
    "ReduceSum": _reduce_sum,
    "ReduceMax": _reduce_extreme("ReduceMax"),
    "ReduceMin": _reduce_extreme("ReduceMin"),
    "ReduceProd": _reduce_prod,
    "Pow": _pow,
    "Mod": _mod,
}
