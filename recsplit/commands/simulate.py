"""The command `simulate`: what a profile says of a load that nobody sends."""

import re
from pathlib import Path
from typing import Any, cast

import click
import numpy as np

from recsplit.commands.output import Cell, example, json_option, progress, show_json, show_table, warn
from recsplit.commands.workload_option import workload_option
from recsplit.errors import InputError
from recsplit.plan.plan import Role


@click.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/tiny",
        "recsplit profile /tmp/tiny --seconds 20 -o /tmp/profile.json",
        "recsplit simulate /tmp/profile.json --workload deeprecsys --instances embedding=2 --search",
    )
)
@click.argument("profile", metavar="PROFILE.json", type=click.Path(path_type=Path))
@workload_option("Sizes, arrivals and bound, as TOML.", required=True)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Queries per second; the workload's own without.")
@click.option("--seconds", type=click.FloatRange(0, 1e6, min_open=True), default=600, show_default=True, help="Of simulated time.")
@click.option("--instances", metavar="ROLE=N,...", default="", help="As in embedding=2,dense=1; those that were measured without.")
@click.option("--cores", type=click.FloatRange(0, min_open=True), help="That all instances share; the measured machine's without.")
@click.option("--search", is_flag=True, help="Find the largest rate that keeps the workload's bound too.")
@click.option("--seed", type=click.IntRange(0), help="Of arrivals, sizes and service times; the workload's own without.")
@json_option
def command(
    profile: Path,
    workload: Path,
    rate: float | None,
    seconds: float,
    instances: str,
    cores: float | None,
    search: bool,
    seed: int | None,
    as_json: bool,
) -> None:
    """Simulate the server that PROFILE.json was measured on under a workload, with any number of instances and cores.

    Shows latencies, and how busy each pool of servers is; "wire" is what Triton
    and the client compute, "wake-ups" the time in which nobody does. Queries of more rows than
    max_batch_size are split, and a free instance takes what waits, up to that many rows.
    """
    from recsplit.capacity import arrivals, drive, served
    from recsplit.capacity import profile as profiles
    from recsplit.capacity import search as searching
    from recsplit.capacity import workload as workloads

    known = profiles.read(profile)
    warn(profiles.others_at_work(known))
    asked = workloads.read(workload)
    law = asked.arrivals if rate is None else arrivals.at_rate(asked.arrivals, rate)
    pools = served.pools(known, _instances(instances))
    machine = served.cores(known, cores)
    chosen = asked.seed if seed is None else seed
    with progress("Simulating"):
        run = drive.run(pools, asked.sizes, law, seconds, split_rows=known.max_batch_size, cores=machine, seed=chosen)
    p50, p95, p99 = (float(value) for value in np.percentile(run.latency_ms, (50, 95, 99)))
    summary: dict[str, Any] = {
        "model": known.model,
        "version": known.version,
        "workload": asked.name,
        "rate": arrivals.rate(law),
        "queries": len(run.latency_ms),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "within_bound": float((run.latency_ms <= asked.latency.bound_ms).mean()),
        "cores": machine,
        "pools": [
            {
                "pool": pool.name,
                "servers": None if pool.name in served.OUTSIDE else len(pool.servers),
                "utilization": None if pool.name in served.OUTSIDE else run.pools[pool.name].busy_share,
                "waiting_mean_ms": float(run.pools[pool.name].waiting_ms.mean()),
                "waiting_p95_ms": float(np.percentile(run.pools[pool.name].waiting_ms, 95)),
                "rows_per_batch": float(run.pools[pool.name].batch_rows.mean()),
            }
            for pool in pools
        ],
    }
    if search:
        most = drive.capacity(pools, asked.sizes, split_rows=known.max_batch_size, cores=machine)
        measure = drive.measure(pools, asked.sizes, law, asked.latency, split_rows=known.max_batch_size, cores=machine, seed=chosen)
        with progress("Searching for the largest rate"):
            outcome = searching.search(measure, asked.latency, first=most / 2, least=most / 1000, most=most * 1000)
        summary["throughput"] = {"rate": outcome.rate, "low": outcome.low, "high": outcome.high, "verdict": outcome.verdict}
    if as_json:
        show_json(summary)
        return
    columns = ("rate", "queries", "p50_ms", "p95_ms", "p99_ms", "within_bound")
    bound = f"p{asked.latency.percentile:g} within {asked.latency.bound_ms:g} ms"
    show_table(columns, [[summary[column] for column in columns]], title=f"{known.model} under {asked.name}, {bound}")
    rows: list[list[Cell]] = [list(pool.values()) for pool in summary["pools"]]
    show_table(tuple(summary["pools"][0]), rows, title=f"On {machine.count:g} cores")
    if search:
        click.echo(_sentence(summary["throughput"], bound))


def _sentence(throughput: dict[str, Any], bound: str) -> str:
    """What the search found, in words."""
    if throughput["verdict"] == "found":
        return f"Up to {throughput['rate']:.4g} queries/s, {bound} (95 % interval {throughput['low']:.4g} to {throughput['high']:.4g})"
    if throughput["verdict"] == "bound unreachable":
        return f"No rate has {bound}: a single query takes longer"
    return f"{throughput['rate']:.4g} queries/s still have {bound}; the search ended there"


def _instances(text: str) -> dict[Role, int]:
    """embedding=2,dense=1 as numbers. Raises InputError for anything else."""
    counts: dict[Role, int] = {}
    for item in filter(None, text.split(",")):
        matched = re.fullmatch(r"\s*(embedding|dense)\s*=\s*([0-9]{1,4})\s*", item)
        if matched is None:
            raise InputError(f"--instances has {item!r}", hint="give numbers by role: embedding=2,dense=1")
        counts[cast(Role, matched[1])] = int(matched[2])
    return counts
