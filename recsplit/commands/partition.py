"""The command `partition`: which rows of which tables make up each shard."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from recsplit.commands.output import Cell, cell_text, example, json_option, progress, refuse_output, show_json, show_table
from recsplit.commands.partition_settings import settings_of
from recsplit.disk.files import size_text
from recsplit.errors import InputError

#: Names of tables shown of a shard that holds many.
SHOWN_TABLES = 3
ALGORITHMS = ("one", "tables", "paper", "whole", "grouped", "layers", "front", "joint")


@click.command(
    epilog=example(
        "recsplit build recsplit.zoo.tiny:dlrm -o /tmp/tiny",
        "recsplit access /tmp/tiny --law zipf=1.05 --queries 10000 --query-size 20 -o /tmp/access.npz",
        "recsplit partition /tmp/tiny --access /tmp/access.npz --qps 100 --min-mb 0.01 -o /tmp/partition.json",
    )
)
@click.argument("repository", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME", help="Which ensemble, where DIR holds several.")
@click.option("--access", "access_path", metavar="FILE.npz", required=True, type=click.Path(path_type=Path), help="From `recsplit access`.")
@click.option("--qps", type=float, required=True, help="Queries per second that all shards together are for.")
@click.option("--algorithm", type=click.Choice(ALGORITHMS), default="joint", show_default=True, help="How shards are found; see --compare.")
@click.option("--compare", is_flag=True, help="Show what each algorithm's partition costs.")
@click.option("--profile", metavar="FILE.json", type=click.Path(path_type=Path), help="What calls, servers and the dense model take here.")
@click.option("--call-ms", metavar="A,B", help="A call takes A + B * rows read; ElasticRec's 10,1.524 without, or the profile's.")
@click.option("--min-mb", type=click.FloatRange(0), help="What a server takes besides its rows; 300 without, or the profile's.")
@click.option("--dense-ms", type=click.FloatRange(0), help="Of a query in the front server; the profile's without.")
@click.option("--dense-mb", type=click.FloatRange(0), help="What a front server takes; the profile's without, else --min-mb.")
@click.option("--front-mb", type=click.FloatRange(0), help="Of rows that a front server has room for; no limit without.")
@click.option("--max-shards", type=int, default=8, show_default=True, help="Of one table.")
@click.option(
    "--price", metavar="gb=G,core=C,sent=S", help="USD by the GB and hour, the core and hour, the GB sent; cost is bytes without."
)
@click.option("--bound-ms", type=click.FloatRange(0, min_open=True), help="In which all of a query's shards shall have answered.")
@click.option("--percentile", type=click.FloatRange(50, 99.99), default=95, show_default=True, help="Of the queries, for --bound-ms.")
@click.option(
    "--update", "old_path", metavar="OLD.json", type=click.Path(path_type=Path), help="Move this partition's boundaries, as it pays."
)
@click.option("--was", metavar="OLD.npz", type=click.Path(path_type=Path), help="The access profile that OLD.json was made with.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), default=24, show_default=True, help="How long the new heat shall last.")
@click.option(
    "--copy-hours", type=click.FloatRange(0), default=1, show_default=True, help="A copied byte costs as much as holding it so long."
)
@click.option("-o", "--output", metavar="FILE.json", type=click.Path(path_type=Path), help="Write the partition there.")
@json_option
def command(
    repository: Path,
    model: str | None,
    access_path: Path,
    qps: float,
    algorithm: str,
    compare: bool,
    old_path: Path | None,
    was: Path | None,
    hours: float,
    copy_hours: float,
    output: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Cut the tables of the model in DIR into shards by heat, so that each is replicated as often as its own traffic needs.

    Finds the partition that costs least at --qps: the memory of all replicas, or with --price that and their cores and traffic. Without
    --profile calls and servers are the paper's (ElasticRec, ISCA 2024), which are slower and larger than recsplit's.

    With --update it keeps the shards of an older partition and moves only boundaries that pay for the copies within --hours. It then
    writes a second file beside FILE.json, FILE.access.npz, which holds the order of rows that the new partition follows.
    """
    from recsplit.partition import algorithms
    from recsplit.partition.access import frequencies
    from recsplit.partition.heat import from_counts, vectors_per_row
    from recsplit.repository.find import find

    plan = find(repository, model).plan
    profile = frequencies.read(access_path)
    rows = {table.name: table.rows for table in plan.tables}
    frequencies.check(profile, plan.name, rows, origin=str(access_path))
    if output is not None:
        refuse_output(output)
    query_size = profile.about.rows / profile.queries
    settings = settings_of(plan, qps, query_size, **given)
    vectors = {name: count * query_size for name, count in vectors_per_row(plan).items()}
    if old_path is not None:
        _update(plan, profile, settings, vectors, old_path, was, hours, copy_hours, output, as_json)
        return
    if was is not None:
        raise InputError("--was goes with --update", hint="--update OLD.json --was OLD.npz")
    heats = []
    with progress("Ordering rows by heat", total=sum(rows.values())) as advance:
        for table in plan.tables:
            heats.append(from_counts(table, profile.tables[table.name], profile.queries, vectors[table.name]))
            advance(table.rows)
    digest = frequencies.digest(access_path)
    with progress("Looking for the cheapest partition"):
        found = algorithms.partition(plan.name, heats, settings, algorithm, access=digest)
        compared = []
        for name in [name for name in ALGORITHMS if name != "front" or settings.front is not None] if compare else []:
            try:
                compared.append(algorithms.partition(plan.name, heats, settings, name, access=digest))
            except InputError:  # its calls can't keep the bound; the chosen algorithm's can
                continue
    if output is not None:
        _write(output, found)
    if as_json:
        rows_of = [{"algorithm": one.algorithm, "cost": one.cost, "shards": len(one.shards), **_sums(one, settings)} for one in compared]
        show_json({"partition": found, "settings": settings, "compared": rows_of})
        return
    _show(found, settings)
    if compare:
        lines: list[list[Cell]] = [
            [
                one.algorithm,
                algorithms.ALGORITHMS[one.algorithm].text,
                _cost_text(one.cost, one.cost_unit),
                *_counts(one),
                one.cost / found.cost,
            ]
            for one in compared
        ]
        show_table(
            ("algorithm", "how", "cost", "shards", "servers", "to the chosen"), lines, title="Every algorithm, by the same objective"
        )


def _update(
    plan: Any,
    profile: Any,
    settings: Any,
    vectors: Mapping[str, float],
    old_path: Path,
    was: Path | None,
    hours: float,
    copy_hours: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """--update: what the old partition is worth under the new heat, and the boundaries that pay."""
    from recsplit.disk.files import whole_file
    from recsplit.partition import drift, partition_file
    from recsplit.partition.access import frequencies

    old = partition_file.read(old_path)
    rows = {table.name: table.rows for table in plan.tables}
    if old.model != plan.name:
        raise InputError(
            f"{old_path} is a partition of {old.model!r}, and the model is {plan.name!r}", hint="make one: recsplit partition DIR"
        )
    partition_file.check(old, rows)
    before: Mapping[str, Any]
    was_queries = profile.queries
    if old.access is None:
        import numpy as np

        before = {name: np.arange(size, 0, -1, dtype=np.uint32) for name, size in rows.items()}  # its own order
    else:
        if was is None:
            raise InputError(f"{old_path} follows an access profile of its own", hint="give that with --was OLD.npz")
        old_profile = frequencies.read(was)
        frequencies.check(old_profile, plan.name, rows, origin=str(was))
        if frequencies.digest(was) != old.access:
            raise InputError(f"{was} is not the access profile that {old_path} was made with", hint=f"its SHA-256 is {old.access[:12]}...")
        before, was_queries = old_profile.tables, old_profile.queries
    with progress("Weighing what moves would save and cost"):
        made = drift.update(
            old, plan.tables, before, profile.tables, was_queries, profile.queries, vectors, settings, drift.Pay(hours, copy_hours)
        )
    new = made.partition
    if output is not None:
        order_path = output.with_suffix(".access.npz")
        refuse_output(order_path)
        followed = {table.table: table.order for table in made.tables}
        about = dataclasses.replace(
            profile.about, sources=(*profile.about.sources, *(f"{name}: {kind} order" for name, kind in followed.items() if kind != "new"))
        )

        def counts(name: str) -> Any:
            now = profile.tables[name]
            if followed[name] == "mended":
                return drift.mended(before[name], now, was_queries, profile.queries)
            return now if followed[name] == "new" else before[name]

        with whole_file(order_path) as file:
            frequencies.write(file, about, ((name, counts(name)) for name in rows))
        new = dataclasses.replace(new, access=frequencies.digest(order_path))
        _write(output, new)
    if as_json:
        figures = {"kept_cost": made.kept_cost, "cost": made.cost, "carried_qps": made.carried_qps, "copied_bytes": made.copied_bytes}
        show_json({"partition": new, **figures, "tables": made.tables})
        return
    _show(new, settings)
    lines: list[list[Cell]] = [[one.table, one.order, one.rows, size_text(one.copied_bytes)] for one in made.tables]
    show_table(("table", "order of rows", "rows moved", "copied"), lines)
    kept, moved = (_cost_text(price, new.cost_unit) for price in (made.kept_cost, made.cost))
    click.echo(f"Under the new heat the old partition's replicas carry {made.carried_qps:.4g} queries/s; with as many as it then needs")
    click.echo(f"it costs {kept}, and with the moves {moved}, for {size_text(made.copied_bytes)} of copies")


def _write(path: Path, partition: Any) -> None:
    from recsplit.disk.files import whole_file
    from recsplit.partition.partition_file import to_json

    with whole_file(path) as file:
        file.write(to_json(partition).encode())


def _show(partition: Any, settings: Any) -> None:
    """The shards as a table, and what they come to."""
    lines: list[list[Cell]] = []
    for number, shard in enumerate(partition.shards):
        names = [f"{one.table} {one.first:,}-{one.last:,}" for one in shard.segments[:SHOWN_TABLES]]
        more = len(shard.segments) - len(names)
        text = ", ".join([*names, f"and {more} more tables"] if more else names)
        rows = sum(one.last - one.first for one in shard.segments)
        lines.append([number, shard.place, text, rows, size_text(shard.size_bytes), shard.gathers_per_query, shard.replicas])
    columns = ("shard", "place", "tables and ranks", "rows", "size", "gathers_per_query", "replicas")
    show_table(columns, lines, title=f"{partition.model} by {partition.algorithm!r}, for {partition.target_qps:g} queries/s")
    sums = _sums(partition, settings)
    click.echo(
        f"It costs {_cost_text(partition.cost, partition.cost_unit)}: {sums['servers']} servers with {size_text(sums['allocated_bytes'])}; "
        f"a query calls {sums['calls']} shards. A call takes {settings.fit.a_ms:.3g} ms and {cell_text(settings.fit.b_ms)} ms a row, "
        f"a server {size_text(settings.min_bytes)} besides its rows"
    )


def _sums(partition: Any, settings: Any) -> dict[str, int]:
    """Servers of shards, the memory they are given, and how many shards a query calls; front servers are not counted."""
    own = [shard for shard in partition.shards if shard.place == "own"]
    return {
        "servers": sum(shard.replicas for shard in own),
        "allocated_bytes": sum(shard.replicas * (shard.size_bytes + settings.min_bytes) for shard in own),
        "calls": len(own),
    }


def _counts(partition: Any) -> tuple[int, int]:
    return len(partition.shards), sum(shard.replicas for shard in partition.shards if shard.place == "own")


def _cost_text(cost: float, unit: str) -> str:
    return size_text(round(cost)) if unit == "bytes" else f"{cost:.4g} {unit}"
