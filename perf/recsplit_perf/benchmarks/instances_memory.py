"""What more instances of a model of the engine cost, with tables of GBs: `python -m recsplit_perf.benchmarks.instances_memory`.

One model of 5 GB of tables is built for the engine and served; the embedding model's Triton instances go from 1 to 8, in place, and then
the engine's workers do. Counted: the proportional set size of the server's processes once every page was read, and how long a change took.
"""

import json
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from recsplit.commands.output import progress, show_table
from recsplit.disk.files import size_text, whole_file
from recsplit.errors import RecsplitError
from recsplit.plan.plan import Plan
from recsplit.repository.find import find
from recsplit.serving import Server, serve
from recsplit_controller.actuate.protocol import Actuator
from recsplit_controller.actuate.triton import TritonActuator
from recsplit_controller.actuate.workers import WorkersActuator
from recsplit_controller.targets.targets import of_plan
from recsplit_controller.values.decision import Action
from recsplit_perf.benchmarks.big_files import table_bytes, write
from recsplit_perf.benchmarks.big_model import every_page, pss
from recsplit_perf.machine import provenance
from recsplit_perf.processes.watched import recsplit
from recsplit_perf.traffic import closed_loop

NAME, COUNTS = "big", (1, 2, 4, 8)
#: A change without an outcome for so long failed.
CHANGE_S = 60.0
TABLES = ("huge", "mapped")


@dataclass(frozen=True)
class Weighed:
    """One count: of Triton's instances or of workers, how long the change to it took, and the memory after it."""

    tables: str
    unit: str
    count: int
    change_s: float
    pss_bytes: int


@click.command()
@click.option("--gb", type=click.IntRange(1, 100), default=5, show_default=True, help="Tables of 1 GB each.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Where the model is written.  [default: a temporary folder]")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(gb: int, folder: Path | None, output: Path | None) -> None:
    """Weigh a server while its instances and workers become more."""
    origin = provenance()
    try:
        with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-", dir=folder) as name:
            weighed = benchmark(Path(name), gb)
    except RecsplitError as error:
        raise click.ClickException("\n".join(text for text in (str(error), error.detail, f"Hint: {error.hint}") if text)) from error
    columns = ("tables", "unit", "count", "change s", "PSS GB")
    rows = [(each.tables, each.unit, each.count, each.change_s, each.pss_bytes / 1e9) for each in weighed]
    show_table(columns, rows, title=f"{size_text(table_bytes(gb))} of tables")
    if output is not None:
        result = {"benchmark": "instances_memory", **origin, "table_bytes": table_bytes(gb), "weighed": [asdict(each) for each in weighed]}
        with whole_file(output) as file:
            file.write((json.dumps(result, indent=1) + "\n").encode())


def benchmark(folder: Path, gb: int) -> list[Weighed]:
    """Write, build, serve in both ways to hold the tables, and change counts. Raises RecsplitError where a step fails."""
    write(gb, folder, with_safetensors=False)
    with progress("Building"):
        recsplit(["build", "model.onnx", "-o", "models", "--name", NAME, "--embedding-runtime", "native", "--search-s", "0"], folder)
    plan = find(folder / "models").plan
    weighed = []
    for tables in TABLES:
        with progress(f"Starting Triton, tables {tables}"):
            server = serve(folder / "models", ready_timeout_s=600, extra_args=[f"--backend-config=recsplit,tables={tables}"])
        with server:
            weighed += list(changed(server, folder / "models", plan, gb, tables))
    return weighed


def changed(server: Server, repository: Path, plan: Plan, gb: int, tables: str) -> Iterator[Weighed]:
    """Instances, then workers, from few to many."""
    read_all(server, plan, gb)
    instances, workers = of_plan(plan, engine=False), of_plan(plan, engine=True)
    actuators: dict[str, Actuator] = {
        "instances": TritonActuator(server.grpc_url, repository, instances),
        "workers": WorkersActuator(server.grpc_url, workers),
    }
    for unit, actuator in actuators.items():
        for count in COUNTS:
            seconds = change(actuator, plan.embedding.name, count)
            read_all(server, plan, gb)
            yield Weighed(tables, unit, count, round(seconds, 4), sum(pss(server.pid).values()))
        change(actuator, plan.embedding.name, 1)
        actuator.close()


def change(actuator: Actuator, model: str, count: int) -> float:
    """Seconds that a change took. Raises RecsplitError where it failed."""
    actuator.begin(Action("scale", model, count, 0.0, "the benchmark's"))
    pause = threading.Event()  # never set: waits
    for _ in range(int(CHANGE_S / 0.002)):
        for outcome in actuator.outcomes():
            if outcome.error is not None:
                raise RecsplitError(f"{model} did not get {count}: {outcome.error}")
            return outcome.seconds
        pause.wait(0.002)
    raise RecsplitError(f"{model} did not get {count} within {CHANGE_S:g} s")


def read_all(server: Server, plan: Plan, gb: int) -> dict[str, Any]:
    """Read every page of every table, by 16 requests at a time. Raises RecsplitError where one fails."""
    queries = list(every_page(gb, plan.max_batch_size))
    result = closed_loop.run(
        server.grpc_url, NAME, queries, seconds=600, concurrency=16, max_requests=2 * len(queries), timeout_s=60, warmup_s=0
    )
    if result.failed:
        raise RecsplitError(f"{result.failed} requests failed: {dict(result.errors)}")
    return result.summary()


if __name__ == "__main__":
    command()
