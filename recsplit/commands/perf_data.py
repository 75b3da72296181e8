"""The command `perf-data`: inputs for perf_analyzer."""

import shlex
from pathlib import Path

import click

from recsplit.commands.output import example, json_option, progress, refuse_output, show_json
from recsplit.commands.workload_option import workload_option


@click.command(epilog=example("recsplit perf-data model_repository -b 64 -o data.json"))
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@click.option("-b", "--batch", metavar="ROWS", type=click.IntRange(1), default=64, show_default=True, help="Rows in a request.")
@click.option(
    "-n",
    "--entries",
    type=click.IntRange(1, 1_000_000),
    help="Rows in the file.  [default: enough for some requests that differ]",
)
@workload_option("Draw ids by this workload's law.  [default: uniform]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random inputs.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="[default: <model>.perf.json]")
@click.option("--url", metavar="HOST:PORT", default="127.0.0.1:8001", show_default=True, help="gRPC address for the command line shown.")
@json_option
def command(
    repository: Path,
    model: str | None,
    batch: int,
    entries: int | None,
    workload: Path | None,
    seed: int,
    output: Path | None,
    url: str,
    as_json: bool,
) -> None:
    """Write random valid inputs of the ensemble in DIR, as perf_analyzer's --input-data, and show the command that uses them.

    perf_analyzer is fetched the first time (14 MB, into the user's cache) where the PATH has none.
    """
    from recsplit.capacity.workload import read
    from recsplit.errors import InputError
    from recsplit.repository.find import find
    from recsplit_perf.perf_analyzer import input_data, perf_analyzer

    plan = find(repository, model).plan
    if batch > plan.max_batch_size:
        raise InputError(f"-b is {batch}, and {plan.name!r} takes {plan.max_batch_size} rows at most", hint="choose a smaller -b")
    path = Path(f"{plan.name}.perf.json") if output is None else output
    refuse_output(path)
    law = None if workload is None else read(workload).ids
    count = input_data.entries_for(batch) if entries is None else entries
    with progress(f"Writing {count} rows to {path}"):
        input_data.write(path, plan, count, seed, law)
    analyzer = perf_analyzer.find_or_install(progress)
    line = shlex.join(perf_analyzer.command_line(analyzer, url=url, model=plan.name, batch=batch, load=4, data=path, seconds=6))
    if as_json:
        show_json({"model": plan.name, "file": path, "entries": count, "batch": batch, "command": line})
        return
    click.echo(f"{path}: {count} rows for {plan.name}, version {plan.version}. While it is served at {url}:\n\n  {line}")
