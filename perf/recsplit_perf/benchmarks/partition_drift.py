"""What drifting heat costs a partition, and what updating it saves: `python -m recsplit_perf.benchmarks.partition_drift`.

One table of ElasticRec's RM1, partitioned by its heat. Then a share of the rows, drawn at random, deal their heat among each other anew:
what the old partition costs, how much of its target it still carries, and which moves pay within an hour, a day and a week.
"""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from recsplit.commands.output import progress, show_table
from recsplit.partition import algorithms, cost, drift
from recsplit.partition.access.frequencies import Counts
from recsplit.partition.drift import Pay
from recsplit.partition.heat import from_counts
from recsplit.plan.plan import Table
from recsplit_perf.machine import provenance

MOVED = (0.0, 0.01, 0.05, 0.2, 1.0)
HOURS = (1.0, 24.0, 168.0)
GATHERS = 128
TABLE = "t"
COLUMNS = ("moved", "carried_qps", "hours", "kept_gb", "updated_gb", "fresh_gb", "copied_gb", "rows_moved", "order")


@click.command()
@click.option("--rows", type=click.IntRange(100), default=20_000_000, show_default=True, help="Of the table, 32 floats each.")
@click.option("--queries", type=click.IntRange(1), default=780_000, show_default=True, help="That were counted, of 128 rows each.")
@click.option("--alpha", type=float, default=1.05, show_default=True, help="Of the accesses' Zipf law.")
@click.option("--qps", type=float, default=100.0, show_default=True, help="That the partition is for.")
@click.option("--copy-hours", type=float, default=1.0, show_default=True, help="A copied byte costs as much as holding it so long.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(rows: int, queries: int, alpha: float, qps: float, copy_hours: float, output: Path | None) -> None:
    """What an old partition loses as heat moves, and what moving its boundaries costs and saves."""
    origin = provenance()
    cases = measure(rows, queries, alpha, qps, copy_hours)
    show_table(COLUMNS, [[case[column] for column in COLUMNS] for case in cases], title=f"{rows:,} rows, for {qps:g} queries/s")
    if output is not None:
        settings = {"rows": rows, "queries": queries, "alpha": alpha, "qps": qps, "copy_hours": copy_hours}
        output.write_text(json.dumps({"benchmark": "partition_drift", **origin, **settings, "cases": cases}, indent=1) + "\n")


def measure(rows: int, queries: int, alpha: float, qps: float, copy_hours: float) -> list[dict[str, Any]]:
    """One row for each share of rows that moved and each number of hours."""
    rng = np.random.default_rng(0)
    table = Table(TABLE, rows, 32, "FP32", "FP32", rows * 128)
    asked = cost.CostSettings(qps)
    heat = rng.permutation(np.arange(1, rows + 1, dtype=np.float64) ** -alpha)
    heat *= queries * GATHERS / heat.sum()
    was = counted(heat, rng)
    old = algorithms.partition("rm1", [from_counts(table, was, queries, 1.0)], asked, "whole")
    records = []
    with progress("Moving heat", total=len(MOVED) * (len(HOURS) + 1)) as advance:
        for share in MOVED:
            now = counted(moved(heat, share, rng), rng)
            fresh = algorithms.partition("rm1", [from_counts(table, now, queries, 1.0)], asked, "whole")
            advance(1)
            for hours in HOURS:
                update = drift.update(
                    old, [table], {TABLE: was}, {TABLE: now}, queries, queries, {TABLE: 1.0}, asked, Pay(hours, copy_hours)
                )
                (table_moved,) = update.tables
                gigabytes = [size / 1e9 for size in (update.kept_cost, update.cost, fresh.cost, update.copied_bytes)]
                figures = (share, update.carried_qps, hours, *gigabytes, table_moved.rows, table_moved.order)
                records.append(dict(zip(COLUMNS, figures, strict=True)))
                advance(1)
    return records


def counted(heat: NDArray[np.float64], rng: np.random.Generator) -> Counts:
    """Reads of each row, where `heat` are their means."""
    return rng.poisson(heat).astype(np.uint32)


def moved(heat: NDArray[np.float64], share: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """The same heat, permuted among a random share of the rows."""
    chosen = np.flatnonzero(rng.random(len(heat)) < share)
    new_heat = heat.copy()
    new_heat[chosen] = heat[rng.permutation(chosen)]
    return new_heat


if __name__ == "__main__":
    command()
