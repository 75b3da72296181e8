"""What one turn of a Loop makes of a bag: its rows, pooled by sum, mean or max."""

import dataclasses
from dataclasses import dataclass

import onnx_ir as ir

from recsplit.graph.flow import int_of, ints_of
from recsplit.graph.loops.numbers import ZERO
from recsplit.graph.loops.reads import Reader, Rows, Span, cast, check_end, is_filled, is_float_cast
from recsplit.graph.loops.turns import NotABag, branches, equal, less, made_by, plain, source, truth

_MODES = {"ReduceSum": "sum", "ReduceMean": "mean", "ReduceMax": "max"}


@dataclass(frozen=True)
class Pooled:
    """One bag, pooled. `flat`: of shape [dim] rather than [1, dim]."""

    mode: str
    rows: Rows
    span: Span
    flat: bool


def read_pooled(value: ir.Value, reader: Reader) -> Pooled:
    """Read one pooled bag inside of a Loop's body. Raises NotABag."""
    node = plain(value).producer()
    if node is None:
        raise NotABag("it collects a value that isn't made in its body")
    if is_float_cast(node):
        pooled = read_pooled(source(node), reader)
        return dataclasses.replace(pooled, rows=cast(pooled.rows, node))
    if node.op_type in ("Squeeze", "Unsqueeze") and ints_of(node, "axes", 1) == [0]:
        return dataclasses.replace(read_pooled(source(node), reader), flat=node.op_type == "Squeeze")
    if node.op_type == "If":
        return _choice(node, plain(value), reader)
    if node.op_type == "Div":
        return _divided(node, reader)
    if node.op_type not in _MODES:
        raise NotABag(f"what it collects is made by {node.op_type}, not pooled by sum, mean or max")
    if ints_of(node, "axes", 1) != [0]:
        raise NotABag(f"its {node.op_type} isn't along the ids of a bag")
    rows = reader.rows(source(node))
    if rows.span is None:
        raise NotABag("each turn pools the same rows")
    return Pooled(_MODES[node.op_type], rows, rows.span, flat=not int_of(node, "keepdims", 1))


def _choice(node: ir.Node, value: ir.Value, reader: Reader) -> Pooled:
    """An If around what is pooled: it treats an empty bag, or the last one, apart."""
    condition, yes, no = branches(node, value)
    if truth(condition) is not None:
        return read_pooled(yes if truth(condition) else no, reader)
    if is_filled(yes, 0) or is_filled(no, 0):
        return _unless_empty(condition, yes, no, reader)
    one, other = read_pooled(yes, reader), read_pooled(no, reader)
    if reader.is_last(condition):
        if one.mode != other.mode or one.flat != other.flat or not one.rows.open_ended or not _same_bag(one, other):
            raise NotABag("its last turn pools differently from the rest")
        return other
    order = less(condition, reader.numbers)
    positive = order is not None and order[0] == ZERO and order[1] == one.span.end - one.span.start
    if positive and (one.mode, other.mode) == ("mean", "sum") and _same_bag(one, other):
        return one  # the sum of a bag that isn't longer than nothing is as good as its mean
    raise NotABag("it treats some bags differently, and on what that depends isn't understood")


def _unless_empty(condition: ir.Value, yes: ir.Value, no: ir.Value, reader: Reader) -> Pooled:
    """Zeros where a bag is empty."""
    pooled = read_pooled(no if is_filled(yes, 0) else yes, reader)
    size = pooled.span.end - pooled.span.start if pooled.rows.kept is None else reader.numbers.count(pooled.rows.kept)
    if is_filled(yes, 0):
        says_so = equal(condition, reader.numbers) in (size, -size)
    else:
        order = less(condition, reader.numbers)
        says_so = order is not None and order[1] - order[0] == size
    if not says_so:
        raise NotABag("it makes zeros of bags that aren't empty")
    return pooled


def _divided(node: ir.Node, reader: Reader) -> Pooled:
    """A sum divided by the size of its bag."""
    divisor = node.inputs[1]
    while (conversion := made_by(divisor, "Cast", "CastLike")) is not None:
        divisor = source(conversion)
    total, size = read_pooled(source(node), reader), reader.numbers.scalar(divisor)
    end, count = total.span.start + size, reader.numbers.count(total.rows.ids)
    if total.mode == "sum" and end == total.span.end:
        return dataclasses.replace(total, mode="mean")
    if total.mode == "sum" and end == count:
        rows = dataclasses.replace(total.rows, open_ended=True)
        return Pooled("mean", rows, Span(total.span.start, end), total.flat)
    check_end(end, count)
    raise NotABag("it divides by something else than the size of the bag")


def _same_bag(one: Pooled, other: Pooled) -> bool:
    """Whether both read the same rows, not counting where the last bag ends."""
    alike = [dataclasses.replace(item.rows, span=None, open_ended=False) for item in (one, other)]
    return alike[0] == alike[1] and one.span.start == other.span.start
