"""Whether the simulator says what a server does: `python -m recsplit_perf.benchmarks.agreement`.

For each model: build it, profile it, measure the rate that it can answer at most, then offer 50, 70 and 85 % of that and
compare p50 and p95 with what the simulator made of the profile. Nothing of the runs goes into the simulation, and the
setting of the simulator is the one that `recsplit simulate` has. Live latency counts from when a query was sent, here and
nowhere else: the generator sits on the server's own cores and is late when these are busy, which no client elsewhere would be
(`late_p95_ms` tells by how much).
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from recsplit.capacity import arrivals, drive, ids, served, sizes
from recsplit.capacity.profile import Profile
from recsplit.capacity.search import percentile_ms
from recsplit.capacity.workload import LatencyBound, Workload
from recsplit.commands.output import progress, show_table
from recsplit.errors import RecsplitError
from recsplit.repository.find import find
from recsplit.serving import serve
from recsplit_perf.machine import provenance
from recsplit_perf.profile import profiling
from recsplit_perf.traffic import live, queries
from recsplit_perf.traffic.runs import Run

#: One that is all overhead, one that is all layers, one that is all lookups, and one between.
MODELS = ("recsplit.zoo.deeprecsys:ncf", "recsplit.zoo.deeprecsys:wide_and_deep", "recsplit.zoo.dlrm:dlrm", "recsplit.zoo.elasticrec:light")
SHARES = (0.5, 0.7, 0.85)
AGREEMENT = 0.15
#: The rate that a server can answer: what it answers when it is offered far more.
OVERLOAD, OVERLOAD_S = 3.0, 6.0
SIMULATED_QUERIES = 50_000

COLUMNS = ("model", "rate", "share", "p50_live_ms", "p50_sim_ms", "p50_off", "p95_live_ms", "p95_sim_ms", "p95_off", "late_p95_ms")


@click.command()
@click.option("--model", "models", multiple=True, help="A factory; again for more.  [default: four of the zoo]")
@click.option("--rows", type=click.IntRange(1), default=64, show_default=True, help="Median query size; sizes are lognormal.")
@click.option("--seconds", type=click.FloatRange(1), default=15.0, show_default=True, help="Each run.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Runs at each rate; their median counts.")
@click.option("--profile-seconds", type=click.FloatRange(1), default=30.0, show_default=True, help="Each profile.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(models: tuple[str, ...], rows: int, seconds: float, rounds: int, profile_seconds: float, output: Path | None) -> None:
    """Compare live latencies with simulated ones."""
    origin, comparisons = provenance(), []
    for model in models or MODELS:
        comparisons += measured(model, rows, seconds, rounds, profile_seconds)
        if output is not None:  # what there is, after each model
            output.write_text(
                json.dumps({"benchmark": "agreement", **origin, "rows": rows, "seconds": seconds, "found": comparisons}, indent=1) + "\n"
            )
    show_table(COLUMNS, [[line[column] for column in COLUMNS] for line in comparisons], title="Live and simulated")
    for name in ("p50", "p95"):
        near = sum(abs(line[f"{name}_off"]) <= AGREEMENT for line in comparisons)
        click.echo(f"{name}: {near} of {len(comparisons)} within {AGREEMENT:.0%}")


def measured(model: str, rows: int, seconds: float, rounds: int, profile_seconds: float) -> list[dict[str, Any]]:
    """One model: a line for each share of its capacity."""
    workload = Workload(
        "agreement", LatencyBound(100.0), sizes.Lognormal(float(np.log(rows)), 0.2), arrivals.Poisson(1.0), ids.Uniform(), seed=1
    )
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as folder:
        repository = Path(folder) / "repository"
        with progress(f"Building {model}"):
            build(model, repository)
        plan = find(repository, None).plan
        with progress(f"Profiling {model}"):
            profile = profiling.measure(find(repository, None), seconds=profile_seconds)
        with serve(repository, models=[plan.name]) as server:
            pool = queries.pool(plan, workload, np.random.default_rng(0))

            def offer(rate: float, seconds: float, seed: int) -> Run:
                rng = np.random.default_rng(seed)
                return live.measure(server.http_url, plan, live.at_rate(workload, rate), pool, rng, seconds=seconds)

            promised = drive.capacity(served.pools(profile, {}), workload.sizes, split_rows=plan.max_batch_size)
            with progress("Measuring the capacity"):
                most = offer(OVERLOAD * promised, OVERLOAD_S, 0).summary()["answered_per_s"]
            lines = []
            for share in SHARES:
                rate = share * most
                with progress(f"Offering {rate:.4g} queries/s, {share:.0%} of what {plan.name} answers"):
                    runs = [offer(rate, seconds, seed) for seed in range(1, rounds + 1)]
                lines.append(compared(model, share, rate, runs, profile, workload))
    return lines


def build(model: str, repository: Path) -> None:
    """`recsplit build` with one thread an instance, as the simulator's cores count threads. Raises RecsplitError."""
    command = [sys.executable, "-m", "recsplit", "build", model, "-o", str(repository), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RecsplitError(f"{model} can't be built", hint="its own words are above", detail=done.stderr)


def compared(model: str, share: float, rate: float, runs: list[Run], profile: Profile, workload: Workload) -> dict[str, Any]:
    """Medians over the runs beside the simulation; off: simulated over live, less one."""
    law = arrivals.Poisson(rate)
    machine = served.cores(profile)
    split = profile.max_batch_size
    simulated = drive.run(served.pools(profile, {}), workload.sizes, law, SIMULATED_QUERIES / rate, split_rows=split, cores=machine, seed=1)
    line: dict[str, Any] = {"model": model, "rate": round(rate, 2), "share": share}
    for percent in (50, 95):
        seen = statistics.median(percentile_ms(run.latency_ms - run.late_ms, percent) for run in runs)
        said = float(np.percentile(simulated.latency_ms, percent))
        line |= {f"p{percent}_live_ms": round(seen, 3), f"p{percent}_sim_ms": round(said, 3), f"p{percent}_off": round(said / seen - 1, 3)}
    line["late_p95_ms"] = round(statistics.median(percentile_ms(run.late_ms, 95) for run in runs), 3)
    line["runs_p95_ms"] = [round(percentile_ms(run.latency_ms - run.late_ms, 95), 3) for run in runs]
    return line


if __name__ == "__main__":
    command()
