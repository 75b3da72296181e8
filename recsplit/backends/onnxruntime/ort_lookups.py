"""Unknown ids: from a row that the embedding model marked to words that name input, column, id and table."""

import json
from dataclasses import dataclass
from typing import Any

UNKNOWN_IDS = "unknown_ids"
PARAMETER = "recsplit.lookups"
#: A refusal ends in JSON that a client reads: {TAIL: {"row": of the request, "position": as in the marks, "id": ...}}.
TAIL = "unknown_id"
#: No client means this one: it is what a cast makes of NaN and infinity, and what the graph gives for lengths that don't fit.
NO_ID = -(2**63)


@dataclass(frozen=True)
class Lookup:
    """One lookup: the fields of recsplit.plan.plan.Lookup that say where an id came from, and what its table takes."""

    input: str
    columns: list[int] | None
    table: str
    rows: int
    shift: int
    direct: bool
    width: int

    def explain(self, offset: int, number: int) -> str:
        """What is wrong with `number`, the id of the input (or the row computed from it) at position `offset` of this lookup."""
        column = "" if self.columns is None else f" column {self.columns[0] + offset}"
        hint = " (NaN, infinity, or lengths that do not fit the values)" if number == NO_ID else ""
        what, shift = (f"id {number}{hint}", self.shift) if self.direct else (f"row {number}{hint}, computed from the input,", 0)
        return f"input '{self.input}'{column}: {what} is outside table '{self.table}' ({-shift}..{self.rows - 1 - shift})"


class Lookups:
    """The lookups of one embedding model, in the order in which positions of `unknown_ids` count their widths."""

    def __init__(self, text: str) -> None:
        """Read the JSON list of the parameter; ValueError where it is none."""
        try:
            self.lookups = [Lookup(**item) for item in json.loads(text)]
        except (ValueError, TypeError) as error:
            raise ValueError(f"parameter '{PARAMETER}' is not a list of lookups: {error}") from error

    @classmethod
    def from_config(cls, config: dict[str, Any], session: Any) -> "Lookups | None":
        """None where the config names no lookups or the model marks no rows: then no row is refused."""
        parameter = config.get("parameters", {}).get(PARAMETER)
        if parameter is None or UNKNOWN_IDS not in [output.name for output in session.get_outputs()]:
            return None
        return cls(parameter["string_value"])

    def refusal(self, marks: Any) -> str | None:
        """Why one request is refused, in words and as JSON; None where it isn't.

        `marks` INT64 [rows, 2] = (position, id), position -1 where a row is fine.
        """
        rows = (marks[:, 0] >= 0).nonzero()[0]
        if len(rows) == 0:
            return None
        position, number = (int(value) for value in marks[rows[0]])
        more = f" (and {len(rows) - 1} more rows with unknown ids)" if len(rows) > 1 else ""
        tail = json.dumps({TAIL: {"row": int(rows[0]), "position": position, "id": number}})
        return f"{self._explain(position, number)}, row {rows[0]} of the request{more} {tail}"

    def _explain(self, position: int, number: int) -> str:
        first = 0
        for lookup in self.lookups:
            if position < first + lookup.width:
                return lookup.explain(position - first, number)
            first += lookup.width
        return f"id {number} at position {position} is outside its table"
