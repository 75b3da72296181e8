"""A Loop as an EmbeddingBag: which of its turns' bags are which ids, and where that is told."""

from dataclasses import dataclass

import onnx_ir as ir

from recsplit.graph.flow import constant
from recsplit.graph.loops.numbers import ONE, ZERO, Number
from recsplit.graph.loops.pooled import Pooled, read_pooled
from recsplit.graph.loops.reads import Reader, check_end
from recsplit.graph.loops.turns import Baked, Carried, NotABag, Turns, made_by, read_turns, source
from recsplit.graph.loops.values import Numbers


@dataclass(frozen=True)
class Bag:
    """What a Loop computes, as the inputs and attributes of a recsplit::EmbeddingBag node.

    `result` is the value that holds it, of dtype `dtype`; `nodes` are those that make it: the Loop, and the
    ConcatFromSequence behind it, if any. `offsets` is None where all bags are as long as each other: then `ids` is
    [bags, length], or a vector to be given that shape where `length` is set. `bags`: how many there are.
    """

    table: ir.Value
    ids: ir.Value
    offsets: ir.Value | None
    weights: ir.Value | None
    mode: str
    padding_idx: int
    include_last_offset: bool
    result: ir.Value
    dtype: ir.DataType
    nodes: tuple[ir.Node, ...]
    bags: Number
    length: int | None


def read_bag(loop: ir.Node) -> Bag:
    """Read a Loop node as a bag. Raises NotABag with the reason, Baked where a size of the example is written into it."""
    turns = read_turns(loop, {})
    row, result, nodes, flat = _collected(loop, turns)
    reader = Reader(loop, turns)
    pooled = read_pooled(row, reader)
    if pooled.rows.open_ended:
        raise NotABag("every bag reaches to the last id")
    if pooled.flat is not flat:
        raise NotABag("the rows it collects don't stack to [bags, dim]")
    if pooled.rows.weights is not None and pooled.mode != "sum":
        raise NotABag(f"it weights the rows and pools them by {pooled.mode}, and a bag's weights go with sum")
    layout = _layout(pooled, turns, reader)
    return Bag(
        table=pooled.rows.table,
        ids=layout.ids,
        offsets=layout.offsets,
        weights=layout.weights,
        mode=pooled.mode,
        padding_idx=pooled.rows.padding_idx,
        include_last_offset=layout.include_last_offset,
        result=result,
        dtype=pooled.rows.dtype,
        nodes=nodes,
        bags=turns.times,
        length=layout.length,
    )


def _collected(loop: ir.Node, turns: Turns) -> tuple[ir.Value, ir.Value, tuple[ir.Node, ...], bool]:
    """(row of a turn, all rows, nodes that make them, whether a row is [dim]): one output a turn, or a sequence of them."""
    if any(_is_used(item.last) for item in turns.counters):
        raise NotABag("its counter is used after it")
    used = [item for item in turns.collected if _is_used(item.stacked)]
    if not turns.carried and len(used) == 1:
        return used[0].inside, used[0].stacked, (loop,), True
    if len(turns.carried) > 1 or used:
        many = len(turns.carried)
        raise NotABag(f"it carries {many} loop value{'s' * (many != 1)} and collects {len(used)}")
    if not turns.carried:
        raise NotABag("it makes nothing that is used")
    return _sequence(loop, turns.carried[0])


def _sequence(loop: ir.Node, rows: Carried) -> tuple[ir.Value, ir.Value, tuple[ir.Node, ...], bool]:
    """Rows inserted into a sequence, one a turn, and joined behind the Loop."""
    inserted = made_by(rows.following, "SequenceInsert")
    begins = None if rows.first is None else rows.first.producer()
    if begins is None or begins.op_type != "SequenceEmpty" or inserted is None:
        raise NotABag(f"it carries {rows.inside.name!r}, which isn't a sequence of rows, from turn to turn")
    appended = len(inserted.inputs) == 2 or inserted.inputs[2] is None
    consumers = list(rows.last.consumers())
    joined = len(consumers) == 1 and consumers[0].op_type == "ConcatFromSequence" and consumers[0].graph is loop.graph
    joined = joined and not rows.last.is_graph_output()
    axis = consumers[0].attributes.get("axis") if joined else None
    if inserted.inputs[0] is not rows.inside or not appended or axis is None or axis.as_int() != 0:
        raise NotABag("the sequence of rows that it makes isn't joined along axis 0")
    row = inserted.inputs[1]
    assert row is not None
    stacks = consumers[0].attributes.get("new_axis")
    return row, consumers[0].outputs[0], (consumers[0], loop), stacks is not None and stacks.as_int() == 1


@dataclass(frozen=True)
class _Layout:
    """The part of a Bag that says which ids are whose."""

    ids: ir.Value
    weights: ir.Value | None
    offsets: ir.Value | None = None
    include_last_offset: bool = False
    length: int | None = None


def _layout(pooled: Pooled, turns: Turns, reader: Reader) -> _Layout:
    """Where the bags lie, from the span of turn number `index`."""
    numbers, index, span = Numbers({}), turns.index, pooled.span
    flat, weights = pooled.rows.ids, pooled.rows.weights
    place, offsets, last = span.start.element(), None, True
    for element in (place, span.end.element()):
        if element is not None and (array := constant(element[0])) is not None:
            raise Baked(f"its offsets are constants, {_shown(array.reshape(-1).tolist())}")
    if place is not None and place[1] == index and span.end.element() == (place[0], index + ONE):
        _check_turns(place[0], turns.times, numbers)
        offsets, last = _split_end(place[0], numbers.count(flat), numbers)
        start, length = numbers.element(offsets, index), numbers.element(offsets, ONE)
    else:
        start, length = span.start, span.end - span.start
    if not length.mentions(index) and start == length * index and length != ZERO:
        regular = _regular(flat, weights, length, turns.times, numbers, reader)
        if regular is not None:
            return regular
    if offsets is None:
        raise NotABag("where its bags begin and end isn't told by offsets")
    if not reader.is_outside(offsets) or numbers.rank(offsets) != 1:
        raise NotABag("its offsets aren't a vector that exists before it")
    ids = _vector(flat, "ids", numbers, reader)
    return _Layout(ids, None if weights is None else _vector(weights, "weights", numbers, reader), offsets, last)


def _regular(flat: ir.Value, weights: ir.Value | None, length: Number, bags: Number, numbers: Numbers, reader: Reader) -> _Layout | None:
    """Bags of one length: ids [bags, length], or a vector that can be given that shape; None where the ids go on behind the last."""
    ids = _rectangle(flat, length, bags, numbers, reader)
    shaped = None if weights is None else _rectangle(weights, length, None, numbers, reader)
    if ids is not None and (weights is None) == (shaped is None):
        return _Layout(ids, shaped)
    if bags * length == numbers.count(flat) and length.constant is not None:
        ids = _vector(flat, "ids", numbers, reader)
        weights = None if weights is None else _vector(weights, "weights", numbers, reader)
        return _Layout(ids, weights, length=length.constant)
    if bags.constant is not None and numbers.count(flat).constant is None:
        raise Baked(f"it has the example's {bags.constant} bags written into it")
    return None


def _check_turns(offsets: ir.Value, times: Number, numbers: Numbers) -> None:
    """One turn for each pair of neighbouring offsets."""
    length = numbers.length(offsets, 0)
    if times + 1 == length:
        return
    if times.constant is not None and length.constant is None:
        raise Baked(f"it has the example's {times.constant} bags written into it")
    raise NotABag("it doesn't turn once for each of its offsets")


def _split_end(offsets: ir.Value, count: Number, numbers: Numbers) -> tuple[ir.Value, bool]:
    """(offsets, include_last_offset): without the number of ids where the exporter appended or wrote it."""
    node = made_by(offsets, "Concat", "ScatterElements")
    if node is None:
        return offsets, True
    begins, end = source(node), numbers.scalar(node.inputs[-1])
    array = constant(begins)
    if array is not None and (array.size != 1 or end == count):  # a zero before computed ends is no offset of the example
        raise Baked(f"its offsets are constants, {_shown(array.reshape(-1).tolist())}")
    replaced = node.op_type == "ScatterElements"
    if replaced and (numbers.scalar(node.inputs[1]).constant != -1 or end != count):
        return offsets, True
    if not replaced and (len(node.inputs) != 2 or numbers.length(node.inputs[1], 0) != ONE):
        return offsets, True
    if end == count:
        return begins, replaced
    check_end(end, count)
    return offsets, True


def _rectangle(flat: ir.Value, length: Number, bags: Number | None, numbers: Numbers, reader: Reader) -> ir.Value | None:
    """The value [bags, length] of which `flat` is the flat form."""
    root = _chain(flat)[-1]
    fits = numbers.rank(root) == 2 and numbers.length(root, 1) == length and bags in (None, numbers.length(root, 0))
    return root if fits and reader.is_outside(root) else None


def _vector(flat: ir.Value, what: str, numbers: Numbers, reader: Reader) -> ir.Value:
    """The vector behind `flat` that is nearest to the model's inputs."""
    for value in reversed(_chain(flat)):
        if numbers.rank(value) == 1 and reader.is_outside(value):
            return value
    raise NotABag(f"its {what} aren't a vector that exists before it")


def _chain(flat: ir.Value) -> list[ir.Value]:
    """The value and those behind it that hold the same elements, up to the first with a shape of its own."""
    chain = [flat]
    while (node := chain[-1].producer()) is not None and node.op_type in ("Identity", "Reshape"):
        one_dimensional = node.op_type == "Identity" or Numbers({}).length(node.inputs[1], 0) == ONE
        if not one_dimensional:
            break
        chain.append(source(node))
    return chain


def _is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _shown(items: list[object]) -> str:
    shown = ", ".join(str(item) for item in items[:4])
    return f"[{shown}, ...]" if len(items) > 4 else f"[{shown}]"
