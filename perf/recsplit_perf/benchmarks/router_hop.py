"""What a router in front of a model costs: `python -m recsplit_perf.benchmarks.router_hop`.

The DLRM of Criteo Kaggle (26 tables), untrained, in one Triton: asked itself, through recsplit's router, and through one in Python
(bls_router.py, as one would write it without the engine, with Triton's business logic scripting). perf_analyzer asks each in turns, one
query under way and eight; differences and ratios are medians within a round.
"""

import json
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import click
from google.protobuf import text_format

import recsplit
from recsplit.commands.output import progress, show_table
from recsplit.configs.check import parse
from recsplit.disk.files import whole_file
from recsplit.plan.plan import Plan
from recsplit.plan.routing import Routing, Server, Variant
from recsplit.repository.routers import publish
from recsplit.serving import serve
from recsplit_perf.machine import provenance
from recsplit_perf.perf_analyzer import input_data, perf_analyzer

SOURCE, MODEL, ROUTER, PYTHON = "recsplit.zoo.facebook:criteo_kaggle", "kaggle", "routed", "bls_kaggle"
WAYS = (MODEL, ROUTER, PYTHON)
BATCHES, LOADS = (1, 64, 512), (1, 8)


@click.command()
@click.option("--seconds", type=float, default=2.0, show_default=True, help="Each measurement.")
@click.option("--rounds", type=int, default=5, show_default=True, help="Measurements of each kind.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(seconds: float, rounds: int, output: Path | None) -> None:
    """Measure latency and rate with and without a router."""
    origin = provenance()
    analyzer = perf_analyzer.find_or_install(progress)
    cells = [(batch, load) for batch in BATCHES for load in LOADS]
    seen: dict[tuple[int, int], dict[str, list[Any]]] = {cell: {way: [] for way in WAYS} for cell in cells}
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as temporary:
        repository = Path(temporary) / "models"
        plan = recsplit.build(SOURCE, out=repository, name=MODEL, embedding_runtime="native", search_s=0).plan
        one = Variant("only", 1.0, plan.max_batch_size, (Server(MODEL, -1, "", 0.1, 0.001, 1),))
        publish(repository, ROUTER, Routing((one,)))
        python_router(repository, plan)
        with serve(repository, models=WAYS) as server, progress("Measuring", total=rounds * len(cells) * len(WAYS)) as advance:
            for batch, load in cells:
                data = Path(temporary) / f"queries_{batch}.json"
                input_data.write(data, plan, input_data.entries_for(batch), seed=0)
                for _ in range(rounds):
                    for way in WAYS:
                        measured = perf_analyzer.measure(
                            analyzer, url=server.grpc_url, model=way, batch=batch, load=load, data=data, seconds=seconds
                        )
                        seen[batch, load][way].append(measured)
                        advance(1)
    rows = [row(batch, load, way, seen[batch, load]) for batch, load in cells for way in WAYS]
    if output is not None:
        settings = {"source": SOURCE, "seconds": seconds, "rounds": rounds}
        with whole_file(output) as file:
            file.write((json.dumps({"benchmark": "router_hop", **origin, "settings": settings, "ways": rows}, indent=1) + "\n").encode())
    show_table(tuple(rows[0]), [list(line.values()) for line in rows])


def python_router(repository: Path, plan: Plan) -> None:
    """A model of Triton's Python backend that passes requests on to MODEL."""
    folder = repository / PYTHON
    (folder / "1").mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("bls_router.py"), folder / "1" / "model.py")
    config = parse((repository / MODEL / "config.pbtxt").read_text(), origin=MODEL)
    for field in ("ensemble_scheduling", "platform", "version_policy"):
        config.ClearField(field)
    config.name, config.backend, config.max_batch_size = PYTHON, "python", plan.max_batch_size
    config.parameters.clear()
    config.instance_group.add(count=1, kind="KIND_CPU")
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config))


def row(batch: int, load: int, way: str, seen: dict[str, list[Any]]) -> dict[str, Any]:
    """One way to ask: medians, and what it adds to asking the model itself."""
    pairs = list(zip(seen[way], seen[MODEL], strict=True))
    return {
        "batch": batch,
        "under_way": load,
        "asked": way,
        "p50_us": round(statistics.median(1e3 * one.p50_ms for one in seen[way])),
        "p95_us": round(statistics.median(1e3 * one.p95_ms for one in seen[way])),
        "p50_more_us": round(statistics.median(1e3 * (one.p50_ms - other.p50_ms) for one, other in pairs)),
        "p95_more_us": round(statistics.median(1e3 * (one.p95_ms - other.p95_ms) for one, other in pairs)),
        "queries_per_s": round(statistics.median(one.rows_per_s for one in seen[way]) / batch),
        "of_direct": round(statistics.median(one.rows_per_s / other.rows_per_s for one, other in pairs), 3),
    }


if __name__ == "__main__":
    command()
