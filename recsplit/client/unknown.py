"""Ids outside their tables: from what a server says about them to one error with row, position and id.

Two ways lead here. A repository on NVIDIA's onnxruntime backend answers, and marks the rows in the output
`unknown_ids`; on recsplit's own backend the request fails, and its message names the first such id.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import InputError
from recsplit.plan.plan import UNKNOWN_IDS

OnUnknown = Literal["error", "mark"]

#: Row of the query, position and id.
Mark = tuple[int, int, int]

# As in recsplit/backends/onnxruntime/ort_lookups.py: what NaN is as an id, and what stands for wrong lengths.
NO_ID = -(2**63)

# What recsplit/backends/onnxruntime/ort_lookups.py ends a refusal with; Triton puts the names of the models that failed in front.
TAIL = "unknown_id"


@dataclass(frozen=True)
class UnknownId:
    """One id outside its table: the first of its row. `position` counts the lookups' columns."""

    row: int
    position: int
    id: int
    description: str


class UnknownIds(InputError):
    """The query holds ids outside their tables; `unknown_ids` has one entry for each row that the server named."""

    def __init__(self, unknown_ids: Sequence[UnknownId]) -> None:
        more = f" (and {len(unknown_ids) - 1} more rows with unknown ids)" if len(unknown_ids) > 1 else ""
        super().__init__(
            f"{unknown_ids[0].description}, row {unknown_ids[0].row} of the query{more}",
            hint="send ids that the tables have, or build with --unknown-ids zero or --unknown-ids row=N",
        )
        self.unknown_ids = tuple(unknown_ids)


def taken(answer: dict[str, NDArray[Any]]) -> list[Mark]:
    """The marked rows of an answer, whose marks, INT64 [batch, 2] = (position or -1, id), are taken out of it."""
    marks = answer.pop(UNKNOWN_IDS, None)
    if marks is None:
        return []
    return [(int(row), int(marks[row, 0]), int(marks[row, 1])) for row in np.flatnonzero(marks[:, 0] >= 0)]


def error(marks: Sequence[Mark], lookups: Sequence[dict[str, Any]]) -> UnknownIds:
    """The error that says which ids are meant."""
    return UnknownIds([UnknownId(row, position, unknown, describe(position, unknown, lookups)) for row, position, unknown in marks])


def describe(position: int, unknown: int, lookups: Sequence[dict[str, Any]]) -> str:
    """Input, column, id and table of a mark, in the words of recsplit's backend; less of it where the server names no lookups."""
    first = 0
    for lookup in lookups:
        width = int(lookup["width"])
        if position < first + width:
            column = "" if lookup["columns"] is None else f" column {lookup['columns'][0] + position - first}"
            shift = lookup["shift"] if lookup["direct"] else 0
            hint = " (NaN, infinity, or lengths that do not fit the values)" if unknown == NO_ID else ""
            what = f"id {unknown}{hint}" if lookup["direct"] else f"row {unknown}{hint}, computed from the input,"
            return (
                f"input '{lookup['input']}'{column}: {what} is outside table '{lookup['table']}' ({-shift}..{lookup['rows'] - 1 - shift})"
            )
        first += width
    return f"id {unknown} at position {position} is outside its table"


def told(message: str, first_row: int) -> Mark | None:
    """The mark that a server's message ends in; None if it is about something else. `first_row`: of the sub-query."""
    start = message.rfind(f'{{"{TAIL}"')
    if start < 0:
        return None
    try:
        tail, _ = json.JSONDecoder().raw_decode(message, start)
        row, position, unknown = (int(tail[TAIL][key]) for key in ("row", "position", "id"))
    except (ValueError, KeyError, TypeError):  # another server's words
        return None
    return first_row + row, position, unknown
