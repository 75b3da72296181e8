"""What one turn of a Loop reads: rows of a table at the ids of a bag, perhaps weighted, perhaps without a padding id."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from recsplit.graph.flow import constant, int_of, ints_of
from recsplit.graph.loops.numbers import ZERO, Number
from recsplit.graph.loops.turns import Baked, NotABag, Turns, branches, equal, less, made_by, plain, read_turns, source, truth
from recsplit.graph.loops.values import Numbers, dtype, is_along_front

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


@dataclass(frozen=True)
class Span:
    """Positions [start, end) of the flat ids."""

    start: Number
    end: Number


@dataclass(frozen=True)
class Rows:
    """Rows of `table` at `ids`, those of one bag once there is a `span`; `weights` multiply them.

    `dtype`: to what the rows are cast. `kept`: positions of the bag left after those of `padding_idx` were dropped.
    `open_ended`: the bag reaches to the last id, which is right only in the last turn.
    """

    table: ir.Value
    ids: ir.Value
    dtype: ir.DataType
    weights: ir.Value | None = None
    span: Span | None = None
    padding_idx: int = -1
    kept: ir.Value | None = None
    open_ended: bool = False


class Reader:
    """Reads rows inside of a Loop's body. Every method raises NotABag with what isn't understood."""

    def __init__(self, loop: ir.Node, turns: Turns) -> None:
        body = loop.attributes["body"].as_graph()
        self._inside = frozenset([body, *body.subgraphs()])
        self.numbers = turns.numbers
        self._last = turns.index - turns.times + 1  # zero in the last turn

    def is_outside(self, value: ir.Value) -> bool:
        """Whether the value exists before the Loop."""
        return value.graph not in self._inside

    def is_last(self, condition: ir.Value) -> bool:
        """Whether a condition says that this is the last turn."""
        return equal(condition, self.numbers) in (self._last, -self._last)

    def rows(self, value: ir.Value) -> Rows:
        """Read rows that aren't pooled yet."""
        node = plain(value).producer()
        if node is None:
            raise NotABag("it pools a value of outside")
        if is_float_cast(node):
            return cast(self.rows(source(node)), node)
        if node.op_type == "If":
            condition, yes, no = branches(node, plain(value))
            if truth(condition) is not None:
                return self.rows(yes if truth(condition) else no)
            if self.is_last(condition):
                last = self.rows(yes)
                if last.span is not None:
                    check_end(last.span.end, self.numbers.count(last.ids))
                return _same_rows(last, self.rows(no))
        if node.op_type == "Slice":
            rows, span = self.rows(source(node)), self._span(node)
            if rows.span is not None:
                raise NotABag("it slices the rows of a bag again")
            return dataclasses.replace(rows, span=span, open_ended=span.end == self.numbers.count(rows.ids))
        if node.op_type == "Mul":
            return self._weighted(node)
        if node.op_type == "Gather" and int_of(node, "axis", 0) == 0:
            return self._gathered(node)
        raise NotABag(f"its rows go through {node.op_type} before they are pooled")

    def _span(self, node: ir.Node) -> Span:
        """The positions that a Slice along axis 0 keeps."""
        if not is_along_front(node):
            raise NotABag("it slices along another axis than the ids, or in steps")
        return Span(self.numbers.scalar(node.inputs[1]), self.numbers.scalar(node.inputs[2]))

    def _weighted(self, node: ir.Node) -> Rows:
        """Rows times a column of weights, on either side."""
        left, right = node.inputs
        assert left is not None and right is not None
        column, value = (right, left) if _is_column(right) else (left, right)
        rows = self.rows(value)
        weights, span = self._column(column)
        if weights is None:
            return rows
        if rows.weights is not None:
            raise NotABag("its rows are weighted twice")
        if span != rows.span:
            raise NotABag("its weights are those of other ids")
        return dataclasses.replace(rows, weights=weights)

    def _column(self, value: ir.Value) -> tuple[ir.Value | None, Span | None]:
        """A column of weights, one per id, and of which bag. None for ones: an exporter multiplies by them where there are no weights."""
        if is_filled(value, 1):
            return None, None
        node = made_by(value, "Unsqueeze", "Reshape", "Cast", "CastLike")
        if node is not None and node.op_type in ("Cast", "CastLike"):
            return self._column(source(node))
        upright = node is not None and (
            ints_of(node, "axes", 1) in ([1], [-1]) if node.op_type == "Unsqueeze" else ints_of(node, "", 1) == [-1, 1]
        )
        if node is None or not upright:
            raise NotABag("its rows are multiplied by something else than one weight per id")
        weights = plain(source(node))
        inner = made_by(weights, "Slice")
        if inner is not None and not self.is_outside(inner.outputs[0]):
            weights = plain(source(inner))
            return (None, None) if is_filled(weights, 1) else (weights, self._span(inner))
        return (None if is_filled(weights, 1) else weights), None

    def _gathered(self, node: ir.Node) -> Rows:
        """Rows of the table at ids; or rows that were read before, at the positions that are kept of a bag."""
        table, ids = plain(source(node)), node.inputs[1]
        assert ids is not None
        ids = plain(ids)
        loop = ids.producer()
        if loop is not None and loop.op_type == "Loop":
            return _kept(self.rows(table), loop, ids, self.numbers)
        if (conversion := made_by(table, "Cast")) is not None:  # onnxruntime puts one before a half table
            table_rows = self._of_table(plain(source(conversion)), ids)
            return cast(table_rows, conversion)
        return self._of_table(table, ids)

    def _of_table(self, table: ir.Value, ids: ir.Value) -> Rows:
        """Rows of a table that is stored in the model."""
        tensor = ir.convenience.get_const_tensor(table)
        if tensor is None or not self.is_outside(table):
            raise NotABag(f"its table {table.name!r} isn't an initializer")
        if tensor.dtype not in FLOATS or len(tensor.shape) != 2:
            raise NotABag(f"its table {table.name!r} isn't a matrix of floats")
        inner = made_by(ids, "Slice")
        if inner is not None and not self.is_outside(inner.outputs[0]):
            return Rows(table, plain(source(inner)), tensor.dtype, span=self._span(inner))
        return Rows(table, ids, tensor.dtype)


def check_end(end: Number, count: Number) -> None:
    """Raise Baked where a bag ends at a fixed position, and the number of ids isn't fixed."""
    if end.constant is not None and count.constant is None:
        raise Baked(f"it has the example's {end.constant} ids written into it")


def _same_rows(last: Rows, usual: Rows) -> Rows:
    """The rows of the last bag, which reach to the last id, and of any other."""
    alike = dataclasses.replace(last, span=usual.span, open_ended=usual.open_ended) == usual
    if not alike or last.span is None or usual.span is None or last.span.start != usual.span.start or not last.open_ended:
        raise NotABag("its last turn reads other rows than the rest")
    return usual


def _kept(rows: Rows, loop: ir.Node, ids: ir.Value, numbers: Numbers) -> Rows:
    """The rows of a bag without those of the padding id: an inner Loop lists the positions that are kept."""
    turns = read_turns(loop, numbers.known)
    if rows.span is not None or len(turns.carried) != 1 or turns.carried[0].last is not ids or turns.collected:
        raise NotABag("the positions it reads come out of a Loop that isn't understood")
    (kept,) = turns.carried
    if numbers.length(kept.first, 0) != ZERO:
        raise NotABag("the list of positions it reads doesn't begin empty")
    position, condition, appends = _appended(kept.following, kept.inside)
    place = turns.numbers.scalar(position)
    span = Span(place - turns.index, place - turns.index + turns.times)
    if span.start.mentions(turns.index):
        raise NotABag("the positions it reads don't follow one another")
    table_rows = numbers.length(rows.table, 0).constant
    assert table_rows is not None
    here = turns.numbers.element(rows.ids, place)
    return dataclasses.replace(rows, span=span, padding_idx=_padding(condition, appends, here, table_rows, turns.numbers), kept=ids)


def _appended(following: ir.Value, inside: ir.Value) -> tuple[ir.Value, ir.Value, bool]:
    """(position, condition, sense): the list gets the position where the condition is `sense`."""
    node = following.producer()
    if node is not None and node.op_type == "If":
        condition, yes, no = branches(node, following)
        for one, other, sense in ((yes, no, True), (no, yes, False)):
            join = made_by(one, "Concat")
            if join is not None and len(join.inputs) == 2 and join.inputs[0] is inside and plain(other) is inside:
                position = join.inputs[1]
                assert position is not None
                return position, condition, sense
    raise NotABag("how it lists the positions it reads isn't understood")


def _padding(condition: ir.Value, appends: bool, here: Number, rows: int, numbers: Numbers) -> int:
    """The padding id, where the list gets a position unless the condition says that the id `here` is it."""
    comparison = made_by(condition, "Equal")
    if comparison is None or appends:
        raise NotABag("how it drops ids isn't understood")
    for one, other in (comparison.inputs, comparison.inputs[::-1]):
        padding = numbers.scalar(other).constant
        if padding is not None and one is not None and _id(one, rows, numbers) == here:
            if not -rows <= padding < rows:
                raise NotABag(f"its padding id {padding} isn't a row of the table")
            return padding % rows
    raise NotABag("which ids it drops isn't understood")


def _id(value: ir.Value, rows: int, numbers: Numbers) -> Number:
    """An id, also where negative ones are counted from the end: If(id < 0, id + rows, id)."""
    node = value.producer()
    if node is None or node.op_type != "If":
        return numbers.scalar(value)
    condition, yes, no = branches(node, value)
    usual = numbers.scalar(no)
    wraps = less(condition, numbers) == (usual, ZERO) and numbers.scalar(yes) == usual + rows
    return usual if wraps else Number.unknown("computed", value)


def is_float_cast(node: ir.Node) -> bool:
    """Whether the node changes the precision of rows, which are floats; a CastLike's target may not be told."""
    return node.op_type in ("Cast", "CastLike") and (dtype(node.outputs[0]) or ir.DataType.FLOAT) in FLOATS


def cast(rows: Rows, node: ir.Node) -> Rows:
    """The rows behind a Cast or CastLike."""
    return dataclasses.replace(rows, dtype=dtype(node.outputs[0]) or rows.dtype)


def _is_column(value: ir.Value) -> bool:
    """Whether a factor of rows is the weights rather than the rows."""
    while (conversion := made_by(value, "Cast", "CastLike")) is not None:
        value = source(conversion)
    return made_by(value, "Unsqueeze", "Reshape") is not None or is_filled(value, 1)


def is_filled(value: ir.Value | None, number: int) -> bool:
    """Whether a tensor holds one number everywhere: as a constant, or by Expand or ConstantOfShape."""
    array = constant(value)
    if array is not None:
        return bool(np.all(array.astype(np.float32) == number))
    node = made_by(value, "Expand", "ConstantOfShape", "Cast", "CastLike", "Unsqueeze", "Reshape")
    if node is None:
        return False
    if node.op_type != "ConstantOfShape":
        return is_filled(node.inputs[0], number)
    filling = node.attributes.get("value")
    return (0.0 if filling is None else float(filling.as_tensor().numpy().reshape(-1)[0])) == number
