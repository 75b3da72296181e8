"""The engine's sample of its reads beside an exact count: `python -m recsplit_perf.benchmarks.access_sample`.

A DLRM of four tables of 200,000 x 32 and bags of 20, whose ids follow Zipf's law, hot rows scattered. A served build is asked by queries
that are counted here, and then for its sample. Partitions of both profiles are priced by the exact counts. What sampling costs is
measured in this process: the lookups alone, where it shows most, with and without it, in turns.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

import recsplit
from recsplit.capacity import ids as laws
from recsplit.capacity.profile import Fit
from recsplit.client import Client
from recsplit.commands.output import progress, show_table
from recsplit.configs.engine import engine_config
from recsplit.engine.compilation import make
from recsplit.engine.library import Library, Model
from recsplit.engine.runtime import onnxruntime_library
from recsplit.partition.access import frequencies, sampled
from recsplit.partition.access.frequencies import About, AccessProfile
from recsplit.partition.choice import choose, vectors_per_query
from recsplit.partition.cost import NOTHING, CostSettings, ShardLoad, of
from recsplit.plan.plan import Plan
from recsplit.serving import serve
from recsplit.serving.workers import read
from recsplit.zoo.dlrm import DLRM
from recsplit_perf.machine import provenance

TABLES, ROWS, DIM, BAG, DENSE, BATCH = 4, 200_000, 32, 20, 8, 512
NAME = "sampled"
_TARGETS_QPS, _CONTAINER_BYTES = (500.0, 1000.0, 1500.0, 2000.0, 3000.0, 4000.0, 6000.0, 8000.0), 20_000_000


@click.command()
@click.option("--queries", type=int, default=4000, show_default=True, help="Of 512 rows.")
@click.option("--alpha", type=float, default=1.05, show_default=True, help="Zipf's exponent.")
@click.option("--rounds", type=int, default=15, show_default=True, help="Measurements of the cost.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(queries: int, alpha: float, rounds: int, output: Path | None) -> None:
    """Measure the sample that recsplit access --running takes."""
    origin = provenance()
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as temporary:
        module = DLRM(TABLES, ROWS, DIM, BAG, DENSE, "sum", bottom=(64, DIM), top=(64,)).eval()
        example = (torch.zeros(2, DENSE), torch.zeros(2, TABLES * BAG, dtype=torch.int64))
        build = recsplit.build(module, example, out=Path(temporary) / "models", name=NAME, embedding_runtime="native", search_s=0)
        exact, sample, stride, error = ask(build.plan, build.repository, queries, alpha)
        cost = costs(build.plan, build.repository, alpha, rounds)
    result: dict[str, Any] = {
        "benchmark": "access_sample",
        **origin,
        "settings": {"queries": queries, "rows": BATCH, "alpha": alpha, "stride": stride, "rounds": rounds, "tables": [ROWS, DIM, BAG]},
        "share_error_told": error,
        "shares": shares(exact, sample),
        "cost": cost,
        "partition": partitions(build.plan, exact, sample),
    }
    show_table(
        ("hottest", "exact", "by sample", "caught"),
        [[item["part"], item["exact"], item["by_sample"], item["caught"]] for item in result["shares"]],
    )
    show_table(("cost of sampling", "partition by the sample"), [[cost["over_none"], result["partition"]["fractions"]["mean"]]])
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


def ask(plan: Plan, repository: Path, queries: int, alpha: float) -> tuple[AccessProfile, AccessProfile, int, float]:
    """The exact profile of what was sent and the sample's, one row in how many was sampled, and the error that is told."""
    random = np.random.default_rng(0)
    counts = [np.zeros(ROWS, np.int64) for _ in range(TABLES)]
    with serve(repository) as server, Client(server.grpc_url, NAME) as client, progress("Asking", total=queries) as advance:
        read(server.running.folder, plan.embedding.name, clear=True)
        for _ in range(queries):
            query = drawn(alpha, random)
            client.infer(query)
            for table in range(TABLES):
                np.add.at(counts[table], query["ids"][:, table * BAG : (table + 1) * BAG].reshape(-1), 1)
            advance(1)
        said = read(server.running.folder, plan.embedding.name)
    names = [lookup.table for lookup in plan.lookups]
    about = About(NAME, queries, queries * BATCH, 0, ("counted",))
    exact = AccessProfile(about, {name: count.astype(np.uint32) for name, count in zip(names, counts, strict=True)})
    return exact, sampled.profile(plan, said.rows, said.tables, BATCH, "served"), said.stride, sampled.share_error(said.tables)


def drawn(alpha: float, random: np.random.Generator) -> dict[str, NDArray[Any]]:
    """A query of BATCH rows."""
    ids = laws.draw(laws.Zipf(alpha), ROWS, BATCH * TABLES * BAG, random).reshape(BATCH, TABLES * BAG)
    return {"dense": np.zeros((BATCH, DENSE), np.float32), "ids": ids}


def shares(exact: AccessProfile, sample: AccessProfile) -> list[dict[str, float]]:
    """The share of the hottest rows by each profile, and of the reads that the sample's hottest rows really have; means of the tables."""
    result = []
    for part in (0.0001, 0.001, 0.01, 0.1, 0.5):
        hottest = max(1, round(part * ROWS))
        rows = []
        for name in exact.tables:
            true, guess = exact.tables[name].astype(np.int64), sample.tables[name].astype(np.int64)
            chosen = frequencies.order(sample.tables[name])[:hottest]
            rows.append(
                (
                    np.sort(true)[::-1][:hottest].sum() / true.sum(),
                    np.sort(guess)[::-1][:hottest].sum() / guess.sum(),
                    true[chosen].sum() / true.sum(),
                )
            )
        one, two, three = (round(float(number), 5) for number in np.mean(rows, axis=0))
        result.append({"part": part, "exact": one, "by_sample": two, "caught": three})
    return result


def costs(plan: Plan, repository: Path, alpha: float, rounds: int) -> dict[str, Any]:
    """Seconds of the lookups for the same queries, with the sample and without, in turns; the ratio is the median of ratios."""
    config = engine_config(plan.embedding.inputs, plan.embedding.outputs, plan.max_batch_size)
    folder = repository / plan.embedding.name / str(plan.version)
    random = np.random.default_rng(1)
    queries = [
        {name: data for name, data in drawn(alpha, random).items() if name in {t.name for t in plan.embedding.inputs}} for _ in range(40)
    ]
    common = {"onnxruntime": str(onnxruntime_library()), "workers": 1}
    models = {
        kind: Model(Library(make()), folder, config, {**common, **more}) for kind, more in (("sampled", {}), ("none", {"sampled": 0}))
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in models}
    for turn in range(rounds + 1):
        for kind in sorted(models, reverse=bool(turn % 2)):
            start = time.perf_counter()
            for query in queries:
                models[kind].run([query])
            if turn:  # the first one warms
                seconds[kind].append(time.perf_counter() - start)
    ratios = [one / other for one, other in zip(seconds["sampled"], seconds["none"], strict=True)]
    return {
        "over_none": round(statistics.median(ratios), 4),
        "quartiles": [round(float(number), 4) for number in np.percentile(ratios, [25, 75])],
        "rows_per_s": {kind: round(40 * BATCH / statistics.median(times)) for kind, times in seconds.items()},
    }


def partitions(plan: Plan, exact: AccessProfile, sample: AccessProfile) -> dict[str, Any]:
    """What partitions by both profiles cost, for several targets, each priced by the exact counts: in fractions of replicas, which is the
    paper's objective, and in whole ones, where a shard that was planned full may need one more."""
    result: dict[str, Any] = {"targets_qps": list(_TARGETS_QPS)}
    for kind, whole in (("fractions", False), ("whole_replicas", True)):
        ratios = []
        for target in _TARGETS_QPS:
            settings = CostSettings(target, Fit(0.2, 2e-4, 1.0), _CONTAINER_BYTES, whole_replicas=whole)
            by_exact, by_sample = (priced(plan, settings, profile, exact) for profile in (exact, sample))
            ratios.append(round(by_sample / by_exact, 5))
        result[kind] = {"over_exact": ratios, "mean": round(statistics.mean(ratios), 5), "median": round(statistics.median(ratios), 5)}
    return result


def priced(plan: Plan, settings: CostSettings, profile: AccessProfile, exact: AccessProfile) -> float:
    """The cost under the exact counts of the partition that a profile gives: its ranks are that profile's."""
    partition = choose(plan, profile, settings, "whole").partition
    vectors = vectors_per_query(plan, exact)
    sizes = {table.name: table for table in plan.tables}
    total = 0.0
    for shard in partition.shards:
        load = NOTHING
        for segment in shard.segments:
            rows = frequencies.order(profile.tables[segment.table])[segment.first : segment.last]
            gathers = float(exact.tables[segment.table][rows].sum(dtype=np.int64)) / exact.queries
            table = sizes[segment.table]
            load += ShardLoad(gathers, vectors[segment.table] * 4 * table.dim, float(len(rows) * table.size_bytes // table.rows))
        total += float(of(settings, load))
    return total


if __name__ == "__main__":
    command()
