"""Fused tables: all tables of one dtype and dim, and stored alike, lie one after the other and are read as a single tensor.

One Gather then serves any number of lookups, which is what makes a split with hundreds of tables fast; a table
that several lookups share is stored once; and one zero row at the end serves padding and unknown ids. Quantized tables
lie together where the same numbers mean zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from recsplit.errors import InputError
from recsplit.graph.emit import Emit
from recsplit.graph.flow import table_shape
from recsplit.graph.lower.zero_points import zero_vector
from recsplit.plan.dtypes import TRITON
from recsplit.plan.files import TABLES_FILE, whole_pages


@dataclass(frozen=True)
class FusedTable:
    """`value` is the initializer [rows + 1, dim] that stands for `sources` laid end to end, and a zero row.

    `zeros`: the numbers of that row, one for each of `dim` columns; other ones than 0 where the tables' zero points are. `stored`: how rows
    will lie in the file, as plan.Table has it; the graph reads them as they are until graph.stored lets it read what lies there.
    """

    value: ir.Value
    dim: int
    sources: tuple[ir.Value, ...]
    bases: Mapping[ir.Value, int]
    zero_row: int
    zeros: tuple[int, ...]
    stored: str


@dataclass(frozen=True)
class UnknownIds:
    """What an id outside its table reads: nothing (and the row is marked), zeros, or row `row` of the table."""

    marks: bool
    row: int | None


def policy(text: str) -> UnknownIds:
    """Read `error`, `zero` or `row=N`. Raises InputError on anything else."""
    if text in ("error", "zero"):
        return UnknownIds(marks=text == "error", row=None)
    kind, _, number = text.partition("=")
    if kind == "row" and number.isdecimal():
        return UnknownIds(marks=False, row=int(number))
    raise InputError(f"--unknown-ids {text!r} is not a policy", hint="use error, zero, or row=N with N a row of every table")


def fuse(emit: Emit, tables: Sequence[ir.Value], unknown: UnknownIds, stored: Mapping[ir.Value, str]) -> dict[ir.Value, FusedTable]:
    """One FusedTable for each dtype, dim, zero vector and way to store rows, registered in the graph; the answer maps tables to theirs.

    The initializer's data is an ExternalTensor in TABLES_FILE that is yet to be written: repository code lays
    `sources` and the zero row there. `stored`: how each table's rows are to be stored. Raises InputError for an empty
    table, or one without the row that unknown ids read.
    """
    groups: dict[tuple[ir.DataType, tuple[int, ...], str], list[ir.Value]] = {}
    for table in dict.fromkeys(tables):
        shape = table_shape(table)
        assert shape is not None and table.const_value is not None
        if 0 in shape:
            raise InputError(
                f"table {table.name!r} is empty: {shape[0]} rows x {shape[1]}",
                hint="give the model its trained tables before it is exported",
            )
        if unknown.row is not None and unknown.row >= shape[0]:
            raise InputError(
                f"--unknown-ids row={unknown.row}: table {table.name!r} has {shape[0]} rows", hint=f"choose a row below {shape[0]}, or zero"
            )
        zeros = zero_vector(table, needed=not unknown.marks and unknown.row is None)
        groups.setdefault((table.const_value.dtype, zeros, stored[table]), []).append(table)
    fused: dict[ir.Value, FusedTable] = {}
    offset = 0
    for (dtype, zeros, stored_as), members in groups.items():
        dim = len(zeros)
        bases: dict[ir.Value, int] = {}
        rows = 0
        for table in members:
            bases[table] = rows
            rows += (table_shape(table) or (0, 0))[0]
        kind = dtype.name if stored_as == TRITON[dtype.name] else stored_as
        name = emit.names.fresh(f"tables_{kind.lower()}_{dim}")
        length = (rows + 1) * dim * dtype.itemsize
        tensor = ir.ExternalTensor(TABLES_FILE, offset, int(length), dtype, shape=ir.Shape([rows + 1, dim]), name=name)
        offset += whole_pages(int(length))
        value = ir.val(name, dtype=dtype, shape=[rows + 1, dim], const_value=tensor)
        emit.graph.register_initializer(value)
        whole = FusedTable(value, dim, tuple(members), bases, rows, zeros, stored_as)
        fused.update(dict.fromkeys(members, whole))
    return fused


def fallback(fused: FusedTable, table: ir.Value, unknown: UnknownIds) -> int:
    """The fused row that an unknown id of `table` reads."""
    return fused.zero_row if unknown.row is None else fused.bases[table] + unknown.row
