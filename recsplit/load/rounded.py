"""The source with its rows rounded as they will be stored: what the parts are proved against, and how far it is from the source itself.

A build whose tables are stored in fewer bits can't answer as its source does; it can answer as the source would with those very rows. That
is what the proof shows, as strictly as of any other build. How much the rows were changed is known for each number of them: no more than
half a step of its row, which is checked here, for all.
"""

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsplit.disk.files import FULL, disk_full
from recsplit.errors import InputError, RecsplitError
from recsplit.graph.flow import table_shape
from recsplit.graph.source_tables import SourceTable, source_table
from recsplit.load import Loaded
from recsplit.load.arrays import Array, SourceRun
from recsplit.plan.plan import Loss
from recsplit.rendering.progress import Progress, in_silence, step
from recsplit.rows import stored as narrow

#: Rounded tables that are larger together lie in a file, for the system to keep as much of in memory as there is room for.
_IN_MEMORY_BYTES = 1 << 28
#: Of the arithmetic that reads a scaled row: a product and a sum in FP32, of numbers up to the row's largest and its range.
_ARITHMETIC = 2.0**-22


@dataclass(frozen=True)
class Rounded:
    """The rows of some tables as they will be read, FP32 [rows, dim] by the source's name of each, and what rounding changed."""

    weights: dict[str, Array]
    losses: tuple[Loss, ...]


def rounded(tables: Sequence[tuple[SourceTable, str]], folder: Path, progress: Progress) -> Rounded:
    """Round the rows of tables that are stored in fewer bits. `folder`: where a file without a name may lie meanwhile.

    Raises InputError where a number can't be stored so.
    """
    weights: dict[str, Array] = {}
    losses = []
    total = sum(table.rows * table.dim * 4 for table, _ in tables)
    advance = step(progress, "rounding tables", total)
    for table, stored in tables:
        rows = room(table, total, folder)
        losses.append(round_into(rows, table, stored, advance))
        weights.update(dict.fromkeys(table.weights, rows))
    return Rounded(weights, tuple(losses))


def round_into(rows: NDArray[np.float32] | None, table: SourceTable, stored: str, advance: Callable[[int], None] = lambda _: None) -> Loss:
    """Round all rows of a table, into `rows` where it is given; what that changed."""
    largest = step_largest = squares = power = 0.0
    for first, numbers in table.blocks():
        try:
            encoded = narrow.encode(numbers, stored)
        except ValueError as error:
            raise InputError(f"table {table.name!r} can't be stored as {stored}: {error}", hint="store it as it is") from error
        decoded = _as_vectors(narrow.decode(encoded, table.dim, stored), table, stored)
        gap = np.abs(decoded.astype(np.float64) - numbers)
        half_steps = narrow.half_steps(encoded, stored).astype(np.float64)
        arithmetic = _ARITHMETIC if table.dtype == "FP32" else _ARITHMETIC + 2.0**-11  # vectors in half precision are rounded once more
        allowed = half_steps + arithmetic * (np.abs(numbers).max(axis=1, initial=0) + 512 * half_steps) + 2.0**-25
        if (gap.max(axis=1, initial=0) > allowed).any():
            raise RecsplitError(
                f"rounding table {table.name!r} to {stored} changed a number by more than half a step", hint="report this as a fault"
            )
        largest, step_largest = max(largest, float(gap.max(initial=0))), max(step_largest, float(half_steps.max(initial=0)))
        squares, power = squares + float(np.square(gap).sum()), power + float(np.square(numbers, dtype=np.float64).sum())
        if rows is not None:
            rows[first : first + len(numbers)] = decoded
        advance(4 * numbers.size)
    count = table.rows * table.dim
    return Loss(table.name, table.weights, stored, largest, step_largest, math.sqrt(squares / count), math.sqrt(power / count))


def _as_vectors(numbers: NDArray[np.float32], table: SourceTable, stored: str) -> NDArray[np.float32]:
    """Numbers as vectors of the table's type have them. Raises InputError where that has none."""
    if table.dtype != "FP16":
        return numbers
    with np.errstate(over="ignore"):
        halves = numbers.astype(np.float16).astype(np.float32)
    if not np.isfinite(halves).all():
        raise InputError(f"table {table.name!r} can't be stored as {stored}: its numbers reach the end of FP16", hint="store it as it is")
    return halves


def room(table: SourceTable, total: int, folder: Path) -> NDArray[np.float32]:
    """Room for the numbers of a table, one of several that take `total` bytes together. Raises RecsplitError where the disk has none."""
    size = table.rows * table.dim * 4
    if total <= _IN_MEMORY_BYTES:
        return np.empty((table.rows, table.dim), np.float32)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # a hole that can't be filled later would end the process
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise disk_full(folder, needed=size, free=shutil.disk_usage(folder).free) from error
        return np.memmap(file, np.float32, "r+", shape=(table.rows, table.dim))


def with_rounded_rows(loaded: Loaded, losses: Sequence[Loss], folder: Path, progress: Progress = in_silence) -> SourceRun:
    """The source of a build that was made before, with its rows rounded as that build stores them; `losses` are the plan's.

    Raises InputError where the source has no such table.
    """
    narrowed = []
    for loss in losses:
        value = next((item for name in loss.weights if (item := loaded.model.graph.initializers.get(name)) is not None), None)
        if value is None or table_shape(value) is None:
            raise InputError(f"the source has no table {loss.table!r}", hint="is it the source of this build?")
        narrowed.append((source_table(value, ()), loss.stored))
    return loaded.run.with_weights(rounded(narrowed, folder, progress).weights) if narrowed else loaded.run
