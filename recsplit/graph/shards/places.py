"""Places: where each row of a fused table stands once its tables are cut into shards.

Places count the rows shard by shard, in a shard table by table, so that each shard owns the places [first, last) and nothing else. Of a
table that is cut by heat a shard has a range of ranks, and those rows in the order of their numbers: then a front needs to know of a
row only whose it is, some bits, for its place follows from how many rows before it are the same shard's. The row of zeros at a fused
table's end keeps its number: it is nobody's place.

A table that lies in one piece keeps the order of its rows, and its places are its rows moved; only a table that is cut by heat
needs a map, one int32 a row.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from recsplit.errors import InputError
from recsplit.graph.emit import Emit
from recsplit.graph.find.candidates import table_name
from recsplit.graph.lower.fused_tables import FusedTable
from recsplit.plan.plan import Segment

#: The rows of a table by heat, INT32 [rows]: order[rank] = row.
Order = Callable[[str], NDArray[np.int32]]
Map = NDArray[np.int32]

#: Each piece that moves otherwise costs two passes over a request's rows; with more of them one map is cheaper.
_MOST_PIECES = 32


@dataclass(frozen=True)
class Stretch:
    """Ranks [first, last) of table number `table` of a fused table, in shard `shard`, at the places from `place` on."""

    shard: int
    table: int
    first: int
    last: int
    place: int


@dataclass(frozen=True)
class Piece:
    """Fused rows from `start` on (up to the next piece): row + shift is their place, or where `mapped` their index in the map."""

    start: int
    mapped: bool
    shift: int


@dataclass(frozen=True)
class TablePlaces:
    """Where the rows of a fused table stand. `stretches` lie in the order of their places; `pieces` in that of the fused rows.

    `mapped`: the tables whose rows the map has, by number, in its order; behind them, where `zero_mapped`, the row of zeros.
    """

    fused: FusedTable
    stretches: tuple[Stretch, ...]
    by_heat: frozenset[int]
    pieces: tuple[Piece, ...]
    mapped: tuple[int, ...]
    zero_mapped: bool

    def names(self) -> list[str]:
        """The tables' names."""
        return [table_name(value) for value in self.fused.sources]

    def sizes(self) -> list[int]:
        """The tables' rows."""
        return _sizes(self.fused)

    def bounds(self, shard: int) -> tuple[int, int]:
        """The places [first, last) of a shard; (0, 0) where it has none."""
        stretches = [item for item in self.stretches if item.shard == shard]
        return (stretches[0].place, stretches[-1].place + stretches[-1].last - stretches[-1].first) if stretches else (0, 0)

    def moves(self, first: int, last: int) -> list[Piece]:
        """The pieces of fused rows [first, last)."""
        ends = [piece.start for piece in self.pieces[1:]] + [self.fused.zero_row + 1]
        return [piece for piece, end in zip(self.pieces, ends, strict=True) if piece.start < last and end > first]

    def place_of(self, row: int, places: Map | None) -> int:
        """The place of one fused row; `places`: the map, where the layout has one."""
        (piece,) = self.moves(row, row + 1)
        if not piece.mapped:
            return row + piece.shift
        assert places is not None
        return int(places[row + piece.shift])

    def map_size(self) -> int:
        """Elements of the map."""
        sizes = self.sizes()
        return sum(sizes[number] for number in self.mapped) + int(self.zero_mapped)

    def map_of(self, table: int, order: Order | None) -> Map:
        """The places of a mapped table's rows, INT32 [rows]."""
        places = np.empty(self.sizes()[table], dtype=np.int32)
        rows = order(self.names()[table]) if order is not None and table in self.by_heat else None
        for item in self.stretches:
            if item.table == table:
                which = slice(item.first, item.last) if rows is None else np.sort(rows[item.first : item.last])
                places[which] = np.arange(item.place, item.place + item.last - item.first, dtype=np.int32)
        return places

    def map_start(self, table: int) -> int:
        """Where a mapped table's rows begin in the map."""
        sizes = self.sizes()
        return sum(sizes[number] for number in self.mapped if number < table)

    def maps(self, order: Order | None) -> Iterator[tuple[Callable[[], Map], int]]:
        """The map in parts with their sizes, each made when it is asked for: a table's map is 4 bytes a row."""
        sizes = self.sizes()
        for table in self.mapped:
            yield partial(self.map_of, table, order), sizes[table]
        if self.zero_mapped:
            yield partial(np.full, 1, self.fused.zero_row, np.int32), 1


def lay_out(fused: FusedTable, shards: Sequence[Sequence[Segment]], *, by_heat: bool) -> TablePlaces:
    """The layout of a fused table whose tables the segments cover, each row once. Without `by_heat` a rank is a row's number.

    Raises InputError where places don't fit int32.
    """
    sizes = _sizes(fused)
    if sum(sizes) >= 2**31 - 1:
        raise InputError(
            f"the tables of width {fused.dim} have {sum(sizes)} rows together, and shards count places in int32",
            hint="a partition takes up to 2,147,483,646 rows of one width",
        )
    stretches: list[Stretch] = []
    place = 0
    for shard, segments in enumerate(shards):
        for table, value in enumerate(fused.sources):
            for first, last in _joined((item.first, item.last) for item in segments if item.table == table_name(value)):
                stretches.append(Stretch(shard, table, first, last, place))
                place += last - first
    cut = {table for table in range(len(sizes)) if sum(item.table == table for item in stretches) > 1}
    heat = frozenset(cut if by_heat else ())
    pieces, mapped, zero_mapped = _pieces(fused, sizes, stretches, heat)
    if len(pieces) > _MOST_PIECES:
        pieces, mapped, zero_mapped = _pieces(fused, sizes, stretches, frozenset(range(len(sizes))))
    return TablePlaces(fused, tuple(stretches), heat, pieces, mapped, zero_mapped)


def rows_at(places: NDArray[np.int32], first: int, last: int) -> NDArray[np.int32]:
    """The rows of a table whose places are [first, last), in the order of their places: the inverse of `map_of`, in one pass."""
    rows = np.empty(last - first, dtype=np.int32)
    block = 1 << 20  # so that no more than some MB are made beside the answer
    for start in range(0, len(places), block):
        part = places[start : start + block]
        inside = np.flatnonzero((part >= first) & (part < last))
        rows[part[inside] - first] = inside + start
    return rows


def to_places(emit: Emit, layout: TablePlaces, row: ir.Value, table: ir.Value | None) -> ir.Value:
    """The places INT32 of fused rows, in their shape; `table` is the map INT32 [map_size], where the layout has one."""
    pieces = layout.pieces
    if table is None:
        moved = row if not any(piece.shift for piece in pieces) else emit.op("Add", row, _by_piece(emit, row, pieces, 0))
        return moved if row.dtype == ir.DataType.INT32 else emit.cast(moved, ir.DataType.INT32)
    if len(pieces) == 1:
        index = row if not pieces[0].shift else emit.op("Add", row, _constant(emit, pieces[0].shift, row))
        return emit.op("Gather", table, index, axis=0)
    # Both kinds of rows in one number: below `size` an index into the map, from there on a place.
    size = layout.map_size()
    wide = row if row.dtype == ir.DataType.INT64 else emit.cast(row, ir.DataType.INT64)
    wide.dtype = ir.DataType.INT64
    moved = emit.op("Add", wide, _by_piece(emit, wide, pieces, size))
    is_mapped = emit.op("Less", moved, emit.const(size))
    mapped_places = emit.op("Gather", table, emit.op("Where", is_mapped, moved, emit.const(0)), axis=0)
    direct = emit.cast(emit.op("Sub", moved, emit.const(size)), ir.DataType.INT32)
    return emit.op("Where", is_mapped, mapped_places, direct)


def _by_piece(emit: Emit, row: ir.Value, pieces: Sequence[Piece], beyond: int) -> ir.Value:
    """The shift of each row: that of the last piece that starts at or before it; `beyond` more where it isn't mapped."""
    shifts = [piece.shift + (0 if piece.mapped else beyond) for piece in pieces]
    value = _constant(emit, shifts[0], row)
    for piece, shift in zip(pieces[1:], shifts[1:], strict=True):
        behind = emit.op("GreaterOrEqual", row, _constant(emit, piece.start, row))
        value = emit.op("Where", behind, _constant(emit, shift, row), value)
    return value


def _constant(emit: Emit, number: int, like: ir.Value) -> ir.Value:
    return emit.const(number, np.int32 if like.dtype == ir.DataType.INT32 else np.int64)


def _sizes(fused: FusedTable) -> list[int]:
    # Not flow.table_shape: once lowered, a source is no initializer of any graph.
    return [int(value.const_value.shape.numpy()[0]) for value in fused.sources if value.const_value is not None]


def _joined(segments: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Segments of one table in one shard by rank, those that touch as one."""
    current: tuple[int, int] | None = None
    for first, last in sorted(segments):
        if current is not None and current[1] == first:
            current = (current[0], last)
            continue
        if current is not None:
            yield current
        current = (first, last)
    if current is not None:
        yield current


def _pieces(
    fused: FusedTable, sizes: Sequence[int], stretches: Sequence[Stretch], mapped: frozenset[int]
) -> tuple[tuple[Piece, ...], tuple[int, ...], bool]:
    pieces: list[Piece] = []
    base = size = 0
    for table, rows in enumerate(sizes):
        if table in mapped:
            pieces.append(Piece(base, True, size - base))
            size += rows
        else:
            table_stretches = sorted((item for item in stretches if item.table == table), key=lambda item: item.first)
            pieces.extend(Piece(base + item.first, False, item.place - base - item.first) for item in table_stretches)
        base += rows
    zero_mapped = pieces[-1].mapped
    if not zero_mapped:
        pieces.append(Piece(fused.zero_row, False, 0))
    kept = [
        piece for last, piece in zip([None, *pieces], pieces, strict=False) if last is None or (last.mapped, last.shift) != _move(piece)
    ]
    return tuple(kept), tuple(sorted(mapped)), zero_mapped


def _move(piece: Piece) -> tuple[bool, int]:
    return piece.mapped, piece.shift
