"""DeepRecSys's batch sizes, and what its arrivals hide: `python -m recsplit_perf.benchmarks.deeprecsys`. Simulation only.

Latency curves are those that RIBBON's authors measured on one core (shared facts, sections 2d and 4c): MT-WnD on c5.2xlarge and
on c5a, and what they call DIEN. The published pools are RIBBON's best for ResNet50, MT-WND and DIEN, and its bound for them.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from recsplit.capacity import drive
from recsplit.capacity.arrivals import Arrivals, Poisson, PoissonGap
from recsplit.capacity.batch_size import BATCHES, batch_sizes
from recsplit.capacity.search import search
from recsplit.capacity.service import Service, affine
from recsplit.capacity.simulate import Pool
from recsplit.capacity.sizes import HeavyTail, Kairos, Lognormal, Ribbon, Sizes
from recsplit.capacity.workload import LatencyBound
from recsplit.commands.output import progress, show_table
from recsplit_perf.machine import provenance

SERVERS = 40
LOGNORMAL = Lognormal(5.1, 0.2)
CURVES = {"MT-WnD c5": (affine(2.42, 0.0435), 25.0), "DIEN": (affine(1.40, 0.0750), 35.0), "MT-WnD c5a": (affine(2.07, 0.217), 25.0)}
#: Curve, sizes, and what is expected of them: D1, D2, D3 of the acceptance table, and the heavier laws.
CASES: tuple[tuple[str, Sizes], ...] = (
    ("MT-WnD c5", LOGNORMAL), ("MT-WnD c5", Kairos()), ("MT-WnD c5", HeavyTail()), ("DIEN", LOGNORMAL), ("DIEN", Kairos()),
    ("MT-WnD c5a", Kairos()),
)  # fmt: skip
QUERIES = 400_000


@dataclass(frozen=True)
class Case:
    """A pool, its queries, a bound and a rate at which two arrival processes are compared."""

    name: str
    pool: Pool
    sizes: Sizes
    bound: LatencyBound
    rate: float
    split_rows: int | None = None


def _ribbon(name: str, gap_ms: float, bound_ms: float, *servers: tuple[int, Service]) -> Case:
    crew = tuple(service for count, service in servers for _ in range(count))
    return Case(name, Pool("nodes", crew), Ribbon(), LatencyBound(bound_ms, 99), 1000 / gap_ms)


POOLS = (
    _ribbon("RIBBON ResNet50 (4, 0, 5)", 18, 400, (4, affine(26.8, 0.514)), (5, affine(27.8, 0.794))),
    _ribbon("RIBBON DIEN (5, 1, 0)", 2, 30, (5, affine(7.1, 0.0123)), (1, affine(1.5, 0.0734))),
    _ribbon("RIBBON MT-WND (4, 0, 1)", 1.5, 21, (4, affine(3.9, 0.0099)), (1, affine(2.5, 0.0444))),
    Case("DeepRecSys, 4 cores, batch 256", Pool("cores", (CURVES["MT-WnD c5"][0],) * 4), LOGNORMAL, LatencyBound(25, 95), 350, 256),
    Case("DeepRecSys, 40 cores, batch 256", Pool("cores", (CURVES["MT-WnD c5"][0],) * 40), LOGNORMAL, LatencyBound(25, 95), 3500, 256),
)


@click.command()
@click.option("--requests", type=click.IntRange(1000), default=200_000, show_default=True, help="Simulated in each trial of a search.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(requests: int, output: Path | None) -> None:
    """Find the best batch for published latency curves, and compare Poisson arrivals with Poisson gaps."""
    origin = provenance()
    batches = [batch_row(curve, sizes, requests) for curve, sizes in CASES]
    show(batches, "curve sizes bound_ms best_batch rate static_batch static_rate gain", f"{SERVERS} one-core servers, p95 under the bound")
    arrivals = [arrivals_row(case, requests) for case in POOLS]
    show(
        arrivals,
        "pool rate bound_ms gaps_p99_ms poisson_p99_ms gaps_met poisson_met gaps_throughput poisson_throughput",
        "Poisson gaps against a Poisson process",
    )
    speed = {"queries": 1_000_000, "pools": 2, "seconds": speed_s()}
    if output is not None:
        result = {"benchmark": "deeprecsys", **origin, "batch_sizes": batches, "arrivals": arrivals, "speed": speed}
        output.write_text(json.dumps(result, indent=1) + "\n")


def show(rows: list[dict[str, Any]], columns: str, title: str) -> None:
    """Some columns of result rows, as a table."""
    show_table(columns.split(), [[row[column] for column in columns.split()] for row in rows], title=title)


def batch_row(curve: str, sizes: Sizes, requests: int) -> dict[str, Any]:
    """The best batch for one curve and law of sizes, under true Poisson arrivals."""
    service, bound_ms = CURVES[curve]
    with progress(f"{curve}, {sizes.law} sizes", total=len(BATCHES) + 1) as advance:
        comparison = batch_sizes(service, SERVERS, sizes, Poisson(1.0), LatencyBound(bound_ms, 95), requests=requests, advance=advance)
    return {
        "curve": curve,
        "sizes": sizes.law,
        "bound_ms": bound_ms,
        "best_batch": comparison.best.batch,
        "rate": round(comparison.best.throughput.rate, 1),
        "static_batch": comparison.static_batch,
        "static_rate": round(comparison.static.throughput.rate, 1),
        "gain": round(comparison.gain, 3),
        "rates": {
            tried.batch: [round(rate, 1) for rate in (tried.throughput.rate, tried.throughput.low, tried.throughput.high)]
            for tried in comparison.tried
        },
    }


def arrivals_row(case: Case, requests: int) -> dict[str, Any]:
    """One pool under both processes at one rate: p99, share of queries within the bound, and latency-bounded throughput."""
    row: dict[str, Any] = {
        "pool": case.name,
        "rate": round(case.rate, 1),
        "bound_ms": case.bound.bound_ms,
        "percentile": case.bound.percentile,
    }
    laws: dict[str, Arrivals] = {"gaps": PoissonGap(case.rate), "poisson": Poisson(case.rate)}
    with progress(case.name):
        for name, law in laws.items():
            simulated = drive.run([case.pool], case.sizes, law, QUERIES / case.rate, split_rows=case.split_rows, seed=1)
            row[f"{name}_p99_ms"] = round(float(np.percentile(simulated.latency_ms, 99)), 2)
            row[f"{name}_met"] = round(float(100 * (simulated.latency_ms <= case.bound.bound_ms).mean()), 2)
            row[f"{name}_busy"] = round(simulated.pools[case.pool.name].busy_share, 3)
            measure = drive.measure([case.pool], case.sizes, law, case.bound, queries=requests, split_rows=case.split_rows, seed=2)
            row[f"{name}_throughput"] = round(search(measure, case.bound, first=case.rate, precision=0.03, max_trials=20).rate, 1)
    return row


def speed_s() -> float:
    """Seconds that a million queries through an embedding and a dense pool take, at about 70 % of what the pools can do."""
    pools = [Pool("embedding", (affine(1, 0.01),) * 2, 1024), Pool("dense", (affine(0.5, 0.02),) * 2, 1024, after=("embedding",))]
    law = Poisson(0.7 * drive.capacity(pools, LOGNORMAL))
    drive.run(pools, LOGNORMAL, law, 1)  # compiled, or read from numba's cache
    start = time.monotonic()
    drive.run(pools, LOGNORMAL, law, 1e6 / law.rate)
    return round(time.monotonic() - start, 2)


if __name__ == "__main__":
    command()
