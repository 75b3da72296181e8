"""What a model holds: every candidate for a lookup, and why it is one or not."""

from dataclasses import dataclass

from recsplit.graph.find.candidates import Candidate
from recsplit.rendering.notebook import html_table

#: What is told of a candidate; `reason` is empty for a lookup.
COLUMNS = ("table", "rows", "dim", "bytes", "operator", "node", "cut", "reason")


@dataclass(frozen=True, repr=False)
class Inspection:
    """The candidates of a model, in the order of its graph.

    `by_onnxruntime`: why recsplit's engine would leave the lookups to ONNX Runtime; "" where it does them itself, None without a cut.
    """

    origin: str
    candidates: tuple[Candidate, ...]
    by_onnxruntime: str | None

    @property
    def lookups(self) -> tuple[Candidate, ...]:
        """Those that would be cut out."""
        return tuple(candidate for candidate in self.candidates if candidate.is_lookup)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that lookups read."""
        return tuple(dict.fromkeys(candidate.table for candidate in self.lookups))

    def rows(self) -> list[tuple[str, int, int, int, str, str, str, str]]:
        """One row a candidate, by COLUMNS."""
        return [
            (
                item.table,
                item.rows,
                item.dim,
                item.size_bytes,
                item.kind,
                item.node.name or "",
                "yes" if item.is_lookup else "no",
                item.reason,
            )
            for item in self.candidates
        ]

    def __str__(self) -> str:
        return f"{len(self.lookups)} of {len(self.candidates)} candidates are lookups, on {len(self.tables)} tables{self._engine()}"

    def _engine(self) -> str:
        if self.by_onnxruntime is None:
            return ""
        if self.by_onnxruntime:
            return f"; recsplit's engine has ONNX Runtime do them: {self.by_onnxruntime}"
        return "; recsplit's engine does them itself"

    def __repr__(self) -> str:
        return f"<Inspection of {self.origin}: {self}>"

    def _repr_html_(self) -> str:
        return html_table(f"{self.origin}: {self}", COLUMNS, self.rows())
