"""A hundred ragged features under more and more clients, by the engine and portable: `python -m recsplit_perf.benchmarks.ragged_clients`.

The shape of triton-inference-server/server #7492: lookups of bags of unequal lengths in front of a dense net, whose users found no gain
beyond some 20 clients. Each request is one row with bags of its own lengths; the engine takes requests of other lengths into one
batch, ONNX Runtime only those of one. The load generator has the same cores as the server: what the server spends on a request is told
apart, and what share of the machine it got.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from tritonclient.grpc import InferenceServerClient

from recsplit.commands.output import progress, show_table
from recsplit.disk.files import whole_file
from recsplit.errors import RecsplitError
from recsplit.plan.plan import Plan
from recsplit.proof import samples
from recsplit.repository.find import find
from recsplit.serving import Server, serve
from recsplit_perf.machine import provenance
from recsplit_perf.perf_analyzer import perf_analyzer
from recsplit_perf.processes.spent import processor_seconds

FACTORY = "recsplit_perf.benchmarks.models:hundred_bags"
MODELS = {
    "portable": ["--embedding-runtime", "onnxruntime"],
    "native": ["--embedding-runtime", "native"],
    "fused": ["--embedding-runtime", "native", "--form", "fused"],
}
REQUESTS = 64


@dataclass(frozen=True)
class Turn:
    """One measurement of one model. `server_us`: processor time of the server a request; `server_cores`: of the machine's, its own."""

    rows_per_s: float
    p50_ms: float
    p95_ms: float
    server_us: float
    server_cores: float


@click.command()
@click.option("--clients", default="1,2,4,8,16,20,32,64", show_default=True, help="Requests on their way at all times.")
@click.option("--seconds", type=click.FloatRange(0.1), default=3.0, show_default=True, help="Each measurement.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each kind.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(clients: str, seconds: float, rounds: int, output: Path | None) -> None:
    """Measure requests a second of a hundred ragged features by number of clients."""
    origin = provenance()
    try:
        counts = [int(count) for count in clients.split(",")]
        with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as name:
            measured = benchmark(Path(name), counts, seconds, rounds)
    except RecsplitError as error:
        raise click.ClickException("\n".join(text for text in (str(error), error.detail, f"Hint: {error.hint}") if text)) from error
    show_table(
        ["clients", *(f"{model}: requests/s, p50, p95 ms, server's us a request, its cores" for model in MODELS)],
        [[count, *(_cell(measured[model][str(count)]) for model in MODELS)] for count in counts],
        title="One model of 100 ragged features, one row a request",
    )
    if output is not None:
        settings = {"factory": FACTORY, "seconds": seconds, "rounds": rounds, "requests": REQUESTS}
        with whole_file(output) as file:
            result = {"benchmark": "ragged_clients", **origin, "settings": settings, "models": measured}
            file.write((json.dumps(result, indent=1) + "\n").encode())


def benchmark(folder: Path, counts: Sequence[int], seconds: float, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """By model and number of clients: medians over the rounds (`Turn`). Raises RecsplitError where a step fails."""
    analyzer = perf_analyzer.find_or_install(progress)
    repository, data = folder / "models", folder / "requests.json"
    with ExitStack() as stack:
        for name, arguments in MODELS.items():
            with progress(f"Building {name}"):
                command = [sys.executable, "-m", "recsplit", "build", FACTORY, "-o", str(repository), "--name", name, *arguments]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RecsplitError("recsplit build failed", hint="see its own words", detail=done.stderr.strip())
        write(data, find(repository, "portable").plan)
        with progress("Starting Triton"):
            server = stack.enter_context(serve(repository))
        raw: dict[tuple[str, int], list[Turn]] = {}
        with progress("Measuring", total=rounds * len(counts) * len(MODELS)) as advance:
            for turn in range(rounds):
                for count in counts:
                    order = list(MODELS)[turn % len(MODELS) :] + list(MODELS)[: turn % len(MODELS)]
                    for model in order:
                        raw.setdefault((model, count), []).append(_turn(server, analyzer, model, count, data, seconds))
                        advance(1)
    return {model: {str(count): _medians(raw[model, count]) for count in counts} for model in MODELS}


def _turn(server: Server, analyzer: Path, model: str, clients: int, data: Path, seconds: float) -> Turn:
    before, spent, start = _answered(server, model), processor_seconds(server.pid), time.monotonic()
    measured = perf_analyzer.measure(analyzer, url=server.grpc_url, model=model, batch=1, load=clients, data=data, seconds=seconds)
    answered, spent, wall = _answered(server, model) - before, processor_seconds(server.pid) - spent, time.monotonic() - start
    busy_s = answered / measured.rows_per_s  # the generator's start is no part of it
    return Turn(measured.rows_per_s, measured.p50_ms, measured.p95_ms, 1e6 * spent / answered, spent / min(busy_s, wall))


def _answered(server: Server, model: str) -> int:
    """Requests of a model that the server has answered since it runs."""
    with InferenceServerClient(server.grpc_url) as client:
        return int(client.get_inference_statistics(model).model_stats[0].inference_stats.success.count)


def write(path: Path, plan: Plan) -> None:
    """Requests of one row each for perf_analyzer, every one with bags of its own lengths, as short as they are."""
    rng = np.random.default_rng(0)
    requests = []
    for _ in range(REQUESTS):
        row = samples.rows(plan, 1, rng)
        used = {bags.values: int(row[bags.lengths].sum()) for bags in plan.bags}
        arrays = {name: data[:, : max(used[name], 1)] if name in used else data for name, data in row.items()}
        requests.append(
            {name: {"content": data.reshape(-1).tolist(), "shape": list(data.shape[1:]) or [1]} for name, data in arrays.items()}
        )
    path.write_text(json.dumps({"data": requests}))


def _medians(turns: Sequence[Turn]) -> dict[str, float]:
    return {key: round(statistics.median(asdict(turn)[key] for turn in turns), 3) for key in asdict(turns[0])}


def _cell(measured: dict[str, float]) -> str:
    latencies = f"{measured['p50_ms']:.2f}  {measured['p95_ms']:.2f}"
    return f"{measured['rows_per_s']:,.0f}  {latencies}  {measured['server_us']:.0f}  {measured['server_cores']:.2f}"


if __name__ == "__main__":
    command()
