"""How a Loop turns: how often, what it counts, what it carries from turn to turn, what it collects."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from recsplit.graph.flow import constant
from recsplit.graph.loops.numbers import ONE, Number
from recsplit.graph.loops.values import Numbers


class NotABag(Exception):
    """Why a Loop isn't rewritten, in words that follow its name."""


class Baked(NotABag):
    """The Loop is a bag with a size of the exporter's example written into it."""


@dataclass(frozen=True)
class Carried:
    """A value that the Loop carries: before it, inside of a turn, at the end of a turn, after it."""

    first: ir.Value | None
    inside: ir.Value
    following: ir.Value
    last: ir.Value


@dataclass(frozen=True)
class Collected:
    """A value of which the Loop collects one slice a turn: inside of a turn, and stacked after it."""

    inside: ir.Value
    stacked: ir.Value


@dataclass(frozen=True)
class Turns:
    """What a Loop does. `index` counts the turns from 0 to `times` - 1; `numbers` reads numbers inside of the body.

    `carried` leaves out the counters, values that grow by one a turn; those are known to `numbers`.
    """

    index: Number
    times: Number
    numbers: Numbers
    counters: tuple[Carried, ...]
    carried: tuple[Carried, ...]
    collected: tuple[Collected, ...]


def read_turns(loop: ir.Node, outside: Mapping[ir.Value, Number]) -> Turns:
    """Read a Loop node; `outside` is what is known of the values around it. Raises NotABag."""
    body = loop.attributes["body"].as_graph()
    many = max(len(loop.inputs) - 2, 0)
    turn, _, *parameters = body.inputs
    again, *following = body.outputs
    index = Number.unknown("turn", turn)
    known = {**outside, turn: index}
    carried = [Carried(*item) for item in zip(loop.inputs[2:], parameters, following[:many], loop.outputs[:many], strict=True)]
    collected = [Collected(*item) for item in zip(following[many:], loop.outputs[many:], strict=True)]
    trial = Numbers({**known, **{item.inside: Number.unknown("carried", item.inside) for item in carried}})
    counters = [item for item in carried if trial.scalar(item.following) - trial.scalar(item.inside) == ONE]
    around = Numbers(outside)
    known.update({item.inside: around.scalar(item.first) + index for item in counters})
    numbers = Numbers(known)
    others = tuple(item for item in carried if item not in counters)
    if plain(again) is body.inputs[1] and len(loop.inputs) > 1 and loop.inputs[1] is not None:
        again = loop.inputs[1]  # handed on as it came
    return Turns(index, _times(loop, again, index, around, numbers), numbers, tuple(counters), others, tuple(collected))


def _times(loop: ir.Node, again: ir.Value, index: Number, around: Numbers, numbers: Numbers) -> Number:
    """How often the Loop turns: by its limit, or as long as a counter is less than a number."""
    limit, condition = (*loop.inputs, None, None)[:2]
    bound = None if limit is None else around.scalar(limit)
    if bound is not None and bound.constant is not None and bound.constant >= (1 << 31) - 1:
        bound = None
    if truth(again) is True:
        if bound is None or (condition is not None and truth(condition) is not True):
            raise NotABag("it isn't told how often it turns")
        return bound
    order = less(again, numbers)
    if order is None or bound is not None:
        raise NotABag("it turns as long as a condition holds that isn't a comparison of a counter")
    times = order[1] - order[0] + index + 1
    start = None if condition is None else less(condition, around)
    begins = condition is None or truth(condition) is True or (start is not None and start[1] - start[0] == times)
    if times.mentions(index) or not begins:
        raise NotABag("it turns as long as a condition holds that isn't a comparison of a counter with a fixed number")
    return times


def source(node: ir.Node) -> ir.Value:
    """The first input, which the operator can't do without."""
    first = node.inputs[0]
    assert first is not None
    return first


def plain(value: ir.Value) -> ir.Value:
    """The value behind Identity."""
    while (node := value.producer()) is not None and node.op_type == "Identity":
        value = source(node)
    return value


def branches(node: ir.Node, value: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """(condition, value if true, value if false) of an If's output; a Not is taken into the order."""
    which = next(number for number, output in enumerate(node.outputs) if output is value)
    yes = node.attributes["then_branch"].as_graph().outputs[which]
    no = node.attributes["else_branch"].as_graph().outputs[which]
    condition = source(node)
    while (negation := made_by(condition, "Not")) is not None:
        condition, yes, no = source(negation), no, yes
    return condition, yes, no


def made_by(value: ir.Value | None, *kinds: str) -> ir.Node | None:
    """The node behind a value where it is a standard operator of one of the kinds, Identity looked through."""
    node = None if value is None else plain(value).producer()
    standard = node is not None and node.domain in ("", "ai.onnx") and bool(node.inputs)
    return node if node is not None and standard and node.op_type in kinds else None


def truth(value: ir.Value | None) -> bool | None:
    """A condition that is constant, through the Casts that exporters put around it."""
    array = None if value is None else constant(plain(value))
    if array is not None and array.size == 1:
        return bool(array.reshape(-1)[0])
    node = made_by(value, "Cast", "Not")
    operand_truth = None if node is None else truth(node.inputs[0])
    return operand_truth if node is None or operand_truth is None or node.op_type == "Cast" else not operand_truth


def less(value: ir.Value | None, numbers: Numbers) -> tuple[Number, Number] | None:
    """(a, b) where the condition says a < b."""
    node = made_by(value, "Less", "Greater")
    if node is None:
        return None
    left, right = (numbers.scalar(item) for item in node.inputs)
    return (left, right) if node.op_type == "Less" else (right, left)


def equal(value: ir.Value | None, numbers: Numbers) -> Number | None:
    """a - b where the condition says a = b."""
    node = made_by(value, "Equal")
    if node is None:
        return None
    left, right = (numbers.scalar(item) for item in node.inputs)
    return left - right
