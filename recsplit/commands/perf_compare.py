"""The command `perf compare`: two results side by side."""

from pathlib import Path

import click

from recsplit.commands.output import example, json_option, progress, show_json, show_table, warn


@click.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/tiny",
        "recsplit perf run /tmp/tiny --seconds 3 --batch 16 -o /tmp/a.npz",
        "recsplit perf run /tmp/tiny --seconds 3 --batch 16 -o /tmp/b.npz",
        "recsplit perf compare /tmp/a.npz /tmp/b.npz",
    )
)
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="B", type=click.Path(path_type=Path))
@json_option
def command(a: Path, b: Path, as_json: bool) -> None:
    """Show the ratios of latencies and throughput of B to those of A, with 95 % intervals.

    A and B are files of `recsplit perf run`: -o FILE.npz, or what --json printed; the latter holds no samples, and so there
    are no intervals. Says what else differs: machine, versions, model, workload.
    """
    from recsplit_perf import compare

    one, other = compare.read(a), compare.read(b)
    with progress("Resampling"):
        ratios = compare.ratios(one, other)
    warnings = compare.differences(one, other)
    if as_json:
        show_json({"a": a, "b": b, "ratios": ratios, "differences": warnings})
        return
    rows = [[ratio.name, ratio.a, ratio.b, ratio.ratio, ratio.low, ratio.high] for ratio in ratios]
    show_table(("number", "A", "B", "B / A", "low", "high"), rows, title=f"A: {a}, B: {b}")
    for warning in warnings:
        warn(f"Warning: {warning}")
