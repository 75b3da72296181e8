"""Counts that follow a load in steps: `python -m recsplit_perf.benchmarks.step_load`.

A model whose dense (then embedding) model is artificially heavy, on a real Triton beside a real Prometheus, kept at the right size by
`recsplit control` with its defaults, each a process of its own as a user starts it. Poisson arrivals at 1x, 4x and 1x of a rate that one
instance serves well, for the dense model several times; then once for the embedding model, and for the dense model with the controller only
looking on (--dry-run), for what it would have been without.
Latency counts from when a query was due. `running` are the instances' own processes, as the kernel counts them.
"""

import dataclasses
import json
import math
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from recsplit.capacity.search import percentile_ms
from recsplit.commands.output import progress, show_table
from recsplit.commands.report_journal import timeline
from recsplit.disk.files import whole_file
from recsplit.errors import RecsplitError
from recsplit.plan.plan import Plan
from recsplit.proof import samples
from recsplit.repository.find import find
from recsplit_controller.shell import journal
from recsplit_perf.machine import provenance
from recsplit_perf.processes.heavier import heavier
from recsplit_perf.processes.instances import instances
from recsplit_perf.processes.started import started
from recsplit_perf.processes.watched import recsplit
from recsplit_perf.report import Fact, Page, control, render
from recsplit_perf.traffic import open_loop, queries, stepped
from recsplit_perf.traffic.stepped import Sample, Step

FACTORY = "recsplit.zoo.tiny:dlrm"
NAME = "shop"
#: An execution of the heavy model lasts so long; one instance at RATE is busy for half of the time.
HEAVY_MS, RATE, TIMES = 25.0, 20, 4
BOUND_MS, PERCENT = 150.0, 95
#: p95 is to be back under the bound so soon after the step up.
STATED_S = 30.0
#: The heavy model waits, and takes no cores: this machine's own are no bound. All else is as it is by default.
SETTINGS = {"cores": 64}
#: Queries in the backlog of a step wait this long at most; the bound is far below.
TIMEOUT_S = 120.0
#: Before the load: the controller has seen its first data.
SETTLED_S = 10.0
ALONE = "dense, nobody acts"


@click.command()
@click.option(
    "--seconds", type=click.IntRange(10), default=60, show_default=True, help="The step up; before it half of that, after it three times."
)
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True, help="Of the heavy dense model.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with the timelines there.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(seconds: int, runs: int, html: Path | None, output: Path | None) -> None:
    """Step a load up and down, and see whether counts follow and p95 comes back under its bound."""
    try:
        result, page = benchmark((Step(RATE, seconds // 2), Step(TIMES * RATE, seconds), Step(RATE, 3 * seconds)), runs)
    except RecsplitError as error:
        raise click.ClickException("\n".join(text for text in (str(error), error.detail, f"Hint: {error.hint}") if text)) from error
    columns = ("case", "queries", "failed", "recovered_s", "p95_up_ms", "most", "last", "actions")
    show_table(columns, [[case[column] for column in columns] for case in result["cases"]])
    show_table(("dense", "median", "worst"), [[key, each["median"], each["worst"]] for key, each in result["dense_runs"].items()])
    if output is not None:
        with whole_file(output) as file:
            file.write((json.dumps(result, indent=1) + "\n").encode())
    if html is not None:
        with whole_file(html) as file:
            file.write(render(page).encode())


def benchmark(steps: Sequence[Step], runs: int) -> tuple[dict[str, Any], Page]:
    """Build, and run each case; the result as plain values, and a page of it. Raises RecsplitError where a step fails."""
    origin = provenance()
    cases: list[dict[str, Any]] = []
    drawn: list[control.Timeline] = []
    with tempfile.TemporaryDirectory(prefix="recsplit-step-load-") as name:
        folder = Path(name)
        with progress(f"Building {FACTORY}"):
            recsplit(
                [
                    "build",
                    FACTORY,
                    "-o",
                    str(folder / "light"),
                    "--name",
                    NAME,
                    "--max-batch-size",
                    "64",
                    "--embedding-runtime",
                    "onnxruntime",
                ],
                folder,
            )
        plan = find(folder / "light").plan
        (folder / "settings.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in SETTINGS.items()))
        dense = [("dense" if number == 1 else f"dense, run {number}", plan.dense.name, True) for number in range(1, runs + 1)]
        others = [("embedding", plan.embedding.name, True), (ALONE, plan.dense.name, False)]
        for case, model, acts in (*dense, *others):
            repository = heavier(folder / "light", folder / case.replace(",", "").replace(" ", "-"), model, HEAVY_MS)
            with progress(f"{case}: {sum(step.seconds for step in steps)} s of load"):
                case_row, line = run(case, plan, repository, model, steps, folder, acts=acts)
            cases.append(case_row)
            drawn.append(line)
    drawn = [drawn[0], *drawn[runs:]]  # of the repeated case the first
    result = {
        "benchmark": "step_load",
        **origin,
        "settings": {
            "factory": FACTORY,
            "heavy_ms": HEAVY_MS,
            "steps": [asdict(step) for step in steps],
            "bound_ms": BOUND_MS,
            "percent": PERCENT,
            "stated_s": STATED_S,
            "controller": SETTINGS,
        },
        "dense_runs": spread(cases[:runs]),
        "cases": cases,
        "series": [series(item) for item in drawn],
    }
    return result, page(result, drawn)


def run(
    case: str, plan: Plan, repository: Path, model: str, steps: Sequence[Step], folder: Path, *, acts: bool
) -> tuple[dict[str, Any], control.Timeline]:
    """One case on servers of its own: its row, and its timeline."""
    name = repository.name
    record = folder / f"{name}.jsonl"
    pool = [queries.ready(plan, samples.rows(plan, 1, np.random.default_rng(seed))) for seed in range(50)]
    times_s = stepped.draw(steps, np.random.default_rng(7))
    choice = np.random.default_rng(8).integers(0, len(pool), len(times_s))
    serving = ["serve", str(repository), "--prometheus", "--json"]
    with started(serving, folder / f"{name}-serve.log") as server:
        said = server.said
        arguments = ["control", str(repository), "--prometheus", said["prometheus_url"], "--grpc-url", said["grpc_url"]]
        arguments += ["--settings", str(folder / "settings.toml"), "--journal", str(record), "--json", *([] if acts else ["--dry-run"])]
        with (
            started(arguments, folder / f"{name}-control.log", announces=False),
            stepped.sampled(lambda: len(instances(said["pid"], model))) as counted,
        ):
            threading.Event().wait(SETTLED_S)
            seconds = sum(step.seconds for step in steps)
            sent = open_loop.send(said["http_url"], pool, times_s, choice, warmup_s=0.0, seconds=seconds, timeout_s=TIMEOUT_S)
            threading.Event().wait(SETTLED_S)
    return judged(case, model, steps, sent, counted, record)


def judged(
    case: str, model: str, steps: Sequence[Step], sent: open_loop.Sent, counted: Sequence[Sample], record: Path
) -> tuple[dict[str, Any], control.Timeline]:
    """What the case shows: queries, failures, when the bound was kept again, and counts."""
    kept = journal.latest(record)
    first, last = stepped.starts_s(steps)[1:3]
    seconds = stepped.starts_s(steps)[-1]
    seen = stepped.by_second(sent, seconds, PERCENT)
    whole = timeline(f"{case}: {HEAVY_MS:g} ms an execution", kept.settings, kept.records, began_s=sent.began_s)
    at_s = np.array([sample.at_s for sample in counted]) - sent.began_s
    running = control.Line(at_s, np.array([float(sample.count) for sample in counted]))
    clock = np.arange(seconds, dtype=np.float64)
    counts: dict[str, Mapping[str, control.Line]] = dict(whole.counts)
    counts[model] = {**whole.counts[model], "running": running}
    line = dataclasses.replace(
        whole,
        rate=control.Line(clock, seen.queries.astype(np.float64)),
        latency={f"p{PERCENT}": control.Line(clock, seen.percentile_ms)},
        failed=control.Line(clock, seen.failed.astype(np.float64)),
        counts=counts,
        marks=[(float(start), f"{step.rate / steps[0].rate:g}x") for start, step in zip(stepped.starts_s(steps), steps, strict=False)],
    )
    up = sent.latency_ms[(sent.due_s >= last - (last - first) / 2) & (sent.due_s < last)]
    return {
        "case": case,
        "queries": len(sent.due_s),
        "failed": int(np.isinf(sent.latency_ms).sum()),
        "errors": dict(sent.errors),
        "late_p99_ms": round(float(np.percentile(sent.late_ms, 99)), 2),
        # How long after the step up every window of 5 s keeps the bound; None: not before the step down.
        "recovered_s": stepped.recovered_s(sent, first, last, bound_ms=BOUND_MS, percent=PERCENT),
        "recovered_down_s": stepped.recovered_s(sent, last, seconds, bound_ms=BOUND_MS, percent=PERCENT),
        # Of the second half of the step up.
        "p95_up_ms": _plain(percentile_ms(up, PERCENT)),
        "longest_ms": _plain(float(sent.latency_ms.max())),
        "most": max(sample.count for sample in counted),
        "last": counted[-1].count,
        "actions": len(line.changes),
        "failed_actions": sum(change.ended.startswith("failed") for change in line.changes),
        "changes": [asdict(change) | {"at_s": round(change.at_s, 1)} for change in line.changes],
    }, line


def spread(cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of several runs the median and the worst. A run that never came back within its bound is the worst, and an infinite one."""
    numbers = {
        key: np.array([math.inf if case[key] is None else case[key] for case in cases])
        for key in ("recovered_s", "recovered_down_s", "p95_up_ms", "longest_ms", "most", "failed")
    }
    return {key: {"median": _plain(float(np.median(each))), "worst": _plain(float(each.max()))} for key, each in numbers.items()}


def series(line: control.Timeline) -> dict[str, Any]:
    """A timeline as plain numbers."""
    return {
        "title": line.title,
        "rate": _numbers(line.rate),
        "latency": {name: _numbers(each) for name, each in line.latency.items()},
        "counts": {name: {kind: _numbers(each) for kind, each in kinds.items()} for name, kinds in line.counts.items()},
    }


def page(result: dict[str, Any], drawn: Sequence[control.Timeline]) -> Page:
    """The timelines as a page of the report."""
    facts = tuple(
        Fact(
            f"{case['case']}: p{PERCENT} back after",
            "not" if case["recovered_s"] is None else f"{case['recovered_s']:g} s",
            f"{case['failed']} of {case['queries']:,} queries failed; up to {case['most']} instances",
        )
        for case in result["cases"]
    )
    lead = f"Poisson arrivals at 1x, {TIMES}x and 1x of {RATE} queries/s; the bound is p{PERCENT} within {BOUND_MS:g} ms, second by second."
    section = control.section("A load in steps", lead, drawn)
    machine = result["machine"]
    origin = (("machine", f"{machine['cpu']}, {machine['cores']} cores"), ("commit", str(result["commit"])), ("command", result["command"]))
    return Page("Counts that follow the load", "a real Triton, a real Prometheus, and recsplit control", facts, (section,), origin)


def _numbers(line: control.Line) -> dict[str, list[float | None]]:
    return {"seconds": [round(value, 2) for value in line.seconds.tolist()], "values": [_plain(value) for value in line.values.tolist()]}


def _plain(value: float) -> float | None:
    return round(value, 3) if np.isfinite(value) else None


if __name__ == "__main__":
    command()
