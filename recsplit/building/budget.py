"""Which tables to store in fewer bits so that all fit a budget: the least loss, as a multiple-choice knapsack.

A table's loss is what rounding it alone changes: with the user's rows, the mean square of the change of their scores; else the mean square
of the change of its numbers over that of the numbers. Changes of tables that are rounded independently add up as squares do.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsplit.accuracy.labelled import Evaluation, Scores, scores
from recsplit.building.storing import why_not
from recsplit.disk.files import size_text
from recsplit.errors import InputError, MissingExtra
from recsplit.graph.source_tables import SourceTable
from recsplit.load.arrays import SourceRun
from recsplit.load.rounded import room, round_into
from recsplit.plan.dtypes import SIZE_BYTES
from recsplit.rendering.progress import Progress, step
from recsplit.rows import stored as narrow

#: BF16 takes as much room as FP16, and is coarser wherever that reaches.
_TRIED = ("FP16", "INT8", "INT4")
#: The solver keeps its bounds to a millionth, so that what it gives may be over the budget; and it ends that near to the best.
_MARGINS, _LARGEST = (0.0, 2e-6, 1e-5), 1e6


@dataclass(frozen=True)
class Choice:
    """One way to store a table: its bytes, and what it loses."""

    stored: str
    size_bytes: int
    loss: float


def choose(
    tables: Sequence[SourceTable], budget_bytes: int, run: SourceRun, evaluation: Evaluation | None, folder: Path, progress: Progress
) -> list[str]:
    """How each table is to be stored. Raises InputError where even the narrowest rows don't fit, MissingExtra where there is no solver."""
    if sum(_size(table, table.dtype) for table in tables) <= budget_bytes:
        return [table.dtype for table in tables]
    ways = [[stored for stored in _TRIED if not why_not(table, stored, run)] for table in tables]
    least = sum(
        min(_size(table, stored) for stored in (table.dtype, *stored_ways)) for table, stored_ways in zip(tables, ways, strict=True)
    )
    if least > budget_bytes:
        raise InputError(
            f"--table-budget is {size_text(budget_bytes)}, and the tables take {size_text(least)} at least",
            hint="a larger budget, or fewer rows",
        )
    advance = step(progress, "weighing what rounding loses", sum(map(len, ways)))
    exact = None if evaluation is None else scores(run, evaluation)
    choices = []
    for table, stored_ways in zip(tables, ways, strict=True):
        of_table = [Choice(table.dtype, _size(table, table.dtype), 0.0)]
        for stored in stored_ways:
            with contextlib.suppress(InputError):  # a number that can't be stored so
                of_table.append(Choice(stored, _size(table, stored), _loss(table, stored, run, evaluation, exact, folder)))
            advance(1)
        choices.append(of_table)
    return cheapest(choices, budget_bytes)


def cheapest(choices: Sequence[Sequence[Choice]], budget_bytes: int) -> list[str]:
    """One choice of each table, together within the budget, with the least sum of losses. Raises InputError where none fits."""
    for margin in _MARGINS:
        chosen = _solved(choices, budget_bytes, margin)
        if chosen and sum(choice.size_bytes for choice in chosen) <= budget_bytes:
            return [choice.stored for choice in chosen]
    narrowest = [min(of_table, key=lambda choice: (choice.size_bytes, choice.loss)) for of_table in choices]
    if sum(choice.size_bytes for choice in narrowest) > budget_bytes:
        raise InputError("no choice of how to store the tables fits --table-budget", hint="a larger budget")
    return [choice.stored for choice in narrowest]


def _solved(choices: Sequence[Sequence[Choice]], budget_bytes: int, margin: float) -> list[Choice]:
    """The best choice of each table within the budget less a share of it, as far as a solver in floating point sees; [] for none."""
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
    except ImportError as error:
        raise MissingExtra("scipy", "capacity", "--table-budget") from error
    every = [choice for of_table in choices for choice in of_table]
    losses = np.array([choice.loss for choice in every])
    largest = float(losses.max())
    sizes = np.array([choice.size_bytes for choice in every], dtype=np.float64)
    one_each = np.zeros((len(choices), len(every)))
    for number, first in enumerate(np.cumsum([0, *map(len, choices[:-1])])):
        one_each[number, first : first + len(choices[number])] = 1
    answer = milp(
        losses * (_LARGEST / largest if largest > 0 else 0.0),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(sizes / budget_bytes, -np.inf, 1 - margin)],
        integrality=np.ones(len(every)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 1e-9},
    )
    return [] if answer.x is None else [choice for choice, share in zip(every, answer.x, strict=True) if share > 0.5]


def _loss(table: SourceTable, stored: str, run: SourceRun, evaluation: Evaluation | None, exact: Scores | None, folder: Path) -> float:
    if evaluation is None or exact is None:
        loss = round_into(None, table, stored)
        return (loss.rms / loss.rms_numbers) ** 2 if loss.rms_numbers else 0.0
    rows = room(table, table.rows * table.dim * 4, folder)
    round_into(rows, table, stored)
    return float(np.square(scores(run.with_weights(dict.fromkeys(table.weights, rows)), evaluation) - exact).mean())


def _size(table: SourceTable, stored: str) -> int:
    return table.rows * narrow.row_bytes(stored, table.dim, SIZE_BYTES[table.dtype])
