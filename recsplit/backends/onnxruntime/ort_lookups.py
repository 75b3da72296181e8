"""Unknown ids: from a row that the embedding model marked to words that name input, column, id and table."""

import bisect
import itertools
import json
from typing import Any

UNKNOWN_IDS = "unknown_ids"
PARAMETER = "recsplit.lookups"


class Lookups:
    """The lookups of one embedding model, in the order in which positions of `unknown_ids` count their columns.

    Each is a mapping {"input", "columns", "table", "rows", "shift", "direct", "width"}; see recsplit.plan.Lookup.
    """

    def __init__(self, lookups: list[dict[str, Any]]) -> None:
        self.lookups = lookups
        self.ends = list(itertools.accumulate(int(lookup["width"]) for lookup in lookups))

    @classmethod
    def from_config(cls, config: dict[str, Any], session: Any) -> "Lookups | None":
        """None where the config names no lookups or the model marks no rows: then no row is refused."""
        parameter = config.get("parameters", {}).get(PARAMETER)
        if parameter is None or UNKNOWN_IDS not in [output.name for output in session.get_outputs()]:
            return None
        return cls(json.loads(parameter["string_value"]))

    def explain(self, marks: Any) -> str | None:
        """What is wrong in one request: `marks` INT64 [rows, 2] = (position or -1, id). None where nothing is."""
        rows = (marks[:, 0] >= 0).nonzero()[0]
        if len(rows) == 0:
            return None
        position, row_id = (int(value) for value in marks[rows[0]])
        which = bisect.bisect_right(self.ends, position)
        lookup = self.lookups[which]
        where = f"input '{lookup['input']}'"
        if lookup["columns"] is not None:
            where += f" column {lookup['columns'][0] + position - (self.ends[which] - lookup['width'])}"
        first, last = (-lookup["shift"], lookup["rows"] - 1 - lookup["shift"]) if lookup["direct"] else (0, lookup["rows"] - 1)
        what = f"id {row_id}" if lookup["direct"] else f"row {row_id}, computed from the input,"
        more = f" (and {len(rows) - 1} more rows with unknown ids)" if len(rows) > 1 else ""
        return f"{where}: {what} is outside table '{lookup['table']}' ({first}..{last}), row {rows[0]} of the request{more}"
