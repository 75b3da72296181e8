"""The command `access`: how often each row of each table is read."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from recsplit.commands.output import Cell, example, json_option, progress, refuse_output, show_json, show_table
from recsplit.errors import InputError

#: Shares of a table's rows whose part of the reads is shown.
SHOWN = (0.001, 0.01, 0.1, 0.5)


@click.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/tiny",
        "recsplit access /tmp/tiny --law zipf=1.05 --queries 10000 --query-size 20 -o /tmp/access.npz",
        "recsplit partition /tmp/tiny --access /tmp/access.npz --qps 100 --min-mb 0.01",
    )
)
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@click.option("--trace", "traces", metavar="FILE", multiple=True, type=click.Path(path_type=Path), help="What clients sent; repeat it.")
@click.option("--law", metavar="LAW", help="Draw ids instead: uniform, zipf=ALPHA or two-level=HOT_SHARE[,HOT_ROWS].")
@click.option("--workload", metavar="FILE", type=click.Path(path_type=Path), help="Draw ids by this workload's law instead.")
@click.option("--queries", type=click.IntRange(1), default=10_000, show_default=True, help="How many to draw.")
@click.option("--query-size", type=click.FloatRange(0, min_open=True), help="Rows in a query, in the mean; 1 without, or as Triton saw.")
@click.option(
    "--merge",
    "merge",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Add up access profiles; repeat it. One alone is shown.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of drawn ids.")
@click.option("--plot", metavar="FILE.svg", type=click.Path(path_type=Path), help="Draw the skew of the four tables that are read most.")
@click.option("-o", "--output", metavar="FILE.npz", type=click.Path(path_type=Path), help="Write the access profile there.")
@json_option
def command(
    repository: Path,
    model: str | None,
    traces: tuple[Path, ...],
    law: str | None,
    workload: Path | None,
    queries: int,
    query_size: float | None,
    merge: tuple[Path, ...],
    seed: int,
    plot: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Count how often each row of each table of the model in DIR is read, for `recsplit partition`.

    A trace is a .npz, or with the extra `parquet` a .parquet, of what clients sent: an array for each input that ids come
    in, one row for each row asked for; lists of ids are [rows, ids]. It may be larger than memory. Where ids are hashed on
    their way, give the rows that were read instead, as an array rows/TABLE [rows, any]. A .json is live traffic, as
    Triton writes it with --trace-config triton,file=FILE.json, level=TIMESTAMPS and level=TENSORS.
    """
    from recsplit.partition.access import frequencies
    from recsplit.partition.access.counting import Counter
    from recsplit.repository.find import find

    plan = find(repository, model).plan
    if sum(map(bool, (traces, law, workload, merge))) != 1:
        raise InputError("say where the accesses come from, in one way", hint="--trace FILE, --law LAW, --workload FILE or --merge FILE")
    if output is not None:
        refuse_output(output)
    if plot is not None:
        refuse_output(plot)
    if merge:
        if output is None and len(merge) > 1:
            raise InputError("--merge of several needs a file to write to", hint="-o access.npz")
        profiles = [frequencies.read(path) for path in merge]
        for path, one in zip(merge, profiles, strict=True):
            frequencies.check(one, plan.name, {table.name: table.rows for table in plan.tables}, origin=str(path))
        profile = profiles[0]
        if output is not None:
            with progress(f"Adding up {len(merge)} access profiles"):
                _write(output, *frequencies.merged(profiles))
            profile = frequencies.read(output)
    else:
        counter = Counter(plan)
        if traces:
            from recsplit.partition.access.live import is_live
            from recsplit.partition.access.traces import chunks

            requests = 0
            for path in traces:
                size = path.stat().st_size if path.is_file() else None
                with progress(f"Counting {path}", total=size) as advance:
                    for chunk in chunks(path, plan, advance):
                        counter.add(chunk)
                        requests += 1
            if query_size is None and all(map(is_live, traces)):
                query_size = counter.rows / requests
            sources = tuple(str(path) for path in traces)
        else:
            skew = _law(law) if law is not None else _workload(workload)
            rows = max(round(queries * (query_size or 1)), 1)
            with progress(f"Drawing {rows:,} rows", total=rows) as advance:
                _draw(counter, skew, rows, seed, advance)
            sources = (f"{law or workload}, seed {seed}",)
        profile = counter.profile(query_size or 1, sources)
        if output is not None:
            _write(output, profile.about, profile.tables.items())
    with progress("Ordering rows by heat"):
        summary = _summary(profile)
    if plot is not None:
        _plot(plot, profile, summary["tables"])
    if as_json:
        show_json(summary)
        return
    table_rows: list[list[Cell]] = [
        [one["table"], one["rows"], one["gathers_per_query"], one["rows_read"], *one["share"].values()] for one in summary["tables"]
    ]
    columns = ("table", "rows", "gathers_per_query", "rows_read", *(f"hottest {100 * part:g} %" for part in SHOWN))
    about = profile.about
    show_table(columns, table_rows, title=f"{about.model}: {about.queries:,} queries of {about.rows / about.queries:g} rows")
    if about.unknown:
        click.echo(f"{about.unknown:,} ids are outside their table, and were not counted", err=True)


def _write(path: Path, about: Any, tables: Any) -> None:
    from recsplit.disk.files import whole_file
    from recsplit.partition.access import frequencies

    with whole_file(path) as file:
        frequencies.write(file, about, tables)


def _summary(profile: Any) -> dict[str, Any]:
    """The figures of an access profile: one table in memory at a time."""
    import numpy as np

    tables = []
    for name, counts in profile.tables.items():
        hot = np.sort(counts)[::-1]
        total = int(hot.sum(dtype=np.uint64))
        share = {
            f"{part:g}": float(hot[: max(round(part * len(hot)), 1)].sum(dtype=np.uint64)) / total if total else None for part in SHOWN
        }
        rows_read = int(np.count_nonzero(hot))
        tables.append(
            {"table": name, "rows": len(hot), "gathers_per_query": total / profile.queries, "rows_read": rows_read, "share": share}
        )
    about = profile.about
    return {"model": about.model, "queries": about.queries, "rows": about.rows, "unknown": about.unknown, "tables": tables}


def _plot(path: Path, profile: Any, tables: list[dict[str, Any]]) -> None:
    """Share of reads against share of rows, as the report draws it. Raises MissingExtra without matplotlib."""
    from recsplit.disk.files import whole_file
    from recsplit.errors import MissingExtra

    try:
        from recsplit_perf.report.figures import skew
    except ModuleNotFoundError as error:
        raise MissingExtra("matplotlib", "capacity", "a plot") from error
    import numpy as np

    from recsplit.partition.heat import candidates, read_before

    curves = {}
    for one in sorted(tables, key=lambda one: -one["gathers_per_query"])[:4]:
        if one["gathers_per_query"] > 0:
            cuts = candidates(one["rows"])
            read = read_before(np.sort(profile.tables[one["table"]])[::-1], cuts)
            curves[one["table"]] = (cuts / one["rows"], read / read[-1])
    with whole_file(path) as file:
        file.write(skew(curves, title=f"Reads of {profile.about.model}").encode())


def _law(text: str) -> Any:
    """zipf=1.05 as a law. Raises InputError for anything else."""
    from recsplit.capacity.ids import TwoLevel, Uniform, Zipf

    name, _, numbers = text.partition("=")
    kinds = {"uniform": (Uniform, 0, 0), "zipf": (Zipf, 1, 1), "two-level": (TwoLevel, 1, 2)}
    hint = "uniform, zipf=ALPHA, or two-level=HOT_SHARE,HOT_ROWS as in two-level=0.9,0.1"
    if name not in kinds:
        raise InputError(f"--law {text!r} is not a law", hint=hint)
    kind, least, most = kinds[name]
    values = [item for item in numbers.split(",") if item]
    if not least <= len(values) <= most or not all(re.fullmatch(r"[0-9]*\.?[0-9]+", item) for item in values):
        raise InputError(f"--law {text!r} can't be read", hint=hint)
    return kind(*map(float, values))


def _workload(path: Path | None) -> Any:
    from recsplit.capacity import workload

    assert path is not None
    return workload.read(path).ids


def _draw(counter: Any, law: Any, rows: int, seed: int, advance: Callable[[int], None]) -> None:
    """Count reads by clients whose ids follow the law: counts are drawn where that is quicker, else ids as `recsplit perf` sends them."""
    import numpy as np

    from recsplit.partition.access.counting import drawable
    from recsplit.partition.access.traces import CHUNK
    from recsplit.proof import samples

    plan, rng = counter.plan, np.random.default_rng(seed)
    if drawable(plan, rows):
        counter.add_drawn(law, rows, rng, advance)
        return
    draw = samples.by_law(law, rng)
    width = sum(array.size for array in samples.rows(plan, 1, rng, draw=draw).values())
    step = max(CHUNK // max(width, 1), 1)
    for first in range(0, rows, step):
        chunk = min(step, rows - first)
        counter.add(samples.rows(plan, chunk, rng, draw=draw))
        advance(chunk)
