"""The command `perf`: measure a served model."""

import contextlib
from pathlib import Path

import click
import numpy as np

from recsplit.commands.output import example, json_option, progress, refuse_output, show_json, show_table

#: The load goes round these: enough that caches don't hold all their table rows, few enough to make in a moment.
DISTINCT_QUERIES = 16


@click.group(no_args_is_help=False)
def command() -> None:
    """Measure a served model."""


@command.command(epilog=example("recsplit build recsplit.zoo.tiny:dlrm -o /tmp/tiny", "recsplit perf run /tmp/tiny --seconds 3 --batch 16"))
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@click.option("--url", metavar="HOST:PORT", help="gRPC address of a server that runs; without it DIR is served for the measurement.")
@click.option("--seconds", type=click.FloatRange(0, 3600, min_open=True), default=10, show_default=True, help="How long.")
@click.option("--concurrency", type=click.IntRange(1, 256), default=4, show_default=True, help="Requests on their way at all times.")
@click.option("-b", "--batch", type=click.IntRange(1), default=64, show_default=True, help="Rows in a request.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random inputs.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write every latency there, as .npz.")
@json_option
def run(
    repository: Path,
    model: str | None,
    url: str | None,
    seconds: float,
    concurrency: int,
    batch: int,
    seed: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Keep the ensemble in DIR busy for some seconds and show throughput and latencies.

    A closed loop: as many requests are on their way at all times as --concurrency says, so the server is never
    offered more than it answers. Inputs are random and valid.
    """
    from recsplit import samples
    from recsplit.client.wire import address
    from recsplit.disk import whole_file
    from recsplit.errors import InputError
    from recsplit.repository import find
    from recsplit.serving import serve
    from recsplit_perf import load

    plan = find(repository, model).plan
    if batch > plan.max_batch_size:
        raise InputError(f"--batch is {batch}, and {plan.name!r} takes {plan.max_batch_size} rows at most", hint="choose a smaller --batch")
    if output is not None:
        refuse_output(output)
    if url is not None:
        url = address(url, "grpc")
    rng = np.random.default_rng(seed)
    inputs = samples.rows(plan, batch * DISTINCT_QUERIES, rng)  # drawn together, ragged rows share a shape, and Triton batches them
    queries = [{name: array[n * batch : (n + 1) * batch] for name, array in inputs.items()} for n in range(DISTINCT_QUERIES)]
    with contextlib.ExitStack() as stack:
        if url is None:
            with progress(f"Starting Triton on {repository}"):
                url = stack.enter_context(serve(repository, models=[plan.name])).grpc_url
        with progress(f"Loading {plan.name} for {seconds:g} s"):
            result = load.run(url, plan.name, queries, seconds=seconds, concurrency=concurrency)
    if output is not None:
        with whole_file(output) as file:
            np.savez(file, sent_s=result.sent_s, latency_ms=result.latency_ms, request_rows=result.request_rows)
    summary = {"model": plan.name, "version": plan.version, "batch": batch, **result.summary()}
    if as_json:
        show_json(summary)
        return
    columns = ("concurrency", "batch", "requests", "failed", "requests_per_s", "rows_per_s", "p50_ms", "p95_ms", "p99_ms", "max_ms")
    show_table(columns, [[summary[column] for column in columns]], title=f"{plan.name}, version {plan.version}, {result.seconds:.1f} s")
    for message, count in result.errors.items():
        click.echo(f"{count} x {message}", err=True)
