"""The command `access`: how often each row of each table is read."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recsplit.commands.output import Cell, example, json_option, progress, refuse_output, show_json, show_table, steps
from recsplit.commands.workload_option import workload_option
from recsplit.errors import InputError

if TYPE_CHECKING:
    from recsplit.capacity.ids import Skew
    from recsplit.partition.access.frequencies import About, AccessProfile, Counts
    from recsplit.partition.access.skew import AccessSkew
    from recsplit.plan.plan import Plan

#: Shares of a table's rows whose part of the reads is shown.
SHOWN = (0.001, 0.01, 0.1, 0.5)
#: Tables whose skew is drawn.
DRAWN = 4


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
@click.option("--running", is_flag=True, help="Take what the server that serves DIR on this machine, or a front of its fleet, has sampled.")
@click.option("--grpc-url", metavar="HOST:PORT", help="With --running: which server, where several serve DIR.")
@click.option("--clear", is_flag=True, help="With --running: let the server begin anew.")
@click.option("--law", metavar="LAW", help="Draw ids instead: uniform, zipf=ALPHA or two-level=HOT_SHARE[,HOT_ROWS].")
@workload_option("Draw ids by this workload's law instead.")
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
    running: bool,
    grpc_url: str | None,
    clear: bool,
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
    their way, give the rows that were read instead, as an array rows/TABLE [rows, any]. With --running no trace is needed: recsplit's
    engine samples the reads of what it serves. A .json is live traffic, as
    Triton writes it with --trace-config triton,file=FILE.json, level=TIMESTAMPS and level=TENSORS.
    """
    from recsplit.partition.access.skew import skew_of
    from recsplit.repository.find import find

    plan = find(repository, model).plan
    if sum(map(bool, (traces, running, law, workload, merge))) != 1:
        hint = "--trace FILE, --running, --law LAW, --workload FILE or --merge FILE"
        raise InputError("say where the accesses come from, in one way", hint=hint)
    if not running and (grpc_url is not None or clear):
        raise InputError(f"{'--clear' if clear else '--grpc-url'} goes with --running", hint="recsplit access DIR --running")
    if output is not None:
        refuse_output(output)
    if plot is not None:
        refuse_output(plot)
    if merge:
        profile = _merged(plan, merge, output)
    else:
        forget: Callable[[], object] | None = None
        if running:
            profile, forget = _sampled(repository, plan, grpc_url, query_size)
        elif traces:
            profile = _counted(plan, traces, query_size)
        else:
            profile = _drawn(plan, law, workload, queries, query_size, seed)
        if output is not None:
            _write(output, profile.about, profile.tables.items())
        if forget is not None and clear:
            forget()  # only now: what can't be read or written is still in the server
    with progress("Ordering rows by heat"):
        skew = skew_of(profile, SHOWN)
    if plot is not None:
        _plot(plot, profile, skew)
    if as_json:
        show_json(skew)
        return
    table_rows: list[list[Cell]] = [[one.table, one.rows, one.gathers_per_query, one.rows_read, *one.share.values()] for one in skew.tables]
    columns = ("table", "rows", "gathers_per_query", "rows_read", *(f"hottest {100 * part:g} %" for part in SHOWN))
    show_table(columns, table_rows, title=f"{skew.model}: {skew.queries:,} queries of {profile.query_size:g} rows")
    if skew.unknown:
        click.echo(f"{skew.unknown:,} ids are outside their table, and were not counted", err=True)


def _merged(plan: "Plan", paths: Sequence[Path], output: Path | None) -> "AccessProfile":
    """The sum of profiles, written to `output`; one alone is just read where there is no such file."""
    from recsplit.partition.access import frequencies

    if output is None and len(paths) > 1:
        raise InputError("--merge of several needs a file to write to", hint="-o access.npz")
    profiles = [frequencies.read(path) for path in paths]
    for path, one in zip(paths, profiles, strict=True):
        frequencies.check(one, plan.name, {table.name: table.rows for table in plan.tables}, origin=str(path))
    if output is None:
        return profiles[0]
    with progress(f"Adding up {len(paths)} access profiles"):
        _write(output, *frequencies.merged(profiles))
    return frequencies.read(output)


def _sampled(
    repository: Path, plan: "Plan", grpc_url: str | None, query_size: float | None
) -> "tuple[AccessProfile, Callable[[], object]]":
    """What a server's engine has sampled, and what lets it begin anew; how sure the sample is goes to stderr."""
    from recsplit.partition.access import sampled
    from recsplit.serving import notes, workers
    from recsplit.serving.fleet import fronts

    if plan.embedding.runtime != "native":
        raise InputError(
            f"{plan.name!r} is built for ONNX Runtime, and only recsplit's engine samples what it reads",
            hint="--trace FILE counts what clients sent; recsplit build --embedding-runtime native builds for the engine",
        )
    several = "say which one with --grpc-url; --merge adds up the profiles of several"
    url = grpc_url or notes.one_of((*notes.serving(repository), *fronts.running(repository, plan)), repository, several).grpc_url
    folder = notes.own_folder(url)
    # A fused model's lookups are its own, and so are those of a fleet's front where it is one model.
    served = workers.workers(folder)
    model = next((name for name in (plan.embedding.name, plan.name) if name in served), None)
    if model is None:
        raise InputError(
            f"the server at {url} doesn't do the lookups of {plan.name!r}: its engine runs {', '.join(served) or 'no model'}",
            hint="of a fleet, a front is asked and no shard; leave --grpc-url out",
        )
    said = workers.read(folder, model)
    profile = sampled.profile(plan, said.rows, said.tables, query_size, f"served at {url}")
    words = f"{profile.about.sources[0]}; shares of a table's reads are sure to {100 * sampled.share_error(said.tables):.2g} % (95 %)"
    click.echo(words, err=True)
    return profile, lambda: workers.read(folder, model, clear=True)


def _counted(plan: "Plan", traces: Sequence[Path], query_size: float | None) -> "AccessProfile":
    from recsplit.partition.access.profiles import from_traces

    with steps() as show:
        return from_traces(plan, traces, query_size, progress=show)


def _drawn(plan: "Plan", law_text: str | None, workload: Path | None, queries: int, query_size: float | None, seed: int) -> "AccessProfile":
    from recsplit.partition.access.profiles import from_law
    from recsplit.proof import samples

    law = _law(law_text) if law_text is not None else _workload(workload)
    with steps() as show:
        return from_law(
            plan,
            law,
            queries,
            query_size,
            source=f"{law_text or workload}, seed {seed}",
            make_rows=lambda rows, rng: samples.rows(plan, rows, rng, draw=samples.by_law(law, rng)),
            seed=seed,
            progress=show,
        )


def _write(path: Path, about: "About", tables: "Iterable[tuple[str, Counts]]") -> None:
    from recsplit.disk.files import whole_file
    from recsplit.partition.access import frequencies

    with whole_file(path) as file:
        frequencies.write(file, about, tables)


def _plot(path: Path, profile: "AccessProfile", skew: "AccessSkew") -> None:
    """Share of reads against share of rows, as the report draws it. Raises MissingExtra without matplotlib."""
    from recsplit.disk.files import whole_file
    from recsplit.errors import MissingExtra
    from recsplit.partition.access.skew import curves

    try:
        from recsplit_perf.report import figures
    except ModuleNotFoundError as error:
        raise MissingExtra("matplotlib", "capacity", "a plot") from error
    with whole_file(path) as file:
        file.write(figures.skew(curves(profile, skew, DRAWN), title=f"Reads of {skew.model}").encode())


def _law(text: str) -> "Skew":
    """zipf=1.05 as a law. Raises InputError for anything else."""
    from recsplit.capacity.ids import TwoLevel, Uniform, Zipf

    name, _, numbers = text.partition("=")
    kinds: dict[str, tuple[Callable[..., Skew], int, int]] = {
        "uniform": (Uniform, 0, 0),
        "zipf": (Zipf, 1, 1),
        "two-level": (TwoLevel, 1, 2),
    }
    hint = "uniform, zipf=ALPHA, or two-level=HOT_SHARE,HOT_ROWS as in two-level=0.9,0.1"
    if name not in kinds:
        raise InputError(f"--law {text!r} is not a law", hint=hint)
    kind, least, most = kinds[name]
    values = [item for item in numbers.split(",") if item]
    if not least <= len(values) <= most or not all(re.fullmatch(r"[0-9]*\.?[0-9]+", item) for item in values):
        raise InputError(f"--law {text!r} can't be read", hint=hint)
    return kind(*map(float, values))


def _workload(path: Path | None) -> "Skew":
    from recsplit.capacity import workload

    assert path is not None
    return workload.read(path).ids
