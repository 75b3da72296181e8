"""What the server that is done first is worth, on two real servers: `python -m recsplit_perf.benchmarks.router_servers`.

Two Tritons with a core each hold the same Wide&Deep; a router in one of them sends queries of DeepRecSys's heavy tail to both, as Poisson
arrivals at 80 % of what they do together, by turns (two variants with equal shares) and to the one that is done first (one variant with two
servers), in alternating runs on the same arrivals. The load generator shares the cores, so what 80 % is is measured with it.
"""

import dataclasses
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

import recsplit
from recsplit.capacity import arrivals, sizes
from recsplit.capacity.search import percentile_ms
from recsplit.capacity.workload import LatencyBound, Workload
from recsplit.commands.output import Cell, progress, show_table
from recsplit.configs.router import MOST_ROWS
from recsplit.disk.files import whole_file
from recsplit.errors import InputError
from recsplit.plan.plan import Plan
from recsplit.plan.routing import Routing, Server, Variant
from recsplit.repository.routers import publish
from recsplit.serving import serve
from recsplit.serving.workers import route
from recsplit_perf.machine import provenance
from recsplit_perf.processes import kernel
from recsplit_perf.traffic import live, open_loop, queries

SOURCE, MODEL, ROUTER = "recsplit.zoo.deeprecsys:wide_and_deep", "wide", "routed"
SHARE, OVERLOAD = 0.8, 3.0


@click.command()
@click.option("--seconds", type=click.FloatRange(1), default=20.0, show_default=True, help="Each run.")
@click.option("--rounds", type=click.IntRange(1), default=6, show_default=True, help="Runs of each rule.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(seconds: float, rounds: int, output: Path | None) -> None:
    """Compare the p99 of two rules for two servers."""
    origin, cores = provenance(), sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise InputError("this machine has one core", hint="two servers need one each")
    workload = Workload("servers", LatencyBound(1000.0, 99), sizes.HeavyTail(), arrivals.Poisson(1.0), seed=1)
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as temporary:
        repository = Path(temporary) / "models"
        plan = recsplit.build(SOURCE, out=repository, name=MODEL, form="fused", threads=1, max_batch_size=1024, search_s=0).plan
        here = Server(MODEL, -1, "", 1.0, 0.05, 1)
        publish(repository, ROUTER, Routing((Variant("first", 1.0, 0, (here,)),)))
        with serve(repository, models=[MODEL]) as other, serve(repository, models=[ROUTER]) as first:
            for server, core in ((first, cores[0]), (other, cores[1])):
                kernel.pin(kernel.members(server.pid), {core})
            there = Server(MODEL, -1, other.http_url, 1.0, 0.05, 1)
            rules = {
                "turns": Routing((Variant("first", 1.0, 0, (here,)), Variant("other", 1.0, 0, (there,)))),
                "done first": Routing((Variant("both", 1.0, 0, (here, there)),)),
            }
            asked = queries.pool(_asked(plan), workload, np.random.default_rng(0))

            def play(rule: str, rate: float, seed: int) -> Any:
                route(first.running.folder, ROUTER, rules[rule])
                rng = np.random.default_rng(seed)
                times_s = arrivals.draw(arrivals.Poisson(rate), seconds + live.WARMUP_S, rng)
                choice = rng.integers(0, len(asked), len(times_s))
                return open_loop.send(first.http_url, asked, times_s, choice, warmup_s=live.WARMUP_S, seconds=seconds, timeout_s=30.0)

            mean_rows = float(np.mean([query.rows for query in asked]))
            with progress("What both do together"):
                flooded = play("done first", OVERLOAD * 2e3 / (1.0 + 0.05 * mean_rows), 0)
                most = float((flooded.due_s + flooded.latency_ms / 1e3 <= seconds).sum() / seconds)
            runs: dict[str, list[dict[str, float]]] = {rule: [] for rule in rules}
            with progress(f"Measuring at {SHARE * most:.4g} queries/s", total=2 * rounds) as advance:
                for number in range(rounds):
                    for rule in rules:
                        sent = play(rule, SHARE * most, number + 1)
                        p50, p99 = (percentile_ms(sent.latency_ms, percent) for percent in (50, 99))
                        failed = int(np.isinf(sent.latency_ms).sum())
                        runs[rule].append({"p50_ms": p50, "p99_ms": p99, "failed": failed, "queries": len(sent.latency_ms)})
                        advance(1)
    ratios = [one["p99_ms"] / turns["p99_ms"] for one, turns in zip(runs["done first"], runs["turns"], strict=True)]
    result = {
        "benchmark": "router_servers",
        **origin,
        "settings": {"source": SOURCE, "seconds": seconds, "rounds": rounds, "rate": SHARE * most},
        "runs": runs,
        "p99_of_turns": statistics.median(ratios),
        "ratios": ratios,
    }
    if output is not None:
        with whole_file(output) as file:
            file.write((json.dumps(result, indent=1) + "\n").encode())
    rows: list[list[Cell]] = [
        [rule, *(statistics.median(run[key] for run in runs[rule]) for key in ("p50_ms", "p99_ms", "failed"))] for rule in rules
    ]
    show_table(("rule", "p50_ms", "p99_ms", "failed"), rows, title=f"Medians of {rounds} runs at {SHARE * most:.4g} queries/s")
    click.echo(f"p99 of turns, median of pairs: {statistics.median(ratios):.3f}")


def _asked(plan: Plan) -> Plan:
    """The router as its clients see it: they send whole queries."""
    return dataclasses.replace(plan, name=ROUTER, max_batch_size=MOST_ROWS)


if __name__ == "__main__":
    command()
