"""The command `perf`: measure a served model, search its capacity, compare results."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from recsplit.commands import perf_compare, perf_search
from recsplit.commands.output import example, json_option, progress, refuse_output, show_json, show_table
from recsplit.commands.workload_option import workload_option

if TYPE_CHECKING:
    from recsplit.plan.plan import Plan

#: The load goes round these: enough that caches don't hold all their table rows, few enough to make in a moment.
DISTINCT_QUERIES = 16
CONCURRENCY = 4
BATCH = 64
INTERRUPTED = 130

CLOSED_COLUMNS = ("concurrency", "batch", "requests", "failed", "requests_per_s", "rows_per_s", "p50_ms", "p95_ms", "p99_ms", "max_ms")
OPEN_COLUMNS = (
    *("offered_per_s", "answered_per_s", "rows_per_s", "failed", "p50_ms", "p95_ms", "p99_ms"),
    *("within_bound", "late_p99_ms", "verdict"),
)


@click.group(no_args_is_help=False)
def command() -> None:
    """Measure a served model."""


command.add_command(perf_search.command, "search")
command.add_command(perf_compare.command, "compare")


@command.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/tiny",
        "recsplit perf run /tmp/tiny --seconds 3 --batch 16",
        "recsplit perf run /tmp/tiny --seconds 3 --workload elasticrec -o /tmp/tiny.npz",
    )
)
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@click.option(
    "--url",
    metavar="HOST:PORT",
    help="A server that runs: its gRPC address, or with --workload its HTTP address. Without it DIR is served.",
)
@click.option("--seconds", type=click.FloatRange(0, 3600, min_open=True), default=10, show_default=True, help="How long.")
@workload_option("An open loop that follows this TOML file.")
@click.option("--rate", type=click.FloatRange(0, 1e6, min_open=True), help="Queries per second.  [default: the workload's]")
@click.option(
    "--concurrency", type=click.IntRange(1, 256), help=f"Closed loop: requests on their way at all times.  [default: {CONCURRENCY}]"
)
@click.option("-b", "--batch", type=click.IntRange(1), help=f"Closed loop: rows in a request.  [default: {BATCH}]")
@click.option("--seed", type=click.IntRange(0), help="Of the random inputs.  [default: the workload's, or 0]")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write every latency there, as .npz.")
@json_option
def run(
    repository: Path,
    model: str | None,
    url: str | None,
    seconds: float,
    workload: Path | None,
    rate: float | None,
    concurrency: int | None,
    batch: int | None,
    seed: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Load the ensemble in DIR for some seconds and show throughput and latencies.

    With --workload an open loop: queries are sent when the workload says, answered or not, and latency counts from when a
    query was due. Ctrl-C ends it early and keeps what was measured.

    Without, a closed loop: as many requests are on their way at all times as --concurrency says, so the server is never
    offered more than it answers. Inputs are random and valid.
    """
    from recsplit.client.wire import address
    from recsplit.errors import InputError
    from recsplit.repository.find import find

    plan = find(repository, model).plan
    if output is not None:
        refuse_output(output)
    if url is not None:
        url = address(url, "grpc" if workload is None else "http")
    if workload is not None:
        if concurrency is not None or batch is not None:
            name = "--batch" if batch is not None else "--concurrency"
            raise InputError(
                f"{name} is for the closed loop, and --workload asks for the open one", hint=f"leave one out: {workload} says it"
            )
        _open_loop(plan, repository, url, seconds, workload, rate, seed, output, as_json)
    elif rate is not None:
        raise InputError("--rate is for the open loop", hint="give --workload FILE too: recsplit brings some")
    else:
        _closed_loop(plan, repository, url, seconds, concurrency or CONCURRENCY, batch or BATCH, seed or 0, output, as_json)


def _open_loop(
    plan: "Plan",
    repository: Path,
    url: str | None,
    seconds: float,
    path: Path,
    rate: float | None,
    seed: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Offer a workload, show how it was answered."""
    import dataclasses

    from recsplit.capacity import arrivals, workload
    from recsplit_perf.traffic import live, queries, runs

    asked = workload.read(path)
    if rate is not None:
        asked = live.at_rate(asked, rate)
    if seed is not None:
        asked = dataclasses.replace(asked, seed=seed)
    rng = np.random.default_rng(asked.seed)
    with contextlib.ExitStack() as stack:
        url = url or stack.enter_context(perf_search.served(repository, plan.name)).http_url
        with progress("Preparing queries"):
            pool = queries.pool(plan, asked, rng)
        with (
            progress(f"Offering {asked.name} to {plan.name}, {arrivals.rate(asked.arrivals):g} queries/s for {seconds:g} s"),
            _until() as stop,
        ):
            measured = live.measure(url, plan, asked, pool, rng, seconds=seconds, stop=stop)
        if output is not None:
            runs.save(measured, output)
    summary = {"model": plan.name, "version": plan.version, **measured.summary(), **measured.provenance}
    if as_json:
        show_json(summary)
    else:
        title = f"{plan.name}, version {plan.version}, {asked.name}, {measured.seconds:.1f} s; bound {asked.latency.bound_ms:g} ms"
        show_table(OPEN_COLUMNS, [[summary[column] for column in OPEN_COLUMNS]], title=title)
        _show_errors(measured.errors)
    if measured.interrupted:
        click.get_current_context().exit(INTERRUPTED)


@contextlib.contextmanager
def _until() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, in place of ending the program: what was measured is kept then. A second Ctrl-C ends it."""
    stop = threading.Event()

    def end(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        stop.set()

    before = signal.signal(signal.SIGINT, end)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _closed_loop(
    plan: "Plan",
    repository: Path,
    url: str | None,
    seconds: float,
    concurrency: int,
    batch: int,
    seed: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Keep the server busy, show how fast it answers."""
    import json

    from recsplit.disk.files import whole_file
    from recsplit.errors import InputError
    from recsplit.proof import samples
    from recsplit_perf.machine import provenance
    from recsplit_perf.traffic import closed_loop

    if batch > plan.max_batch_size:
        raise InputError(f"--batch is {batch}, and {plan.name!r} takes {plan.max_batch_size} rows at most", hint="choose a smaller --batch")
    rng = np.random.default_rng(seed)
    inputs = samples.rows(plan, batch * DISTINCT_QUERIES, rng)  # drawn together, ragged rows share a shape, and Triton batches them
    queries = [{name: array[n * batch : (n + 1) * batch] for name, array in inputs.items()} for n in range(DISTINCT_QUERIES)]
    with contextlib.ExitStack() as stack:
        url = url or stack.enter_context(perf_search.served(repository, plan.name)).grpc_url
        origin = provenance()
        with progress(f"Loading {plan.name} for {seconds:g} s"):
            result = closed_loop.run(url, plan.name, queries, seconds=seconds, concurrency=concurrency)
    about: dict[str, Any] = {"model": plan.name, "version": plan.version, "batch": batch, "concurrency": concurrency}
    if output is not None:
        text = json.dumps({**about, "seconds": result.seconds, "provenance": origin})
        with whole_file(output) as file:
            np.savez(file, about=np.array(text), sent_s=result.sent_s, latency_ms=result.latency_ms, request_rows=result.request_rows)
    summary = {**about, **result.summary(), **origin}
    if as_json:
        show_json(summary)
        return
    title = f"{plan.name}, version {plan.version}, {result.seconds:.1f} s"
    show_table(CLOSED_COLUMNS, [[summary[column] for column in CLOSED_COLUMNS]], title=title)
    _show_errors(result.errors)


def _show_errors(errors: Any) -> None:
    for message, count in errors.items():
        click.echo(f"{count} x {message}", err=True)
