"""Whether two load generators see the same server: `python -m recsplit_perf.benchmarks.generators`.

NVIDIA's perf_analyzer and recsplit_perf.traffic.open_loop send requests of one size at one rate to the same server's HTTP port, in
pairs of runs that take turns in who goes first. perf_analyzer counts latency from when a request was really sent; the open loop
from when it was due, and both are shown.
"""

import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

from recsplit.capacity import arrivals, ids, sizes
from recsplit.capacity.search import percentile_ms
from recsplit.capacity.workload import LatencyBound, Workload
from recsplit.commands.output import progress, show_table
from recsplit.plan.plan import Plan
from recsplit.repository.find import find
from recsplit.serving import serve
from recsplit_perf.machine import provenance
from recsplit_perf.perf_analyzer import input_data, perf_analyzer
from recsplit_perf.traffic import live, queries

COLUMNS = (
    "pair",
    "analyzer_per_s",
    "ours_per_s",
    "analyzer_p50_ms",
    "ours_p50_ms",
    "analyzer_p95_ms",
    "ours_p95_ms",
    "ours_p95_due_ms",
    "late_p99_ms",
    "ours_cpu_us",
)
AGREEMENT = 0.05

Distribution = Literal["constant", "poisson"]


@click.command()
@click.argument("repository", type=click.Path(path_type=Path))
@click.option("--url", help="HTTP address of a server that runs; without it the repository is served.")
@click.option("-b", "--batch", type=click.IntRange(1), default=64, show_default=True, help="Rows in a request.")
@click.option("--rate", type=click.FloatRange(1), default=100.0, show_default=True, help="Requests per second.")
@click.option("--distribution", type=click.Choice(["constant", "poisson"]), default="constant", show_default=True, help="Of the arrivals.")
@click.option("--seconds", type=click.FloatRange(0.5), default=15.0, show_default=True, help="Each run.")
@click.option("--pairs", type=click.IntRange(1), default=5, show_default=True, help="Pairs of runs.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(
    repository: Path, url: str | None, batch: int, rate: float, distribution: Distribution, seconds: float, pairs: int, output: Path | None
) -> None:
    """Compare perf_analyzer with the open loop on the model in REPOSITORY."""
    origin = provenance()
    plan = find(repository, None).plan
    analyzer = perf_analyzer.find_or_install(progress)
    with contextlib.ExitStack() as stack:
        if url is None:
            url = stack.enter_context(serve(repository, models=[plan.name])).http_url
        advance = stack.enter_context(progress("Measuring", total=2 * pairs))
        rows = []
        for pair in range(pairs):
            rows.append(measure_pair(analyzer, url, plan, batch, rate, distribution, seconds, pair))
            advance(2)
    show_table(COLUMNS, [[row[column] for column in COLUMNS] for row in rows], title=f"{plan.name}, {batch} rows, {rate:g} requests/s")
    medians = {
        name: float(np.median([row[f"ours_{name}"] / row[f"analyzer_{name}"] for row in rows])) for name in ("per_s", "p50_ms", "p95_ms")
    }
    for name, ratio in medians.items():
        click.echo(
            f"{name}: ours / perf_analyzer = {ratio:.3f} in the median, {'within' if abs(ratio - 1) <= AGREEMENT else 'NOT within'} 5 %"
        )
    if output is not None:
        settings = {"model": plan.name, "batch": batch, "rate": rate, "distribution": distribution, "seconds": seconds}
        output.write_text(json.dumps({"benchmark": "generators", **origin, **settings, "medians": medians, "pairs": rows}, indent=1) + "\n")


def measure_pair(
    analyzer: Path, url: str, plan: Plan, batch: int, rate: float, distribution: Distribution, seconds: float, pair: int
) -> dict[str, Any]:
    """Both generators, one after the other; rates in requests per second."""
    measurements: dict[str, Any] = {"pair": pair}

    def theirs() -> None:
        with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as folder:
            path = Path(folder) / "data.json"
            input_data.write(path, plan, input_data.entries_for(batch), pair)
            load = perf_analyzer.Rate(rate, distribution)
            seen = perf_analyzer.measure(
                analyzer, url=url, model=plan.name, batch=batch, load=load, data=path, seconds=seconds, protocol="http"
            )
        measurements.update(analyzer_per_s=seen.rows_per_s / batch, analyzer_p50_ms=seen.p50_ms, analyzer_p95_ms=seen.p95_ms)

    def ours() -> None:
        process: arrivals.Arrivals = arrivals.Constant(rate) if distribution == "constant" else arrivals.Poisson(rate)
        workload = Workload("generators", LatencyBound(1000.0), sizes.Fixed(batch), process, ids.Uniform(), seed=pair)
        rng = np.random.default_rng(pair)
        pool = queries.pool(plan, workload, rng)
        before_s = time.process_time()
        run = live.measure(url, plan, workload, pool, rng, seconds=seconds)
        measurements["ours_cpu_us"] = round(1e6 * (time.process_time() - before_s) / len(run.sent_s), 1)  # a request
        measurements["late_p99_ms"] = percentile_ms(run.late_ms, 99)
        p50, p95 = (percentile_ms(run.latency_ms - run.late_ms, percent) for percent in (50, 95))
        measurements.update(
            ours_per_s=run.summary()["answered_per_s"], ours_p50_ms=p50, ours_p95_ms=p95, ours_p95_due_ms=percentile_ms(run.latency_ms, 95)
        )

    for one in (theirs, ours) if pair % 2 == 0 else (ours, theirs):
        one()
    return measurements


if __name__ == "__main__":
    command()
