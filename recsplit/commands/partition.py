"""The command `partition`: which rows of which tables make up each shard."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recsplit.commands.output import Cell, cell_text, example, json_option, refuse_output, show_json, show_table, steps
from recsplit.commands.partition_settings import settings_of
from recsplit.disk.files import size_text
from recsplit.errors import InputError
from recsplit.partition.cost import CostSettings
from recsplit.partition.partition_file import Partition

if TYPE_CHECKING:
    from recsplit.partition.choice import Choice
    from recsplit.partition.update import Updated
    from recsplit.partition.worth import Worth

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
@click.option("--compare", is_flag=True, help="Show what each algorithm's partition costs, and what is worth a server.")
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
    profile: Path | None,
    call_ms: str | None,
    min_mb: float | None,
    dense_ms: float | None,
    dense_mb: float | None,
    front_mb: float | None,
    max_shards: int,
    price: str | None,
    bound_ms: float | None,
    percentile: float,
    old_path: Path | None,
    was: Path | None,
    hours: float,
    copy_hours: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Cut the tables of the model in DIR into shards by heat, so that each is replicated as often as its own traffic needs.

    Finds the partition that costs least at --qps: the memory of all replicas, or with --price that and their cores and traffic. Without
    --profile calls and servers are the paper's (ElasticRec, ISCA 2024), which are slower and larger than recsplit's.

    With --update it keeps the shards of an older partition and moves only boundaries that pay for the copies within --hours. It then
    writes a second file beside FILE.json, FILE.access.npz, which holds the order of rows that the new partition follows.
    """
    from recsplit.partition import partition_file
    from recsplit.partition.access import frequencies
    from recsplit.partition.choice import choose
    from recsplit.partition.drift import Pay
    from recsplit.partition.update import read_old, update
    from recsplit.repository.find import find

    plan = find(repository, model).plan
    partition_file.refuse_quantized(plan.tables)
    access = frequencies.read_for(access_path, plan)
    if output is not None:
        refuse_output(output)
    settings = settings_of(
        plan,
        qps,
        access.query_size,
        profile=profile,
        call_ms=call_ms,
        min_mb=min_mb,
        dense_ms=dense_ms,
        dense_mb=dense_mb,
        front_mb=front_mb,
        max_shards=max_shards,
        price=price,
        bound_ms=bound_ms,
        percentile=percentile,
    )
    if old_path is not None:
        old = read_old(plan, old_path, was, access.queries)
        with steps() as show:
            updated = update(plan, old, access, settings, Pay(hours, copy_hours), progress=show)
        partition = updated.moves.partition if output is None else _write_updated(output, updated)
        _show_updated(partition, updated, settings, as_json=as_json)
        return
    if was is not None:
        raise InputError("--was goes with --update", hint="--update OLD.json --was OLD.npz")
    digest = frequencies.digest(access_path)
    with steps() as show:
        choice = choose(plan, access, settings, algorithm, access=digest, compare=compare, progress=show)
    if output is not None:
        _write(output, choice.partition)
    _show_choice(choice, settings, as_json=as_json)


def _write(path: Path, partition: Partition) -> None:
    from recsplit.disk.files import whole_file
    from recsplit.partition.partition_file import to_json

    with whole_file(path) as file:
        file.write(to_json(partition).encode())


def _write_updated(path: Path, updated: "Updated") -> Partition:
    """Write the order that the new partition follows, and then the partition, which names that file's digest; return it as written."""
    from recsplit.disk.files import whole_file
    from recsplit.partition.access.frequencies import digest

    order_path = path.with_suffix(".access.npz")
    refuse_output(order_path)
    with whole_file(order_path) as file:
        updated.write_order(file)
    partition = dataclasses.replace(updated.moves.partition, access=digest(order_path))
    _write(path, partition)
    return partition


def _show_choice(choice: "Choice", settings: CostSettings, *, as_json: bool) -> None:
    """The chosen partition, and where they were compared every algorithm's."""
    from recsplit.partition import algorithms

    chosen, compared = choice.partition, choice.compared
    if as_json:
        figures = [{"algorithm": one.algorithm, "cost": one.cost, "shards": len(one.shards), **_sums(one, settings)} for one in compared]
        show_json({"partition": chosen, "settings": settings, "compared": figures, "worth": _worth(chosen, settings) if compared else ()})
        return
    _show(chosen, settings)
    if compared:
        lines: list[list[Cell]] = [
            [
                one.algorithm,
                algorithms.ALGORITHMS[one.algorithm].text,
                _cost_text(one.cost, one.cost_unit),
                *_counts(one),
                one.cost / chosen.cost,
            ]
            for one in compared
        ]
        show_table(
            ("algorithm", "how", "cost", "shards", "servers", "to the chosen"), lines, title="Every algorithm, by the same objective"
        )
        _show_worth(chosen, settings)


def _worth(chosen: Partition, settings: CostSettings) -> "tuple[Worth, ...]":
    from recsplit.partition.worth import worth

    return worth(settings, sum(shard.gathers_per_query for shard in chosen.shards))


def _show_worth(chosen: Partition, settings: CostSettings) -> None:
    """What a shard must hold to be worth servers of its own."""
    from recsplit.partition.worth import SHARES

    lines: list[list[Cell]] = [
        [one.cores, one.servers or "none is in time", *("never" if least is None else size_text(round(least)) for least in one.least_bytes)]
        for one in _worth(chosen, settings)
    ]
    columns = ("cores a server", "servers of the whole", *(f"with {100 * share:g} % of the reads" for share in SHARES))
    show_table(columns, lines, title="Rows that are worth servers of their own, at least")


def _show_updated(partition: Partition, updated: "Updated", settings: CostSettings, *, as_json: bool) -> None:
    """The partition after the moves, what became of each table, and what the moves save and cost."""
    moves = updated.moves
    if as_json:
        figures = {"kept_cost": moves.kept_cost, "cost": moves.cost, "carried_qps": moves.carried_qps, "copied_bytes": moves.copied_bytes}
        show_json({"partition": partition, **figures, "tables": moves.tables})
        return
    _show(partition, settings)
    lines: list[list[Cell]] = [[one.table, one.order, one.rows, size_text(one.copied_bytes)] for one in moves.tables]
    show_table(("table", "order of rows", "rows moved", "copied"), lines)
    kept, moved = (_cost_text(price, partition.cost_unit) for price in (moves.kept_cost, moves.cost))
    click.echo(f"Under the new heat the old partition's replicas carry {moves.carried_qps:.4g} queries/s; with as many as it then needs")
    click.echo(f"it costs {kept}, and with the moves {moved}, for {size_text(moves.copied_bytes)} of copies")


def _show(partition: Partition, settings: CostSettings) -> None:
    """The shards as a table, and what they come to."""
    lines: list[list[Cell]] = []
    for number, shard in enumerate(partition.shards):
        names = [f"{one.table} {one.first:,}-{one.last:,}" for one in shard.segments[:SHOWN_TABLES]]
        more = len(shard.segments) - len(names)
        text = ", ".join([*names, f"and {more} more tables"] if more else names)
        rows = sum(one.last - one.first for one in shard.segments)
        lines.append([number, shard.location, text, rows, size_text(shard.size_bytes), shard.gathers_per_query, shard.replicas])
    columns = ("shard", "location", "tables and ranks", "rows", "size", "gathers_per_query", "replicas")
    show_table(columns, lines, title=f"{partition.model} by {partition.algorithm!r}, for {partition.target_qps:g} queries/s")
    sums = _sums(partition, settings)
    click.echo(
        f"It costs {_cost_text(partition.cost, partition.cost_unit)}: {sums['servers']} servers with {size_text(sums['allocated_bytes'])}; "
        f"a query calls {sums['calls']} shards. A call takes {settings.fit.a_ms:.3g} ms and {cell_text(settings.fit.b_ms)} ms a row, "
        f"a server {size_text(settings.min_bytes)} besides its rows"
    )


def _sums(partition: Partition, settings: CostSettings) -> dict[str, int]:
    """Servers of shards, the memory they are given, and how many shards a query calls; front servers are not counted."""
    apart = [shard for shard in partition.shards if shard.location == "own"]
    return {
        "servers": sum(shard.replicas for shard in apart),
        "allocated_bytes": sum(shard.replicas * (shard.size_bytes + settings.min_bytes) for shard in apart),
        "calls": len(apart),
    }


def _counts(partition: Partition) -> tuple[int, int]:
    return len(partition.shards), sum(shard.replicas for shard in partition.shards if shard.location == "own")


def _cost_text(cost: float, unit: str) -> str:
    return size_text(round(cost)) if unit == "bytes" else f"{cost:.4g} {unit}"
