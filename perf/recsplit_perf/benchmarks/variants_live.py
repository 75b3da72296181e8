"""Six variants of the demo's ranker behind a router, kept by `recsplit control --policy variants` under a burst, on this machine.

`python -m recsplit_perf.benchmarks.variants_live`. The variants are trained here, from 4 to 64 numbers a row and with layers to match, and
their accuracy is measured on held-out rows. The load has the shape of InfAdapter's burst (its means by minute, a minute in a few seconds),
scaled to what the fastest variant carries. The same load goes to each variant alone, with all cores: the best of those that keep the bound
is what the policy is compared with.
"""

import dataclasses
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from recsplit.building.settings import BuildSettings
from recsplit.building.variants import VariantSpec, build_variants
from recsplit.capacity.search import percentile_ms
from recsplit.capacity.workload import Workload, read
from recsplit.commands.output import progress, show_table
from recsplit.demo import click_log, training
from recsplit.plan.plan import Plan
from recsplit.plan.routing import Routing
from recsplit.rendering.progress import in_silence
from recsplit.repository.find import find
from recsplit.repository.routers import publish
from recsplit.serving import Server, serve
from recsplit.serving.workers import route, set_workers
from recsplit.zoo import ranker
from recsplit.zoo.layers import mlp
from recsplit_perf.machine import provenance
from recsplit_perf.perf_analyzer import input_data, perf_analyzer
from recsplit_perf.traffic import open_loop, queries

NAME = "shop"
#: By variant: numbers a row, and the layers before and behind the interaction.
VARIANTS: Mapping[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "xl": (64, (256,), (1024, 512, 256)),
    "slim": (64, (128,), (256, 128)),
    "large": (32, (128,), (512, 256)),
    "medium": (16, (64,), (128, 64)),
    "small": (8, (32,), (64, 32)),
    "tiny": (4, (16,), (16,)),
}
#: Queries/s in the mean of each minute of the paper's burst, day 15 of the trace, minutes 82 to 103.
BURST = (43, 42, 46, 44, 43, 44, 44, 44, 44, 49, 116, 220, 226, 218, 201, 210, 143, 99, 53, 48, 50)
HELD_OUT = 100_000
#: A variant whose accuracy is so near the best one's, relatively, stands in for it; what it carries more is effective capacity.
NEAR = 0.001
#: Of what the fastest variant carries with all cores the burst's largest minute asks for.
PEAK = 0.6
BOUND_MS, PERCENTILE = 100.0, 99
#: The controller's, as much faster than its defaults as the trace is.
SETTINGS = 'forecaster = "last_max"\ninterval_s = 1\nwindow_s = 3\nperiod_s = {minute}\ndownscale_delay_s = {minute}\npercentile = 99\n'
WORKLOAD = 'name = "fixed"\n[latency]\nbound_ms = 100\npercentile = 99\n[sizes]\nlaw = "fixed"\nsize = {rows}\n'
WORKLOAD += '[arrivals]\nprocess = "poisson"\nrate = 1\n[ids]\nlaw = "zipf"\nalpha = 1.05\n'


class Ranker(ranker.Ranker):
    """The demo's ranker with other layers."""

    def __init__(self, sizes: ranker.Sizes, bottom: tuple[int, ...], top: tuple[int, ...]) -> None:
        super().__init__(sizes)
        self.bottom = mlp(ranker.DENSE, *bottom, sizes.dim)
        self.top = mlp(sizes.dim + 15, *top, 1)


@click.command()
@click.option("--impressions", type=int, default=600_000, show_default=True, help="To train each variant on.")
@click.option("--rows", type=int, default=256, show_default=True, help="Of a query.")
@click.option("--minute", type=int, default=6, show_default=True, help="Seconds that a minute of the trace takes.")
@click.option("--repeats", type=int, default=3, show_default=True, help="Of the policy; each variant alone is played once.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(impressions: int, rows: int, minute: int, repeats: int, output: Path | None) -> None:
    """Measure what the policy delivers under a burst, and what each variant alone would."""
    origin = provenance()
    analyzer = perf_analyzer.find_or_install(progress)
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as temporary:
        folder = Path(temporary)
        repository = folder / "models"
        routing = build(folder, repository, impressions)
        plan = find(repository, f"{NAME}_medium").plan
        carried = capacities(repository, folder, plan, analyzer, rows)
        measured = [dataclasses.replace(each, max_qps=carried[each.name] / 2) for each in routing.variants]
        routing = dataclasses.replace(routing, variants=tuple(measured))
        publish(repository, NAME, routing)
        (folder / "control.toml").write_text(SETTINGS.format(minute=minute))
        (folder / "workload.toml").write_text(WORKLOAD.format(rows=rows))
        scale = PEAK * max(carried.values()) / max(BURST)
        load = arrivals(scale, minute)
        workload, played = read(folder / "workload.toml"), []
        with serve(repository) as server, progress("Playing", total=len(VARIANTS) + repeats) as advance:
            for name in VARIANTS:
                played.append({"rule": name, **play(server, routing, plan, workload, load, only=name)})
                advance(1)
            for _ in range(repeats):
                played.append({"rule": "policy", **play(server, routing, plan, workload, load, control=folder)})
                advance(1)
    variants = [{"name": each.name, "auc": each.accuracy, "qps_of_two_workers": round(carried[each.name], 1)} for each in routing.variants]
    result = {
        "benchmark": "variants_live",
        **origin,
        "settings": {"impressions": impressions, "rows": rows, "minute_s": minute, "bound_ms": BOUND_MS, "peak_qps": scale * max(BURST)},
        "variants": variants,
        "effective_capacity": effective_capacity(routing, carried),
        "played": played,
    }
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")
    show_table(tuple(variants[0]), [list(each.values()) for each in variants])
    columns = ("rule", "queries", "failed", "late", "p99_ms", "auc", "switches")
    show_table(columns, [[each[column] for column in columns] for each in played])


def build(folder: Path, repository: Path, impressions: int) -> Routing:
    """Train the variants and build them with a router; their accuracy is that of the rows held out."""
    log = click_log.synthetic(ranker.CLICKS, impressions + HELD_OUT)
    known, held_out = log.rows(slice(0, impressions)), log.rows(slice(impressions, impressions + HELD_OUT))
    np.savez(folder / "eval.npz", label=held_out.clicked, **held_out.inputs())
    specs = []
    for name, (dim, bottom, top) in VARIANTS.items():
        sizes = dataclasses.replace(ranker.CLICKS, dim=dim)
        with progress(f"Training {name}", total=impressions) as advance:
            model = training.train(known, sizes, epochs=1, batch=1024, advance=advance, of=partial(Ranker, bottom=bottom, top=top))
        specs.append(VariantSpec(name, model))
    example = tuple(map(torch.from_numpy, held_out.rows(slice(0, 4)).inputs().values()))
    settings = BuildSettings(
        specs[0].source or "", repository, NAME, example, form="fused", threads=1, search_s=0.5, evaluation=folder / "eval.npz"
    )
    with progress("Building"):
        return build_variants(settings, specs, in_silence).routing


def effective_capacity(routing: Routing, carried: Mapping[str, float]) -> dict[str, Any]:
    """What the variants within NEAR of the most accurate one carry over what that one alone does, with the same two workers."""
    best = max(routing.variants, key=lambda each: each.accuracy or 0.0)
    near = [each for each in routing.variants if (each.accuracy or 0.0) >= (1 - NEAR) * (best.accuracy or 0.0)]
    fastest = max(near, key=lambda each: carried[each.name])
    lost = 1 - (fastest.accuracy or 0.0) / (best.accuracy or 1.0)
    return {
        "of": best.name,
        "by": fastest.name,
        "ratio": round(carried[fastest.name] / carried[best.name], 2),
        "accuracy_lost": round(lost, 6),
    }


def capacities(repository: Path, folder: Path, plan: Plan, analyzer: Any, rows: int) -> dict[str, float]:
    """Queries a second of each variant by itself, with a worker for each of two cores; perf_analyzer shares these."""
    data = folder / "queries.json"
    input_data.write(data, plan, input_data.entries_for(rows), seed=0)
    with serve(repository) as server, progress("Measuring", total=len(VARIANTS)) as advance:
        rates = {}
        for name in VARIANTS:
            model = f"{NAME}_{name}"
            set_workers(server.running.folder, model, 2)
            seen = perf_analyzer.measure(analyzer, url=server.grpc_url, model=model, batch=rows, load=4, data=data, seconds=4.0)
            rates[name] = seen.rows_per_s / rows
            advance(1)
    return rates


def arrivals(scale: float, minute: int) -> NDArray[np.float64]:
    """When queries come, in s: a Poisson process whose rate is the burst's, scaled, the first minute twice."""
    random = np.random.default_rng(0)
    rates = [BURST[0] * scale, *(rate * scale for rate in BURST)]
    times = [number * minute + np.sort(random.random(random.poisson(rate * minute))) * minute for number, rate in enumerate(rates)]
    return np.concatenate(times)


def play(
    server: Server,
    routing: Routing,
    plan: Plan,
    workload: Workload,
    times_s: NDArray[np.float64],
    *,
    only: str = "",
    control: Path | None = None,
) -> dict[str, Any]:
    """The load on the router: to one variant alone with two workers, or as the controller has it, which begins with the medium one."""
    folder, first = server.running.folder, only or "medium"
    weights = [dataclasses.replace(each, weight=float(each.name == first)) for each in routing.variants]
    for each in routing.variants:
        set_workers(folder, f"{NAME}_{each.name}", 2 if each.name == first else 1)
    before = counts(route(folder, NAME, dataclasses.replace(routing, variants=tuple(weights))))
    ready = queries.pool(dataclasses.replace(plan, name=NAME), workload, np.random.default_rng(0))
    choice = np.random.default_rng(1).integers(0, len(ready), len(times_s))
    controller = None if control is None else controlling(server, control)
    try:
        sent = open_loop.send(server.http_url, ready, times_s, choice, warmup_s=0.0, seconds=float(times_s[-1]), timeout_s=10.0)
    finally:
        if controller is not None:
            controller.terminate()
            controller.wait()
    answered = {name: count - before[name] for name, count in counts(route(folder, NAME)).items()}
    p99_ms = percentile_ms(sent.latency_ms, 99)
    accuracy = {each.name: each.accuracy or 0.0 for each in routing.variants}
    switches = 0
    if control is not None:
        ticks = [json.loads(line) for line in (control / "journal.jsonl").read_text().splitlines()]
        switches = sum(action["kind"] == "route" for tick in ticks for action in tick.get("actions", ()))
        (control / "journal.jsonl").unlink()
    return {
        "queries": len(times_s),
        "failed": int(np.isinf(sent.latency_ms).sum()),
        "late": round(float((sent.latency_ms > BOUND_MS).mean()), 5),
        "p99_ms": round(p99_ms, 2) if math.isfinite(p99_ms) else None,  # None: one in a hundred failed
        "auc": round(sum(accuracy[name] * count for name, count in answered.items()) / max(1, sum(answered.values())), 5),
        "switches": switches,
        "answered": answered,
        "late_ms_of_generator": round(float(np.percentile(sent.late_ms, 99)), 2),
        "errors": dict(sent.errors),
    }


def controlling(server: Server, folder: Path) -> "subprocess.Popen[bytes]":
    """`recsplit control` on the server."""
    command = [sys.executable, "-m", "recsplit", "control", folder / "models", "--policy", "variants", "--bound-ms", f"{BOUND_MS:g}"]
    command += ["--settings", folder / "control.toml", "--journal", folder / "journal.jsonl", "--grpc-url", server.grpc_url]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def counts(routed: dict[str, Any]) -> dict[str, int]:
    """Queries by variant since the router was loaded."""
    return {each["name"]: each["queries"] for each in routed["variants"]}


if __name__ == "__main__":
    command()
