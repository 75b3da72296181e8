"""What of the tables remains in the dense model although requests read it by ids: a note for the end of a build."""

from collections.abc import Sequence

from recsplit.disk.files import size_text
from recsplit.graph.cut import Cut
from recsplit.graph.find.other_readers import LARGE_BYTES
from recsplit.plan.plan import Table


def remains(cut: Cut, tables: Sequence[Table]) -> tuple[str, ...]:
    """One note on the share of bytes that stays, naming the largest table and why; none where everything large is cut out."""
    dense_nodes = {node.name for node in cut.dense.graph.all_nodes()}
    left = sorted(
        (item for item in cut.candidates if item.reason and item.by_requests and item.node.name in dense_nodes),
        key=lambda item: item.size_bytes,
    )
    by_table = {item.table: item for item in left if item.size_bytes >= LARGE_BYTES}  # of several readers, the one that reads most
    if not by_table:
        return ()
    left_bytes = sum(item.size_bytes for item in by_table.values())
    all_bytes = left_bytes + sum(table.size_bytes for table in tables)
    largest = max(by_table.values(), key=lambda item: item.size_bytes)
    others = f", the largest of {len(by_table)}" if len(by_table) > 1 else ""
    share = f"{100 * left_bytes / all_bytes:.3g} %"
    what = f"{largest.kind} {largest.node.name!r} on {largest.table!r} ({size_text(largest.size_bytes)}{others}): {largest.reason}"
    sizes = f"{size_text(left_bytes)} of {size_text(all_bytes)}"
    return (f"Note: {share} of the bytes of tables that requests read by ids, {sizes}, stays in the dense model. {what}",)
