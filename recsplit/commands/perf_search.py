"""The command `perf search`: the largest rate that keeps the workload's latency bound."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from recsplit.commands.output import example, json_option, on_interrupt, progress, refuse_file, show_json, show_table
from recsplit.commands.workload_option import workload_option

if TYPE_CHECKING:
    from recsplit.serving import Server

COLUMNS = ("rate", "queries", "percentile_ms", "kept_up")


@click.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/tiny",
        "recsplit perf search /tmp/tiny --workload elasticrec -o /tmp/tiny-search --seconds 2",
    )
)
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@workload_option("TOML file: sizes, arrivals, ids, bound.", required=True)
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@click.option("--url", metavar="HOST:PORT", help="HTTP address of a server that runs; without it DIR is served for the search.")
@click.option("--seconds", type=click.FloatRange(0, 3600, min_open=True), default=10, show_default=True, help="Each trial, at least.")
@click.option("--rate", type=click.FloatRange(0.5, 1e5), help="Where to begin, in queries per second.  [default: the workload's]")
@click.option("--precision", type=click.FloatRange(0.005, 0.5), default=0.05, show_default=True, help="Of the rate.")
@click.option("--repeats", type=click.IntRange(1, 99), default=3, show_default=True, help="Trials at a rate near the bound.")
@click.option("--trials", type=click.IntRange(1, 1000), default=30, show_default=True, help="Trials in all, at most.")
@click.option("-o", "--output", metavar="FOLDER", type=click.Path(path_type=Path), help="Keep trials there.  [default: <model>.search]")
@click.option("--resume", is_flag=True, help="Go on with the trials in FOLDER.")
@json_option
def command(
    repository: Path,
    workload: Path,
    model: str | None,
    url: str | None,
    seconds: float,
    rate: float | None,
    precision: float,
    repeats: int,
    trials: int,
    output: Path | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Find the latency-bounded throughput of the ensemble in DIR.

    That is the largest rate at which the workload's percentile stays under its bound. Every trial is on disk as soon as
    it ends; after Ctrl-C, --resume goes on where the search was.
    """
    from recsplit.capacity import arrivals
    from recsplit.capacity import search as searching
    from recsplit.capacity.workload import read
    from recsplit.client.wire import address
    from recsplit.errors import InputError, RecsplitError
    from recsplit.repository.find import find
    from recsplit_perf.traffic import live, queries

    plan = find(repository, model).plan
    asked = read(workload)
    if url is not None:
        url = address(url, "http")
    first = arrivals.rate(asked.arrivals) if rate is None else rate
    least = live.least_rate(seconds)
    if first < least:
        raise InputError(
            f"trials of {seconds:g} s hold too few queries at {first:g} queries/s",
            hint=f"begin at {least:g} queries/s (--rate) or more, or give --seconds {math.ceil(seconds * least / first)}",
        )
    folder = Path(f"{plan.name}.search") if output is None else output
    refuse_file(folder)
    if not resume and any(folder.glob("trial-*.npz")):
        raise InputError(f"{folder} holds trials of another search", hint="go on with them: --resume; or give another folder with -o")
    folder.mkdir(parents=True, exist_ok=True)
    on_interrupt(folder, f"{folder} holds no new trial", f"the trials so far are in {folder}: --resume goes on with them")
    known = live.kept(folder, plan, asked)
    with contextlib.ExitStack() as stack:
        url = url or stack.enter_context(served(repository, plan.name)).http_url
        with progress("Preparing queries"):
            pool = queries.pool(plan, asked, np.random.default_rng(asked.seed))
        bound = asked.latency
        with progress(f"Searching the rate at which p{bound.percentile:g} is {bound.bound_ms:g} ms"):

            def on_trial(trial: searching.Trial) -> None:
                click.echo(
                    f"  {trial.rate:8.1f} queries/s: {trial.percentile_ms:.2f} ms{'' if trial.kept_up else ', generator too slow'}",
                    err=True,
                )

            measure = live.trials_in(folder, url, plan, asked, pool, seconds=seconds, on_trial=on_trial)
            outcome = searching.search(
                searching.after(known, measure),
                bound,
                first=first,
                least=least,
                precision=precision,
                repeats=repeats,
                max_trials=trials,
            )
    if as_json:
        rows = [{**vars(trial), "percentile_ms": searching.finite(trial.percentile_ms)} for trial in outcome.trials]
        result = {**vars(searching.figures(outcome)), "folder": folder, "trials": rows}
        show_json({"model": plan.name, "version": plan.version, "workload": asked.describe(), **result})
    else:
        ordered = sorted(outcome.trials, key=lambda trial: trial.rate)
        cells = [[trial.rate, trial.queries, searching.finite(trial.percentile_ms), trial.kept_up] for trial in ordered]
        show_table(
            COLUMNS, cells, title=f"{plan.name}, version {plan.version}, {asked.name}: p{bound.percentile:g} under {bound.bound_ms:g} ms"
        )
    if outcome.rate == 0:
        smallest = min(outcome.trials, key=lambda trial: trial.rate)
        lowest = f"p{bound.percentile:g} is {smallest.percentile_ms:.1f} ms at {smallest.rate:g} queries/s"
        raise RecsplitError(
            f"{outcome.verdict}: {lowest}, and the bound is {bound.bound_ms:g} ms",
            hint="loosen the bound, ask smaller queries, or make the model faster"
            if outcome.verdict != "too few trials"
            else "--trials, --resume",
        )
    if not as_json:
        between = f"95 % interval {outcome.low:.1f} to {outcome.high:.1f}" if outcome.verdict == "found" else f"at least: {outcome.verdict}"
        click.echo(f"{outcome.rate:.1f} queries/s ({between}); {len(outcome.trials)} trials in {folder}")


@contextlib.contextmanager
def served(repository: Path, model: str) -> Iterator["Server"]:
    """A server that runs for the time being."""
    from recsplit.serving import serve

    with contextlib.ExitStack() as stack:
        with progress(f"Starting Triton on {repository}"):
            server = stack.enter_context(serve(repository, models=[model]))
        yield server
