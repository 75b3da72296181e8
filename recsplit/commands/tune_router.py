"""`recsplit tune` of a router: how large parts of queries are, and which queries are large. On a real server, without a reload."""

import contextlib
import json
from pathlib import Path
from typing import Any

import click

from recsplit.capacity.search import Throughput, figures
from recsplit.capacity.workload import Workload
from recsplit.commands.output import progress, show_json, show_table
from recsplit.commands.tune_shown import COLUMNS, announced, cells, conclusion, ledger_in
from recsplit.disk.files import whole_file
from recsplit.repository.find import find
from recsplit.repository.routers import publish, settings_of
from recsplit.tuning import split, tune
from recsplit.tuning.ledger import About
from recsplit.tuning.outcome import OUTCOME_FILE
from recsplit.tuning.split import Split


def tune_router(
    repository: Path,
    router: str,
    asked: Workload,
    folder: Path,
    *,
    cores: int,
    seconds: float,
    rounds: int,
    resume: bool,
    dry_run: bool,
    keep: int,
    as_json: bool,
) -> None:
    """DeepRecSched's two climbs on a server of the router, and a race of their best against the present settings."""
    from recsplit_perf import tuned_router
    from recsplit_perf.traffic.live import least_rate

    routing = settings_of(repository, router)
    plan = find(repository, routing.variants[0].servers[0].model).plan
    largest = tuned_router.largest(asked)
    present = split.of_routing(routing, min(plan.max_batch_size, largest))
    ledger = ledger_in(folder, About(router, plan.build, asked.describe(), cores), resume=resume)
    heard = [2 * least_rate(seconds)]
    with contextlib.ExitStack() as stack:
        with progress(f"Starting Triton on {repository}"):
            at = stack.enter_context(tuned_router.served(repository, router, plan, cores))

        def measure(setting: Split, number: int) -> Throughput:
            settings, first = split.changed(routing, setting), heard[-1]
            throughput = announced(
                setting, number, lambda: tuned_router.measure(at, settings, asked, seconds=seconds, first=first, number=number)
            )
            if throughput.rate > 0:
                heard.append(throughput.rate)
            return throughput

        climbs = split.scheduled(
            routing,
            min(plan.max_batch_size, largest),
            lambda setting: ledger.once("live", setting, lambda one: measure(one, 0)),
            largest=largest,
        )
        raced = tune.raced(list(dict.fromkeys((present, climbs.best))), measure, asked.latency, ledger, rounds=rounds)
    better = raced.better_than(present)
    chosen = present if better is None else better.setting
    published = None
    if better is not None and not dry_run:
        published = publish(repository, router, split.changed(routing, chosen), keep=keep)
    summary: dict[str, Any] = {
        "router": router,
        "workload": asked.name,
        "parts": [{"split_rows": step.value, **vars(figures(step.throughput))} for step in climbs.parts.steps],
        "large": [{"large_rows": step.value, **vars(figures(step.throughput))} for step in (climbs.large.steps if climbs.large else ())],
        "live": [{**vars(one.setting), **vars(figures(one.throughput))} for one in raced.tried],
        "present": vars(present),
        "chosen": vars(chosen),
        "published": published,
    }
    with whole_file(folder / OUTCOME_FILE) as file:
        file.write((json.dumps(summary, indent=1) + "\n").encode())
    if as_json:
        show_json(summary)
        return
    steps = [[f"parts of {step.value} rows", *cells(figures(step.throughput))] for step in climbs.parts.steps]
    words = f"p{asked.latency.percentile:g} within {asked.latency.bound_ms:g} ms"
    show_table(COLUMNS, steps, title=f"Parts of a query: {words}")
    if climbs.large is not None:
        rows = [[f"from {step.value} rows", *cells(figures(step.throughput))] for step in climbs.large.steps]
        show_table(COLUMNS, rows, title=f"Large queries, which go to {routing.large_variant}")
    show_table(COLUMNS, [[str(one.setting), *cells(figures(one.throughput))] for one in raced.tried], title="Again, the present one first")
    done = f"{router} version {published} in {repository} has {chosen}, in place of {present}. A server takes it by: recsplit update"
    click.echo(conclusion(present, chosen, met=any(one.throughput.rate > 0 for one in raced.tried), done=done if published else None))
