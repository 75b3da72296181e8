"""A fleet of shards against servers of the whole model: `python -m recsplit_perf.benchmarks.fleet`.

ElasticRec's RM1 with scaled rows and its locality (90 % of the reads in the hottest 10 % of each table): two fronts, two servers of the
hot rows and one of the cold ones, against two servers of the whole model, all on this machine, one system at a time. Both get the
same queries, half to each address that clients ask. Throughput: closed loops over several numbers of connections; latency: an open loop at
a rate that both can serve. Memory is read after the load, in three ways (Memory). Answers are compared with the recorded ones. In each
round every system is served anew, in an order that turns, and what counts is the median of its rounds.
"""

import dataclasses
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from recsplit.capacity import ids, workload
from recsplit.capacity.sizes import Fixed
from recsplit.commands.output import progress, show_table
from recsplit.disk.files import size_text
from recsplit.errors import RecsplitError
from recsplit.partition import utility
from recsplit.plan.plan import Plan
from recsplit.proof import published
from recsplit.repository.find import find
from recsplit.serving import Server
from recsplit_perf.benchmarks.fleet_systems import (
    FACTORY,
    FIRST,
    FLEET,
    FLEETS,
    INSIDE,
    LAW,
    REPLICAS,
    WHOLE,
    Running,
    build,
    running,
    write_partition,
)
from recsplit_perf.machine import provenance
from recsplit_perf.processes import kernel
from recsplit_perf.traffic import queries
from recsplit_perf.traffic.fan import closed, opened
from recsplit_perf.traffic.queries import Ready

SCENARIO = Path("perf/scenarios/elasticrec.toml")
#: Of the closed loops, over all servers that clients ask: with more queries under way batches are larger, and calls of shards fewer.
CONNECTIONS = (8, 16, 32)


@dataclass(frozen=True)
class Memory:
    """Bytes, of all servers of one system.

    `pss`: the proportional set sizes of all processes; a page that several servers on this machine map counts once. `apart`: what it
    would be on machines of their own: private pages, and every file's resident pages once for each server. `allocated`: the
    rows that all servers hold, resident or not, which is what the paper counts, without its minimum a container.
    """

    pss_bytes: int
    apart_bytes: int
    allocated_bytes: int


@dataclass(frozen=True)
class Round:
    """One system, measured once: queries/s and ms of the closed loops by their connections, ms at a rate that all systems can serve, and
    its memory."""

    system: str
    queries_per_s: Mapping[str, float]
    closed_p95_ms: Mapping[str, float]
    open_p50_ms: float
    open_p95_ms: float
    open_failed: int
    memory: Memory


@click.command()
@click.option("--scale", type=click.FloatRange(0, 1, min_open=True), default=0.05, show_default=True, help="Of the 20M rows a table.")
@click.option("--query-rows", type=click.IntRange(1), default=4, show_default=True, help="Items in a query.")
@click.option("--seconds", type=click.FloatRange(1), default=10.0, show_default=True, help="Each measurement.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each system; their median counts.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(scale: float, query_rows: int, seconds: float, rounds: int, output: Path | None) -> None:
    """Measure memory, throughput and latency of a fleet, and of two servers of the whole model."""
    try:
        result = benchmark(scale, query_rows, seconds, rounds)
    except RecsplitError as error:
        raise click.ClickException("\n".join(text for text in (str(error), error.detail, f"Hint: {error.hint}") if text)) from error
    show(result)
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


def benchmark(scale: float, query_rows: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Build, serve, compare answers, measure; the result as plain values. Raises RecsplitError where a step fails."""
    origin = provenance()
    with tempfile.TemporaryDirectory(prefix="recsplit-fleet-benchmark-") as name:
        folder = Path(name)
        with progress(f"Building RM1 of {scale:g} of its rows, whole"):
            build(folder / WHOLE, scale)
        plan = find(folder / WHOLE).plan
        with progress("Building it in two shards"):
            write_partition(folder, plan, "own")
            build(folder / FLEET, scale, "--partition", str(folder / "partition.json"), "--access", str(folder / "access.npz"))
        with progress("And once more, with the hot rows in the fronts"):
            write_partition(folder, plan, "front")
            build(folder / INSIDE, scale, "--partition", str(folder / "partition.json"), "--access", str(folder / "access.npz"))
        sharded = find(folder / FLEET).plan
        pool = queries.pool(plan, dataclasses.replace(workload.read(SCENARIO), sizes=Fixed(query_rows)), np.random.default_rng(1))
        systems = (WHOLE, *FLEETS)
        differences, first_per_s = {}, {}
        for system in systems:
            with progress(f"{system}: answers, and what it carries"), running(system, folder) as servers:
                differences[system] = compare(folder / system, servers)
                closed_loop_ms(servers, pool, min(seconds, 5.0), CONNECTIONS[0])  # to be warm
                first_per_s[system] = len(closed_loop_ms(servers, pool, seconds, CONNECTIONS[0])) / seconds
        rate = 0.5 * min(first_per_s.values())  # of the slowest system, so that all can serve it
        measurements: list[Round] = []
        for number in range(rounds):
            turn = number % len(systems)
            for system in (*systems[turn:], *systems[:turn]):
                with progress(f"Round {number + 1}, {system}, at {rate:.0f} queries/s too"), running(system, folder) as servers:
                    measurements.append(measure(system, servers, pool, seconds, rate, allocated(system, sharded)))
    return {
        "benchmark": "fleet",
        **origin,
        "settings": {
            "factory": FACTORY,
            "rows_scale": scale,
            "tables": len(plan.tables),
            "rows": plan.tables[0].rows,
            "table_bytes": sum(table.size_bytes for table in plan.tables),
            "shard_bytes": [shard.size_bytes for shard in sharded.shards],
            "replicas": FLEETS,
            "ids": asdict(LAW),
            "query_rows": query_rows,
            "seconds": seconds,
            "rounds": rounds,
            "connections": CONNECTIONS,
            "open_rate": round(rate, 1),
        },
        "largest_difference": differences,
        "utility": utilities(plan, query_rows),
        "systems": {system: summary([item for item in measurements if item.system == system]) for system in systems},
        "rounds": [asdict(item) for item in measurements],
    }


def compare(repository: Path, servers: Running) -> float:
    """The largest relative difference to the source's recorded answers, over every server that clients ask. Raises RecsplitError
    where it is more than the build's tolerance."""
    differences = [item for server in servers.asked for item in published.verify(repository, grpc_url=server.grpc_url, repeats=1)]
    bad = [item for item in differences if not item.ok]
    if bad:
        raise RecsplitError(f"{bad[0].stage}: output {bad[0].output!r} differs by {bad[0].relative:.3g}", hint="recsplit verify DIR")
    return max(item.relative for item in differences if "served" in item.stage)


def closed_loop_ms(servers: Running, pool: Sequence[Ready], seconds: float, connections: int) -> NDArray[np.float64]:
    """Latencies of a closed loop over all addresses that clients ask."""
    return closed([server.http_url for server in servers.asked], pool, seconds, connections=connections)


def measure(system: str, servers: Running, pool: Sequence[Ready], seconds: float, rate: float, allocated_bytes: int) -> Round:
    """The closed loops, the open loop at `rate`, and then memory."""
    closed_loop_ms(servers, pool, min(seconds, 5.0), CONNECTIONS[0])  # to be warm
    latencies_ms = {str(connections): closed_loop_ms(servers, pool, seconds, connections) for connections in CONNECTIONS}
    waits_ms = opened([server.http_url for server in servers.asked], pool, seconds, rate)
    failed = int(np.isinf(waits_ms).sum())
    p50, p95 = (round(float(value), 2) for value in np.percentile(waits_ms, (50, 95)))
    per_s = {connections: round(len(latency_ms) / seconds, 1) for connections, latency_ms in latencies_ms.items()}
    p95s = {connections: round(float(np.percentile(latency_ms, 95)), 2) for connections, latency_ms in latencies_ms.items()}
    return Round(system, per_s, p95s, p50, p95, failed, memory(servers.all, allocated_bytes))


def memory(servers: Sequence[Server], allocated_bytes: int) -> Memory:
    """What the servers' processes have in memory now."""
    groups = [list(kernel.members(server.pid)) for server in servers]
    pss = sum(kernel.pss_bytes(pid) for group in groups for pid in group)
    return Memory(pss, sum(kernel.apart_bytes(group) for group in groups), allocated_bytes)


def allocated(system: str, sharded: Plan) -> int:
    """Bytes of rows that all servers of the system hold; two hold the hot ones, wherever these are placed."""
    if system == WHOLE:
        return 2 * sum(table.size_bytes for table in sharded.tables)
    return sum(REPLICAS[str(number)] * shard.size_bytes for number, shard in enumerate(sharded.shards))


def utilities(plan: Plan, query_rows: int) -> dict[str, Any]:
    """Share of the rows that FIRST queries read: of the whole tables, of each shard, and the mean over servers that hold rows."""
    rng, shares = np.random.default_rng(3), []
    for table in plan.tables:
        width = sum(lookup.width for lookup in plan.lookups if lookup.table == table.name)
        rows = ids.draw(LAW, table.rows, FIRST * query_rows * width, rng)
        ranks = np.empty(table.rows, np.int64)
        ranks[ids.at_rank(np.arange(table.rows), table.rows)] = np.arange(table.rows)
        bound = round(LAW.hot_rows * table.rows)
        shares.append([*utility.counted(ranks[rows], (0, bound, table.rows)), *utility.counted(ranks[rows], (0, table.rows))])
    hot, cold, whole = (round(float(value), 4) for value in np.mean(shares, axis=0))
    mean = (REPLICAS["0"] * hot + REPLICAS["1"] * cold) / (REPLICAS["0"] + REPLICAS["1"])
    return {"queries": FIRST, "hot shard": hot, "cold shard": cold, WHOLE: whole, FLEET: round(mean, 4), INSIDE: round(mean, 4)}


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Medians over one system's rounds; failed queries are summed, for one in any round is one too many."""
    loops = ("queries_per_s", "closed_p95_ms")
    return {
        **{
            name: {key: round(statistics.median(getattr(item, name)[key] for item in rounds), 2) for key in getattr(rounds[0], name)}
            for name in loops
        },
        **{name: round(statistics.median(getattr(item, name) for item in rounds), 2) for name in ("open_p50_ms", "open_p95_ms")},
        "open_failed": sum(item.open_failed for item in rounds),
        "memory": {key: round(statistics.median(asdict(item.memory)[key] for item in rounds)) for key in asdict(rounds[0].memory)},
    }


def show(result: Mapping[str, Any]) -> None:
    """The result as a table."""
    rows: list[list[str | int | float | None]] = []
    for system, measurements in result["systems"].items():
        sizes = [size_text(measurements["memory"][key]) for key in ("pss_bytes", "apart_bytes", "allocated_bytes")]
        speeds = [*measurements["queries_per_s"].values(), measurements["open_p50_ms"], measurements["open_p95_ms"]]
        rows.append([system, *sizes, result["utility"][system], *speeds])
    settings, machine = result["settings"], result["machine"]
    per_s = [f"queries/s, {connections} under way" for connections in CONNECTIONS]
    columns = ["system", "PSS", "on machines apart", "rows allocated", "utility", *per_s, "p50 ms", "p95 ms"]
    title = (
        f"RM1, {settings['tables']} tables of {settings['rows']:,} x 32; {machine['cores']} cores; at {settings['open_rate']:.0f} queries/s"
    )
    show_table(columns, rows, title=title)
    click.echo(f"Largest relative difference to the source's answers: {max(result['largest_difference'].values()):.1e}")


if __name__ == "__main__":
    command()
