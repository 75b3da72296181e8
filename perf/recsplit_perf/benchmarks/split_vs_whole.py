"""The split model against the same model exported whole, on one server: `python -m recsplit_perf.benchmarks.split_vs_whole`.

One Triton serves all of them side by side, each idle while another is measured, with the same backend, batching and
queue settings and the same number of threads in total: the split has one embedding and one dense instance, a whole model
as many instances as these two together. Every number is the median over rounds, every ratio the median of ratios within
a round, and the order changes from round to round, so that what else the machine does meets all of them alike.
"""

import itertools
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
from typing import Any, Literal

import click
import numpy as np

from recsplit.client import Client
from recsplit.commands.output import progress, show_table
from recsplit.errors import RecsplitError
from recsplit.plan.plan import Plan
from recsplit.proof import samples
from recsplit.repository.find import find
from recsplit.serving import serve
from recsplit_perf.benchmarks import models, whole
from recsplit_perf.machine import provenance
from recsplit_perf.perf_analyzer import input_data, perf_analyzer
from recsplit_perf.perf_analyzer.perf_analyzer import Measurement

FACTORY = "recsplit_perf.benchmarks.models:dlrm"
SPLIT, LEGACY, DYNAMO = "split", "legacy", "dynamo"
MODELS = (SPLIT, LEGACY, DYNAMO)
CONCURRENCY = (1, 4)

#: Largest difference between two models' answers that is rounding.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """One batch size at one concurrency: the medians over rounds for each model, and the split's advantage over each other one."""

    batch: int
    concurrency: int
    rows_per_s: dict[str, float]
    p50_ms: dict[str, float]
    p95_ms: dict[str, float]
    throughput_ratio: dict[str, float]  # the split's rows/s over the other's: above 1, the split is ahead
    p50_ratio: dict[str, float]  # the other's p50 over the split's: above 1, the split is ahead


@click.command()
@click.option("--batches", default="1,8,64,512,2048", show_default=True, help="Batch sizes.")
@click.option("--seconds", type=click.FloatRange(0.1), default=3.0, show_default=True, help="Each measurement.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each kind.")
@click.option("--threads", type=click.IntRange(1), help="Of every instance, split or whole; recsplit build's own default otherwise.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(batches: str, seconds: float, rounds: int, threads: int | None, output: Path | None) -> None:
    """Measure throughput and latency of the split DLRM and of the whole one from both torch exporters."""
    try:
        sizes = [int(size) for size in batches.split(",")]
        result = benchmark(sizes, seconds=seconds, rounds=rounds, threads=threads)
    except RecsplitError as error:
        raise click.ClickException("\n".join(text for text in (str(error), error.detail, f"Hint: {error.hint}") if text)) from error
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--batches") from error
    show(result)
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


def benchmark(batches: Sequence[int], *, seconds: float, rounds: int, threads: int | None) -> dict[str, Any]:
    """Prepare, serve, compare answers, measure; the result as plain values. Raises RecsplitError where a step fails."""
    origin = provenance()  # first: the commit and the load are those that the measurement meets
    analyzer = perf_analyzer.find_or_install(progress)
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as name, ExitStack() as stack:
        repository = Path(name) / "models"
        with progress(f"Building the split model, batches up to {max(batches)}"):
            plan = build(repository, max(batches), threads)
        with progress("Exporting the whole model, twice"):
            write_whole(repository, plan)
        with progress("Writing input data"):
            inputs = {batch: Path(name) / f"{batch}.json" for batch in batches}
            for batch, path in inputs.items():
                input_data.write(path, plan, input_data.entries_for(batch), seed=0)
        hop = whole.write_hop(repository, plan)
        with progress("Starting Triton"):
            server = stack.enter_context(serve(repository, models=[*MODELS, *hop]))
        difference = compare(server.grpc_url, plan)

        answer_s = {(model, batch): time_one(server.grpc_url, model, plan, batch) for model in MODELS for batch in batches}

        def measure(model: str, batch: int, concurrency: int, source: Path | Literal["zero"]) -> Measurement:
            # perf_analyzer fails where a window has no answer: each is made long enough for a few.
            least = 3 * perf_analyzer.WINDOWS * concurrency * answer_s.get((model, batch), 0)
            return perf_analyzer.measure(
                analyzer, url=server.grpc_url, model=model, batch=batch, load=concurrency, data=source, seconds=max(seconds, least)
            )

        cases = list(itertools.product(batches, CONCURRENCY))
        raw: dict[tuple[int, int], list[dict[str, Measurement]]] = {case: [] for case in cases}
        hops: list[float] = []
        with progress("Measuring", total=rounds * (len(cases) * len(MODELS) + len(hop))) as advance:
            for turn in range(rounds):
                times = []
                for model in hop:
                    times.append(measure(model, 1, 1, "zero").p50_ms)
                    advance(1)
                hops.append(times[1] - times[0])
                for batch, concurrency in cases:
                    by_model = {}
                    for model in MODELS[turn % 3 :] + MODELS[: turn % 3]:
                        by_model[model] = measure(model, batch, concurrency, inputs[batch])
                        advance(1)
                    raw[batch, concurrency].append(by_model)
    return {
        "benchmark": "split_vs_whole",
        **origin,
        "settings": {
            "factory": FACTORY,
            "seconds": seconds,
            "rounds": rounds,
            "max_batch_size": plan.max_batch_size,
            "queue_delay_us": plan.queue_delay_us,
            "threads_per_instance": plan.dense.threads,
            "instances": {SPLIT: [plan.embedding.instances, plan.dense.instances], "whole": whole_instances(plan)},
        },
        "largest_difference": difference,
        "hop_ms": round(statistics.median(hops), 4),
        "cases": [asdict(summarize(batch, concurrency, turns)) for (batch, concurrency), turns in raw.items()],
        "rounds": [
            {"batch": batch, "concurrency": concurrency, "round": number, "model": model, **asdict(measurement)}
            for (batch, concurrency), turns in raw.items()
            for number, turn in enumerate(turns)
            for model, measurement in turn.items()
        ],
    }


def build(repository: Path, max_batch_size: int, threads: int | None) -> Plan:
    """The split model, made by the command line as a user makes it."""
    command = [sys.executable, "-m", "recsplit", "build", FACTORY, "-o", str(repository), "--name", SPLIT]
    command += ["--embedding-runtime", "onnxruntime"]  # native_served measures the engine beside it
    command += ["--max-batch-size", str(max_batch_size), *([] if threads is None else ["--threads", str(threads)])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RecsplitError("recsplit build failed", hint="see its own words above", detail=done.stderr.strip())
    return find(repository, SPLIT).plan


def whole_instances(plan: Plan) -> int:
    """As many as the split has, so that both have the same number of threads."""
    return sum(part.instances for part in plan.submodels)


def write_whole(repository: Path, plan: Plan) -> None:
    """Both exports, beside the split model."""
    module, inputs = models.dlrm()[:2]
    for name in (LEGACY, DYNAMO):
        path = repository / name / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        whole.export(module, inputs, plan, path, dynamo=name == DYNAMO)
        whole.write_config(repository, name, plan, plan.inputs, whole.model_outputs(plan), instances=whole_instances(plan))


def compare(url: str, plan: Plan) -> float:
    """The largest difference between two models' answers to the same query. Raises RecsplitError where it is no rounding."""
    query = samples.rows(plan, min(64, plan.max_batch_size), np.random.default_rng(1))
    answers = []
    for model in MODELS:
        with Client(url, model) as client:
            answers.append(client.infer(query))
    output = whole.model_outputs(plan)[0].name
    difference = max(float(np.abs(answers[0][output] - other[output]).max()) for other in answers[1:])
    if not difference <= TOLERANCE:
        raise RecsplitError(f"the models differ by {difference:.3g}, so their speeds can't be compared", hint="run recsplit verify")
    return difference


def time_one(url: str, model: str, plan: Plan, batch: int) -> float:
    """Seconds that one request of `batch` rows takes, after a first one to warm up."""
    query = samples.rows(plan, batch, np.random.default_rng(2))
    with Client(url, model, timeout_s=60) as client:
        client.infer(query)
        start = time.perf_counter()
        client.infer(query)
        return time.perf_counter() - start


def summarize(batch: int, concurrency: int, turns: Sequence[dict[str, Measurement]]) -> Case:
    """Medians over rounds, and medians of the ratios within a round."""

    def median(values: Sequence[float]) -> float:
        return round(statistics.median(values), 4)

    others = [model for model in MODELS if model != SPLIT]
    return Case(
        batch,
        concurrency,
        rows_per_s={model: median([turn[model].rows_per_s for turn in turns]) for model in MODELS},
        p50_ms={model: median([turn[model].p50_ms for turn in turns]) for model in MODELS},
        p95_ms={model: median([turn[model].p95_ms for turn in turns]) for model in MODELS},
        throughput_ratio={model: median([turn[SPLIT].rows_per_s / turn[model].rows_per_s for turn in turns]) for model in others},
        p50_ratio={model: median([turn[model].p50_ms / turn[SPLIT].p50_ms for turn in turns]) for model in others},
    )


def show(result: dict[str, Any]) -> None:
    """The result as tables."""
    rows: list[list[str | int | float | None]] = []
    for case in result["cases"]:
        numbers = [f"{case['rows_per_s'][model]:,.0f}" for model in MODELS]
        latencies = [f"{case['p50_ms'][model]:.2f} / {case['p95_ms'][model]:.2f}" for model in MODELS]
        ratios = [f"{case['throughput_ratio'][model]:.2f}x" for model in (LEGACY, DYNAMO)]
        rows.append([case["batch"], case["concurrency"], *numbers, *latencies, *ratios])
    columns = ["batch", "clients", *(f"{model}, rows/s" for model in MODELS), *(f"{model}, p50 / p95 ms" for model in MODELS)]
    machine = result["machine"]
    show_table(
        [*columns, "split / legacy", "split / dynamo"],
        rows,
        title=f"DLRM, 8 tables of 100k x 32, 20-id bags; {machine['cores']} cores of {machine['cpu']}; "
        f"medians of {result['settings']['rounds']} rounds",
    )
    single = [case for case in result["cases"] if case["batch"] == 1 and case["concurrency"] == 1]
    for case in single:
        extra = case["p50_ms"][SPLIT] - min(case["p50_ms"][model] for model in (LEGACY, DYNAMO))
        click.echo(
            f"At batch 1 the split's p50 is {extra:+.2f} ms against the faster whole model; one more step costs {result['hop_ms']:.2f} ms."
        )


if __name__ == "__main__":
    command()
