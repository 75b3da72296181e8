"""Counting reads: from what clients send to reads of each row of each table.

The plan says which row an id reads (Lookup: input, columns, shift), so no model runs. Memory is 4 bytes a row of all tables, and a chunk
of the trace.
"""

import itertools
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity import ids
from recsplit.capacity.ids import Skew
from recsplit.errors import InputError
from recsplit.partition.access.frequencies import WIDEST, About, AccessProfile, Counts
from recsplit.plan.plan import Bags, Lookup, Plan

#: Arrays of clients' inputs by name, first dimension = rows; or of row numbers, as ROWS + table.
Inputs = Mapping[str, NDArray[np.generic]]

#: A trace's arrays of this prefix hold row numbers of the table that follows, [rows, any], whatever the clients sent.
ROWS = "rows/"


class Counter:
    """Counts of reads, to which chunks of a trace are added."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rows = 0
        self.unknown = 0
        self._tables: dict[str, Counts] = {table.name: np.zeros(table.rows, dtype=np.uint32) for table in plan.tables}
        self._most = dict.fromkeys(self._tables, 0)  # no count of the table can be larger
        self._bags = {bags.values: bags for bags in plan.bags}
        policy = plan.unknown_ids
        self._instead = int(policy.removeprefix("row=")) if policy.startswith("row=") else None

    def add(self, inputs: Inputs) -> None:
        """Count a chunk: each lookup's rows, in every row of the chunk.

        Raises InputError where an input is missing or has another shape than the clients', and where it doesn't hold whole numbers.
        """
        self.rows += len(next(iter(inputs.values())))
        row_tables = {name.removeprefix(ROWS) for name in inputs if name.startswith(ROWS)}
        for table in row_tables:
            self._count(table, _whole(inputs[ROWS + table], ROWS + table))
        for lookup in self.plan.lookups:
            if lookup.table not in row_tables:
                ids = self._ids(lookup, inputs)
                low, limit = max(0, -lookup.shift), lookup.limit
                fine = ids >= low if limit is None else (ids >= low) & (ids < limit)
                self._count(lookup.table, (ids if fine.all() else ids[fine]) + lookup.shift, outside=int(len(ids) - fine.sum()))

    def add_drawn(self, law: Skew, rows: int, rng: np.random.Generator, advance: Callable[[int], None]) -> None:
        """Count `rows` rows of clients whose ids follow a law, without making the ids; `advance` is told how many rows are done.

        As with ids made by samples.by_law, but for those of different tables being drawn apart. Only where `drawable`.
        """
        self.rows += rows
        readers = _readers(self.plan)
        done = 0
        for number, lookups in enumerate(readers, start=1):
            low = max(max(0, -lookup.shift) for lookup in lookups)
            limit = min(lookup.limit for lookup in lookups if lookup.limit is not None)
            for drawn, times in ids.counts(law, limit - low, rows * lookups[0].width, rng):
                read = times > 0
                for lookup in lookups:
                    self._count(lookup.table, drawn[read] + low + lookup.shift, times=times[read])
            advance(rows * number // len(readers) - done)
            done = rows * number // len(readers)

    def profile(self, query_size: float, sources: tuple[str, ...]) -> AccessProfile:
        """What was counted so far, in queries of `query_size` rows. Raises InputError where that is less than one query."""
        queries = round(self.rows / query_size)
        if queries < 1:
            raise InputError(
                f"{self.rows} rows are less than one query of {query_size:g}", hint="a longer trace, or a smaller --query-size"
            )
        return AccessProfile(About(self.plan.name, queries, self.rows, self.unknown, sources), self._tables)

    def _count(self, table: str, rows: NDArray[np.int64], outside: int = 0, times: NDArray[np.int64] | None = None) -> None:
        counts = self._tables[table]
        inside = (rows >= 0) & (rows < len(counts))
        if not inside.all():
            outside += int(len(rows) - inside.sum()) if times is None else int(times[~inside].sum())
            rows, times = rows[inside], times if times is None else times[inside]
        self.unknown += outside
        extra = outside if self._instead is not None else 0
        added = (len(rows) if times is None else int(times.sum())) + extra
        self._most[table] += added
        if self._most[table] > WIDEST and counts.dtype == np.uint32:
            self._most[table] = int(counts.max()) + added
            if self._most[table] > WIDEST:
                counts = self._tables[table] = counts.astype(np.uint64)
        np.add.at(counts, rows, counts.dtype.type(1) if times is None else times.astype(counts.dtype))
        if self._instead is not None:
            counts[self._instead] += counts.dtype.type(extra)

    def _ids(self, lookup: Lookup, inputs: Inputs) -> NDArray[np.int64]:
        """The ids that a lookup is given, int64 [n]."""
        if not lookup.direct:
            raise InputError(
                f"table {lookup.table!r} is read by computed ids (lookup {lookup.name!r}): the plan can't tell its rows",
                hint=f"give row numbers of the table in the trace, as an array {ROWS}{lookup.table}",
            )
        (name,) = lookup.inputs
        array = _whole(_taken(inputs, name), name)
        bags = self._bags.get(name)
        if bags is not None:
            return _ragged(lookup, bags, array, _whole(_taken(inputs, bags.lengths), bags.lengths))
        if lookup.columns is not None and array.ndim > 1:
            first, last = lookup.columns
            array = array.reshape(len(array), -1)
            if array.shape[1] < last:
                raise InputError(f"input {name!r} has {array.shape[1]} columns in the trace, and table {lookup.table!r} reads up to {last}")
            array = array[:, first:last]
        return array.reshape(-1)


def drawable(plan: Plan, rows: int) -> bool:
    """Whether `Counter.add_drawn` can count so many rows, in less time than their ids could be made and counted.

    It takes lookups that say from which columns they read, and no columns that overlap; and it takes a moment for every row of a table.
    """
    readers = _readers(plan)
    tables = {table.name: table.rows for table in plan.tables}
    plain = not plan.bags and all(lookup.direct and lookup.limit is not None for lookup in plan.lookups)
    spans = sorted((first.inputs, first.columns or (0, first.width)) for first, *_ in readers)
    apart = all(one[0] != other[0] or one[1][1] <= other[1][0] for one, other in itertools.pairwise(spans))
    id_count = sum(rows * first.width for first, *_ in readers)
    return plain and apart and id_count > sum(tables[lookup.table] for lookup in plan.lookups)


def _readers(plan: Plan) -> list[list[Lookup]]:
    """The lookups, those together that read the same ids."""
    lookups_by_ids: dict[tuple[tuple[str, ...], tuple[int, int] | None], list[Lookup]] = {}
    for lookup in plan.lookups:
        lookups_by_ids.setdefault((lookup.inputs, lookup.columns), []).append(lookup)
    return list(lookups_by_ids.values())


def needed(plan: Plan, present: set[str]) -> list[str]:
    """The arrays that a trace with the arrays `present` is read for. Raises InputError where one that must be there isn't."""
    bags = {one.values: one for one in plan.bags}
    array_names: dict[str, None] = {}
    tables = {table.name for table in plan.tables}
    for name in sorted(present):
        if name.startswith(ROWS):
            if name.removeprefix(ROWS) not in tables:
                raise InputError(f"the trace has {name!r}, and there is no such table", hint=f"tables: {', '.join(sorted(tables))}")
            array_names[name] = None
    for lookup in plan.lookups:
        if ROWS + lookup.table in present:
            continue
        if not lookup.direct:
            raise InputError(
                f"table {lookup.table!r} is read by computed ids (lookup {lookup.name!r}): the plan can't tell its rows",
                hint=f"give row numbers of the table in the trace, as an array {ROWS}{lookup.table}",
            )
        for name in (*lookup.inputs, *(bags[name].lengths for name in lookup.inputs if name in bags)):
            if name not in present:
                raise InputError(f"the trace has no input {name!r}, which table {lookup.table!r} is read by", hint=_holds(present))
            array_names[name] = None
    return list(array_names)


def _holds(present: set[str]) -> str:
    return f"it holds {', '.join(sorted(present)[:10]) or 'nothing'}"


def _taken(inputs: Inputs, name: str) -> NDArray[np.generic]:
    if name not in inputs:
        raise InputError(f"the trace has no input {name!r}", hint=_holds(set(inputs)))
    return inputs[name]


def _whole(array: NDArray[np.generic], name: str) -> NDArray[np.int64]:
    """The same as int64. Raises InputError for anything but whole numbers."""
    if array.dtype.kind == "f" and not np.array_equal(array, np.trunc(array)):  # a NaN is unequal to itself
        raise InputError(f"input {name!r} has numbers that aren't whole in the trace: expected ids")
    if array.dtype.kind not in "iubf":
        raise InputError(f"input {name!r} is {array.dtype} in the trace: expected ids")
    whole = array.astype(np.int64, copy=False)
    return whole.reshape(-1) if name.startswith(ROWS) else whole


def _ragged(lookup: Lookup, bags: Bags, values: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ids in a lookup's bags: of row r, feature f they lie behind those of the features before it."""
    if values.ndim != 2 or lengths.shape != (len(values), len(bags.features)) or (lengths < 0).any():
        raise InputError(
            f"inputs {bags.values!r} {list(values.shape)} and {bags.lengths!r} {list(lengths.shape)} don't fit in the trace",
            hint=f"expected ids [rows, slots] and lengths [rows, {len(bags.features)}], which say how many ids each feature has",
        )
    first, last = lookup.columns if lookup.columns is not None else (0, len(bags.features))
    ends = np.cumsum(lengths, axis=1)
    if ends[:, -1].max(initial=0) > values.shape[1]:
        raise InputError(f"input {bags.lengths!r} tells of more ids than {bags.values!r} has slots in the trace")
    start = ends[:, first - 1 : first] if first else np.zeros((len(values), 1), dtype=np.int64)
    slot = np.arange(values.shape[1])
    return values[(slot >= start) & (slot < ends[:, last - 1 : last])]
