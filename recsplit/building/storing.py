"""How the rows of each table are to be stored: what the user wished, held against what can be."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsplit.accuracy.ranking import Measure, Quality
from recsplit.errors import InputError
from recsplit.graph.source_tables import SourceTable
from recsplit.load.arrays import SourceRun
from recsplit.plan.plan import Loss
from recsplit.rendering.progress import Progress, in_silence
from recsplit.rows import stored as narrow
from recsplit.rows.stored import NARROWER

#: As people write them, and as the plan does.
DTYPES = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16", "int8": "INT8", "int4": "INT4"}
_SAMPLED_ROWS = 1000
_SHOWN = 5


@dataclass(frozen=True)
class Wish:
    """One --table-dtype: tables whose names match `pattern` (None: all) are to be stored as `stored`."""

    pattern: str | None
    stored: str

    def means(self, table: str) -> bool:
        """Whether the table of this name is meant; * and ? stand for letters, nothing else does."""
        if self.pattern is None:
            return True
        letters = {"*": ".*", "?": "."}
        return re.fullmatch("".join(letters.get(letter) or re.escape(letter) for letter in self.pattern), table, re.DOTALL) is not None


@dataclass(frozen=True)
class Storing:
    """What the user asked for: wishes, or a budget in bytes for all rows, and labelled rows to choose by and to tell the accuracy on.

    `folder`: where rounded tables may lie meanwhile, in a file without a name.
    """

    wishes: tuple[Wish, ...] = ()
    budget_bytes: int | None = None
    evaluation: Path | None = None
    folder: Path = Path()
    progress: Progress = in_silence


AS_THEY_ARE = Storing()


def wish(text: str) -> Wish:
    """Read DTYPE or NAME=DTYPE, of which NAME may hold * and ?. Raises InputError for anything else."""
    pattern, equals, dtype = text.rpartition("=")
    if dtype.lower() not in DTYPES or (equals and not pattern):
        raise InputError(f"--table-dtype {text!r} is none", hint=f"DTYPE or NAME=DTYPE, where DTYPE is one of {', '.join(DTYPES)}")
    return Wish(pattern if equals else None, DTYPES[dtype.lower()])


def by_wishes(wishes: Sequence[Wish], tables: Sequence[SourceTable], run: SourceRun, notes: list[str]) -> list[str]:
    """How each table is to be stored; the last wish that names it counts. What asks for all tables leaves out those that can't be, and
    why goes to `notes`.

    Raises InputError where a wish names no table, or one that can't be stored so.
    """
    for item in wishes:
        if item.pattern is not None and not any(item.means(table.name) for table in tables):
            raise InputError(f"--table-dtype names {item.pattern!r}, and no table is called so", hint=f"they are {_names(tables)}")
    chosen = []
    for table in tables:
        last = next((item for item in reversed(wishes) if item.means(table.name)), None)
        if last is None or last.stored == table.dtype:
            chosen.append(table.dtype)
            continue
        reason = why_not(table, last.stored, run)
        if reason and last.pattern is not None:
            raise InputError(f"table {table.name!r} can't be stored as {last.stored}: {reason}", hint="leave it out of --table-dtype")
        if reason:
            notes.append(f"Note: table {table.name!r} stays {table.dtype}: {reason}")
        chosen.append(table.dtype if reason else last.stored)
    return chosen


def why_not(table: SourceTable, stored: str, run: SourceRun) -> str:
    """Why a table can't be stored so; "" where it can. Reads all of it.

    What is proved is that the parts answer as the source does with its rows rounded; so these must be weights of the source.
    """
    if stored not in NARROWER.get(table.dtype, ()):
        return f"it holds {table.dtype}, which that is not narrower than" if table.dtype in NARROWER else f"it holds {table.dtype}"
    if table.other_reader:
        return f"{table.other_reader} reads it too, with its numbers as they are"
    for name in table.weights:
        weight = run.weight(name)
        if weight is None or weight.shape != (table.rows, table.dim):
            return f"the source can't be run with other numbers in {name!r}: it is no initializer, parameter or stored buffer of its own"
        rows = np.unique(np.linspace(0, table.rows - 1, _SAMPLED_ROWS).astype(np.int64))
        if not all(np.array_equal(np.asarray(weight[row], np.float32), table.numbers(row, row + 1)[0], equal_nan=True) for row in rows):
            return f"the source's {name!r} has other numbers: the table is made of them"
    if not all(narrow.fits(numbers, stored) for _, numbers in table.blocks()):
        return f"a number is infinite, NaN or beyond what {'BF16' if stored == 'BF16' else 'FP16'} reaches"
    return ""


def words(losses: Sequence[Loss], quality: Quality | None) -> tuple[str, ...]:
    """What the user should know of what rounding changed."""
    texts = [
        f"{loss.table} is stored as {loss.stored}: no number is off by more than {loss.largest:.2g} (half a step of its row), "
        f"{loss.rms:.2g} in the mean, where numbers are {loss.rms_numbers:.2g}"
        for loss in losses[:_SHOWN]
    ]
    if len(losses) > _SHOWN:
        texts.append(f"and {len(losses) - _SHOWN} more tables are stored in fewer bits; the plan says what each loses")
    if losses:
        texts.append("The source means the source with these rows so rounded, wherever parts are compared with it.")
    if quality is not None:
        texts += [_measure_words(measure, quality.rows, bool(losses)) for measure in quality.measures]
    return tuple(texts)


def _measure_words(measure: Measure, rows: int, is_rounded: bool) -> str:
    interval = f"95 % interval {measure.low:.5f} to {measure.high:.5f}"
    if not is_rounded:
        return f"{measure.name} on {rows:,} rows: {measure.exact:.5f} ({interval}); no table is stored in fewer bits"
    return (
        f"{measure.name} on {rows:,} rows: {measure.exact:.5f} by the source, {measure.rounded:.5f} rounded ({interval}), a change of "
        f"{measure.change:+.1e} (95 % interval {measure.change_low:+.1e} to {measure.change_high:+.1e})"
    )


def _names(tables: Sequence[SourceTable]) -> str:
    names = [table.name for table in tables]
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
