"""What lowering collects on its way: vectors that cross the boundary, marked ids, and the plan's lookups."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count

import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.engine.reads import Read, Reads
from recsplit.graph.find.candidates import table_name
from recsplit.graph.find.columns import Column
from recsplit.graph.flow import table_shape
from recsplit.graph.lower.fused_tables import FusedTable, UnknownIds
from recsplit.plan.plan import Lookup, PlainPooling, Pooling

#: Stands in `unknown_ids` for the id where a row's lengths are negative or claim more ids than it has slots.
WRONG_LENGTHS = -(2**63)


@dataclass(frozen=True)
class Plain:
    """How a part's vectors come of looked-up ones, where it is so simple: the next widths[i] of `vectors` are pooled by poolings[i]."""

    vectors: ir.Value
    widths: tuple[int, ...]
    poolings: tuple[PlainPooling, ...]


@dataclass(frozen=True)
class Crossing:
    """Vectors [batch, n, dim] that cross the boundary, and the values of the dense model they stand for.

    Each item of `outs`: the value, how many of the n it takes, and its dims behind the first one. `plain`: None where the pooling
    is more than that. `reads`: how the engine makes the same vectors; () where it can't.
    """

    value: ir.Value
    dim: int
    outs: tuple[tuple[ir.Value, int, tuple[int, ...]], ...]
    plain: Plain | None = None
    reads: tuple[Read, ...] = ()


@dataclass
class Lowering:
    """What lowering collects, lookup by lookup; read by `finish`."""

    emit: Emit
    fused: Mapping[ir.Value, FusedTable]
    unknown: UnknownIds
    crossings: list[Crossing] = field(default_factory=list)
    alone: list[ir.Value] = field(default_factory=list)  # values that cross unpacked
    alone_reads: dict[ir.Value, tuple[Read, ...]] = field(default_factory=dict)  # and how the engine makes them
    marks: list[tuple[ir.Value, ir.Value]] = field(default_factory=list)  # (bad BOOL, ids INT64), both [batch, width]
    wrong_lengths: list[tuple[ir.Value, int]] = field(default_factory=list)  # BOOL [batch, 1], and its position in `unknown_ids`
    lookups: list[Lookup] = field(default_factory=list)
    packed: dict[ir.Value, tuple[Crossing, ...]] = field(default_factory=dict)  # a boundary tensor, and the parts it is made of
    dense_nodes: set[ir.Node] = field(default_factory=set)  # nodes that read lookups from the dense side of the boundary
    reads: Reads = field(init=False)

    def __post_init__(self) -> None:
        self.reads = Reads(self.unknown)

    @property
    def position(self) -> int:
        """The first position in `unknown_ids` behind the lookups described so far."""
        return sum(lookup.width for lookup in self.lookups)

    def mark(self, bad: ir.Value, ids: ir.Value) -> None:
        """Remember which ids of a row are unknown: bad BOOL and ids, both [batch, width]."""
        self.marks.append((bad, self.emit.cast(ids, ir.DataType.INT64) if ids.dtype != ir.DataType.INT64 else ids))

    def mark_wrong_lengths(self, wrong: ir.Value) -> None:
        """Remember which rows' lengths can't be read, BOOL [batch, 1]. Called before the lookup is described."""
        self.wrong_lengths.append((wrong, self.position))

    def describe(self, table: ir.Value, pooling: Pooling, columns: Sequence[Column] | None, inputs: tuple[str, ...], width: int) -> None:
        """Remember a lookup for the plan, one entry for each run of columns that is read alike.

        Called in the order of the positions in `unknown_ids`.
        """
        rows = (table_shape(table) or (0, 0))[0]
        if columns is None:
            self._add(Lookup("", table_name(table), pooling, inputs, None, 0, False, None, width))
            return
        start = 0
        for stop in range(1, len(columns) + 1):
            if stop < len(columns) and _follows(columns[stop - 1], columns[stop]):
                continue
            first, last = columns[start], columns[stop - 1]
            span = None if first.column is None or last.column is None else (first.column, last.column + 1)
            limit = rows - first.shift
            self._add(Lookup("", table_name(table), pooling, (first.source.name or "",), span, first.shift, True, limit, stop - start))
            start = stop

    def _add(self, lookup: Lookup) -> None:
        used_names = {known.name for known in self.lookups}
        names = chain((lookup.table,), (f"{lookup.table}_{number}" for number in count(2)))
        self.lookups.append(dataclasses.replace(lookup, name=next(name for name in names if name not in used_names)))


def _follows(one: Column, other: Column) -> bool:
    """Whether a column is the next of the same input, and read alike."""
    return one.column is not None and (other.source, other.column, other.shift) == (one.source, one.column + 1, one.shift)


def first_unknown(emit: Emit, bad: ir.Value, ids: ir.Value, *, axis: int) -> tuple[ir.Value, ir.Value]:
    """The first unknown id along `axis`: (bad, ids) with that dimension reduced to 1."""
    where = emit.op("ArgMax", emit.cast(bad, ir.DataType.INT32), axis=axis, keepdims=1)
    return emit.op("GatherElements", bad, where, axis=axis), emit.op("GatherElements", ids, where, axis=axis)


def mark_rows(lowering: Lowering) -> ir.Value:
    """`unknown_ids` INT64 [batch, 2] out of everything marked, whatever the policy then does with it: (position or -1, id)."""
    emit = lowering.emit
    bad = emit.concat([bad for bad, _ in lowering.marks], axis=1)
    ids = emit.concat([ids for _, ids in lowering.marks], axis=1)
    where = emit.op("ArgMax", emit.cast(bad, ir.DataType.INT32), axis=1, keepdims=1)
    return _marks(emit, emit.op("GatherElements", bad, where, axis=1), where, emit.op("GatherElements", ids, where, axis=1))


def mark_wrong_lengths(lowering: Lowering) -> ir.Value | None:
    """`unknown_ids` as `mark_rows` has it, but only of rows whose lengths can't be read: no policy is about those. None without bags."""
    if not lowering.wrong_lengths:
        return None
    emit = lowering.emit
    wrong = emit.concat([wrong for wrong, _ in lowering.wrong_lengths], axis=1)
    first = emit.op("ArgMax", emit.cast(wrong, ir.DataType.INT32), axis=1, keepdims=1)
    position = emit.op("Gather", emit.const([position for _, position in lowering.wrong_lengths]), first)
    return _marks(emit, emit.op("GatherElements", wrong, first, axis=1), position, emit.const(WRONG_LENGTHS))


def _marks(emit: Emit, bad: ir.Value, position: ir.Value, number: ir.Value) -> ir.Value:
    """INT64 [batch, 2] out of bad BOOL, position and id, all [batch, 1]."""
    marked = emit.op("Concat", emit.op("Where", bad, position, emit.const(-1)), emit.op("Where", bad, number, emit.const(0)), axis=1)
    marked.dtype, marked.shape = ir.DataType.INT64, ir.Shape(["batch", 2])
    return marked


@dataclass(frozen=True)
class Packed:
    """A boundary tensor by name, and, part by part, the name of the Gather's output that it pools, the widths and the poolings. `parts` is
    None where the pooling is another one in any part (see Plain)."""

    output: str
    parts: tuple[tuple[str, tuple[int, ...], tuple[PlainPooling, ...]], ...] | None


def packed(value: ir.Value, crossings: Sequence[Crossing]) -> Packed:
    """A boundary tensor and the parts that were put into it."""
    plain = [crossing.plain for crossing in crossings]
    if not plain or None in plain:
        return Packed(value.name or "", None)
    return Packed(value.name or "", tuple((item.vectors.name or "", item.widths, item.poolings) for item in plain if item is not None))
