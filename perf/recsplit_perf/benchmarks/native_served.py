"""The engine beside the portable split and both whole exports, on one server: `python -m recsplit_perf.benchmarks.native_served`.

The model, settings and rounds are those of split_vs_whole, and so is the load: every model is measured in every round, one after the other,
and the ratios are medians of ratios within a round. Two floors stand beside them: a model of the engine that takes the same inputs and
copies one number (what the transport costs), and the fused model called in this process (what the work costs).
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
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnx.parser

from recsplit.client import Client
from recsplit.commands.output import progress, show_table
from recsplit.errors import RecsplitError
from recsplit.plan.plan import Plan
from recsplit.proof import samples
from recsplit.proof.by_engine import engine_run
from recsplit.repository.find import find
from recsplit.serving import serve
from recsplit_perf.benchmarks import split_vs_whole, whole
from recsplit_perf.machine import provenance
from recsplit_perf.perf_analyzer import input_data, perf_analyzer
from recsplit_perf.perf_analyzer.perf_analyzer import Measurement

PORTABLE, ENSEMBLE, FUSED, IDENTITY = split_vs_whole.SPLIT, "native", "fused", "identity"
MODELS = (PORTABLE, ENSEMBLE, FUSED, split_vs_whole.LEGACY, split_vs_whole.DYNAMO, IDENTITY)
#: Arguments of `recsplit build` beyond those of the portable split.
ARGUMENTS = {ENSEMBLE: ["--embedding-runtime", "native"], FUSED: ["--embedding-runtime", "native", "--form", "fused"]}


@click.command()
@click.option("--batches", default="1,64,512,2048", show_default=True, help="Batch sizes.")
@click.option("--seconds", type=click.FloatRange(0.1), default=3.0, show_default=True, help="Each measurement.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each kind.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(batches: str, seconds: float, rounds: int, output: Path | None) -> None:
    """Measure throughput and latency of a DLRM by the engine, as an ensemble and fused, against the other ways to serve it."""
    try:
        result = benchmark([int(size) for size in batches.split(",")], seconds=seconds, rounds=rounds)
    except RecsplitError as error:
        raise click.ClickException("\n".join(text for text in (str(error), error.detail, f"Hint: {error.hint}") if text)) from error
    show(result)
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


def benchmark(batches: Sequence[int], *, seconds: float, rounds: int) -> dict[str, Any]:
    """Prepare, serve, compare answers, measure; the result as plain values. Raises RecsplitError where a step fails."""
    origin = provenance()
    analyzer = perf_analyzer.find_or_install(progress)
    cases = list(itertools.product(batches, split_vs_whole.CONCURRENCY))
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as name, ExitStack() as stack:
        repository = Path(name) / "models"
        with progress("Building the model three times, and exporting it whole twice"):
            plan = split_vs_whole.build(repository, max(batches), None)
            plans = {model: build(repository, model, max(batches)) for model in ARGUMENTS}
            split_vs_whole.write_whole(repository, plan)
            write_identity(repository, plan)
        inputs = {batch: Path(name) / f"{batch}.json" for batch in batches}
        for batch, path in inputs.items():
            input_data.write(path, plan, input_data.entries_for(batch), seed=0)
        floor = in_process(repository, plans[FUSED], batches)
        with progress("Starting Triton"):
            server = stack.enter_context(serve(repository, models=MODELS))
        difference = compare(server.grpc_url, plan)
        answer_s = {(model, batch): split_vs_whole.time_one(server.grpc_url, model, plan, batch) for model in MODELS for batch in batches}
        raw: dict[tuple[int, int], list[dict[str, Measurement]]] = {case: [] for case in cases}
        with progress("Measuring", total=rounds * len(cases) * len(MODELS)) as advance:
            for turn in range(rounds):
                for batch, concurrency in cases:
                    measured = {}
                    start = turn % len(MODELS)
                    for model in MODELS[start:] + MODELS[:start]:
                        least = 3 * perf_analyzer.WINDOWS * concurrency * answer_s[model, batch]
                        measured[model] = perf_analyzer.measure(
                            analyzer,
                            url=server.grpc_url,
                            model=model,
                            batch=batch,
                            load=concurrency,
                            data=inputs[batch],
                            seconds=max(seconds, least),
                        )
                        advance(1)
                    raw[batch, concurrency].append(measured)
    return {
        "benchmark": "native_served",
        **origin,
        "settings": {"factory": split_vs_whole.FACTORY, "seconds": seconds, "rounds": rounds, "workers": plans[FUSED].fused.workers},
        "largest_difference": difference,
        "in_process_ms": floor,
        "cases": [summary(batch, concurrency, turns) for (batch, concurrency), turns in raw.items()],
    }


def build(repository: Path, name: str, max_batch_size: int) -> Plan:
    """One more build of the same model, made by the command line as a user makes it."""
    command = [sys.executable, "-m", "recsplit", "build", split_vs_whole.FACTORY, "-o", str(repository), "--name", name]
    done = subprocess.run(
        [*command, "--max-batch-size", str(max_batch_size), *ARGUMENTS[name]], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RecsplitError("recsplit build failed", hint="see its own words above", detail=done.stderr.strip())
    return find(repository, name).plan


def write_identity(repository: Path, plan: Plan) -> None:
    """A model of the engine that takes the plan's inputs and gives back the first number of the first that holds floats."""
    output = whole.model_outputs(plan)[0]
    numbers = next(tensor for tensor in plan.inputs if tensor.dtype == "FP32")
    kinds = {"FP32": "float", "INT64": "int64"}
    parameters = ", ".join(f"{kinds[tensor.dtype]}{['batch', *tensor.dims]} {tensor.name}".replace("'", "") for tensor in plan.inputs)
    constants = "<int64[1] zero = {0}, int64[1] one = {1}>"
    nodes = f"{{ {output.name} = Slice({numbers.name}, zero, one, one) }}"
    text = f'<ir_version: 8, opset_import: ["": 17]> identity ({parameters}) => (float[batch, 1] {output.name}) {constants} {nodes}'
    path = repository / IDENTITY / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(onnx.parser.parse_model(text), path)
    whole.write_config(repository, IDENTITY, plan, plan.inputs, [output], instances=1)
    config = repository / IDENTITY / "config.pbtxt"
    config.write_text(config.read_text().replace('backend: "onnxruntime"', 'backend: "recsplit"'))


def in_process(repository: Path, plan: Plan, batches: Sequence[int]) -> dict[int, float]:
    """Milliseconds that the fused model takes for a batch when it is called in this process, by batch: the median of many calls."""
    run = engine_run(repository / FUSED / str(plan.version), plan.fused, plan)
    times = {}
    for batch in batches:
        query = samples.rows(plan, batch, np.random.default_rng(3))
        milliseconds = []
        for _ in range(max(20, 4000 // batch)):
            start = time.perf_counter()
            run(query)
            milliseconds.append(1e3 * (time.perf_counter() - start))
        times[batch] = round(statistics.median(milliseconds), 4)
    return times


def compare(url: str, plan: Plan) -> float:
    """The largest difference between the models' answers to one query. Raises RecsplitError where it is no rounding."""
    query = samples.rows(plan, min(64, plan.max_batch_size), np.random.default_rng(1))
    output = whole.model_outputs(plan)[0].name
    answers = []
    for model in MODELS[:-1]:
        with Client(url, model) as client:
            answers.append(client.infer(query)[output])
    difference = max(float(np.abs(answers[0].reshape(-1) - other.reshape(-1)).max()) for other in answers[1:])
    if not difference <= split_vs_whole.TOLERANCE:
        raise RecsplitError(f"the models differ by {difference:.3g}, so their speeds can't be compared", hint="run recsplit verify")
    return difference


def summary(batch: int, concurrency: int, turns: Sequence[dict[str, Measurement]]) -> dict[str, Any]:
    """Medians over rounds, and medians of the ratios within a round: rows/s of the engine's two forms over each other model's."""
    result: dict[str, Any] = {"batch": batch, "concurrency": concurrency}
    for field in ("rows_per_s", "p50_ms", "p95_ms"):
        result[field] = {model: round(statistics.median(getattr(turn[model], field) for turn in turns), 4) for model in MODELS}
    for form in (FUSED, ENSEMBLE):
        result[f"{form}_over"] = {
            model: round(statistics.median(turn[form].rows_per_s / turn[model].rows_per_s for turn in turns), 3)
            for model in MODELS
            if model != form
        }
    return result


def show(result: dict[str, Any]) -> None:
    """The result as a table."""
    rows: list[list[str | int | float | None]] = []
    for case in result["cases"]:
        latencies = [f"{case['p50_ms'][model]:.2f} / {case['rows_per_s'][model]:,.0f}" for model in MODELS]
        ratios = [f"{case['fused_over'][model]:.2f}x" for model in (split_vs_whole.LEGACY, split_vs_whole.DYNAMO, PORTABLE, ENSEMBLE)]
        rows.append([case["batch"], case["concurrency"], *latencies, *ratios])
    others = (split_vs_whole.LEGACY, split_vs_whole.DYNAMO, PORTABLE, ENSEMBLE)
    show_table(
        ["batch", "clients", *(f"{model}, p50 ms / rows/s" for model in MODELS), *(f"fused / {model}" for model in others)],
        rows,
        title=f"DLRM, 8 tables of 100k x 32, 20-id bags; medians of {result['settings']['rounds']} rounds",
    )
    click.echo(f"In this process, ms by batch: {result['in_process_ms']}")


if __name__ == "__main__":
    command()
