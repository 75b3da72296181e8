"""Tables larger than memory, rows as the source has them and by heat: `python -m recsplit_perf.benchmarks.larger_than_memory`.

A model of five tables of 32 FP32 numbers, bags of 20, together 1.5 times the memory; the source's tables are one file, read five times,
so that the disk holds source and build. Ids follow Zipf's law, hot rows scattered over their table. For each form: the page cache is
emptied, the fused model is loaded in this process' engine, warmed by queries from several threads, and then asked one query at a time.
Major faults are the process': pages that a query waited for alone. Answers are compared with the source's rows.
"""

import json
import os
import resource
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx.numpy_helper
import onnx.parser
from numpy.typing import NDArray

from recsplit.building.build import build
from recsplit.building.settings import BuildSettings
from recsplit.capacity import ids as laws
from recsplit.commands.output import progress, show_table, steps
from recsplit.configs.engine import engine_config
from recsplit.engine.compilation import make
from recsplit.engine.library import Library, Model
from recsplit.engine.runtime import onnxruntime_library
from recsplit.partition.access import frequencies
from recsplit.plan.plan import Plan
from recsplit_perf.machine import provenance

TABLES, DIM, BAG, NAME = 5, 32, 20, "large"
_BLOCK_ROWS = 1 << 16
_ROW_BYTES = 4 * DIM
_CHECKED = 50
#: Reads that the access profile counts, for each row in the mean.
_READS = 20

Ids = NDArray[np.int64]


@click.command()
@click.option("--times", type=float, default=1.5, show_default=True, help="Size of the tables, in times of the machine's memory.")
@click.option("--alpha", type=float, default=1.05, show_default=True, help="Zipf's exponent.")
@click.option("--batch", type=int, default=32, show_default=True, help="Rows of a query.")
@click.option("--warm", type=int, default=20_000, show_default=True, help="Queries before any is counted.")
@click.option("--queries", type=int, default=3000, show_default=True, help="Queries that are counted.")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), default=Path("/tmp/larger"), show_default=True, help="Where the files go."
)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(times: float, alpha: float, batch: int, warm: int, queries: int, folder: Path, output: Path | None) -> None:
    """Measure what larger tables cost, and what lying by heat saves. Needs a disk of twice the memory, and root to empty the page cache."""
    origin = provenance()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    rows = int(times * memory / TABLES / _ROW_BYTES)
    folder.mkdir(parents=True, exist_ok=True)
    source = write_source(folder, rows)
    profile = write_profile(folder / f"access_{rows}_{alpha}.npz", rows, alpha)
    results = {}
    for form, order in (("as the source has them", None), ("by heat", profile)):
        shutil.rmtree(folder / "models", ignore_errors=True)
        settings = BuildSettings(source=str(source), out=folder / "models", name=NAME, form="fused", search_s=0, order_by=order, keep=1)
        with steps() as show:
            plan = build(settings, show).plan
        results[form] = {**measure(plan, folder, rows, alpha, batch, warm, queries), "resident": [vars(item) for item in plan.resident]}
    shutil.rmtree(folder / "models")
    result = {
        "benchmark": "larger_than_memory",
        **origin,
        "settings": {"times": times, "alpha": alpha, "batch": batch, "warm": warm, "queries": queries, "rows": rows, "tables": TABLES},
        "memory_bytes": memory,
        "tables_bytes": rows * TABLES * _ROW_BYTES,
        "forms": results,
    }
    names = ("major_faults_per_query", "p50_ms", "p99_ms", "queries_per_s", "warm_queries_per_s", "wrong")
    show_table(("rows lie", *names), [[form, *(numbers[name] for name in names)] for form, numbers in results.items()])
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


def write_source(folder: Path, rows: int) -> Path:
    """An ONNX model of five tables that are one file's bytes, each number of a row made of the row's own."""
    path = folder / f"source_{rows}.onnx"
    if not path.exists():
        with (folder / f"table_{rows}.bin").open("wb") as file, progress("Writing the source's table", total=rows) as advance:
            for first in range(0, rows, _BLOCK_ROWS):
                block = numbers(np.arange(first, min(first + _BLOCK_ROWS, rows)))
                file.write(block.tobytes())
                advance(len(block))
        reads = " ".join(f"r{n}=Gather(t{n},i{n}) y{n}=ReduceSum<keepdims=0>(r{n},one)" for n in range(TABLES))
        inputs = ", ".join(f"int64[N,{BAG}] i{n}" for n in range(TABLES))
        outputs = ",".join(f"y{n}" for n in range(TABLES))
        text = (
            f'<ir_version: 8, opset_import: ["": 17]> g ({inputs}) => (float[N,{TABLES * DIM}] y) {{ {reads} y=Concat<axis=1>({outputs}) }}'
        )
        model = onnx.parser.parse_model(text)
        for number in range(TABLES):
            tensor = onnx.TensorProto(
                name=f"t{number}", data_type=onnx.TensorProto.FLOAT, dims=[rows, DIM], data_location=onnx.TensorProto.EXTERNAL
            )
            for key, value in (("location", f"table_{rows}.bin"), ("offset", "0"), ("length", str(rows * _ROW_BYTES))):
                tensor.external_data.add(key=key, value=value)
            model.graph.initializer.append(tensor)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
        path.write_bytes(model.SerializeToString())
    return path


def numbers(rows: Ids) -> NDArray[np.float32]:
    """What stands in these rows of each table: whole numbers, so that sums are exact in any order."""
    columns = np.arange(1, DIM + 1)
    return ((rows[..., None] * columns) % 1021 - 510).astype(np.float32)


def write_profile(path: Path, rows: int, alpha: float) -> Path:
    """An access profile of so many reads that most rows are read."""
    if not path.exists():
        with path.open("wb") as file:
            about = frequencies.About(NAME, 1, 1, 0, (f"drawn by Zipf's law, {alpha}",))
            frequencies.write(file, about, ((f"t{number}", _counts(rows, alpha, number)) for number in range(TABLES)))
    return path


def _counts(rows: int, alpha: float, seed: int) -> NDArray[np.uint32]:
    table = np.zeros(rows, np.uint32)
    for some, counts in laws.counts(laws.Zipf(alpha), rows, _READS * rows, np.random.default_rng(seed)):
        table[some] = counts
    return table


def asked(rows: int, alpha: float, batch: int, count: int, seed: int) -> Iterator[dict[str, Ids]]:
    """Queries whose ids follow the law."""
    random = np.random.default_rng(seed)
    for _ in range(0, count, 64):
        ids = laws.draw(laws.Zipf(alpha), rows, 64 * TABLES * batch * BAG, random)
        for query in ids.reshape(64, TABLES, batch, BAG):
            yield {f"i{number}": query[number] for number in range(TABLES)}


def measure(plan: Plan, folder: Path, rows: int, alpha: float, batch: int, warm: int, queries: int) -> dict[str, Any]:
    """Warm, then ask one query at a time."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    config = engine_config(plan.inputs, plan.outputs, plan.max_batch_size)
    settings = {"onnxruntime": str(onnxruntime_library()), "workers": 1}
    with Model(Library(make()), folder / "models" / NAME / str(plan.version), config, settings) as model:
        start = time.perf_counter()
        with ThreadPoolExecutor(16) as pool, progress("Warming", total=warm) as advance:
            shares = [pool.submit(_ask, model, rows, alpha, batch, warm // 16, seed, advance) for seed in range(16)]
            for share in shares:
                share.result()
        warm_s = time.perf_counter() - start
        latencies, wrong = [], 0
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        began = time.perf_counter()
        busy = 0.0
        for number, query in enumerate(asked(rows, alpha, batch, queries, 1000)):
            start = time.perf_counter()
            (answer,) = model.run([query])
            latencies.append(time.perf_counter() - start)
            busy += latencies[-1]
            if number % (queries // _CHECKED) == 0:
                want = np.concatenate([numbers(query[f"i{n}"]).sum(axis=1) for n in range(TABLES)], axis=1)
                wrong += not np.array_equal(answer["y"], want)  # type: ignore[index]
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt - faults
    p50, p99 = np.percentile(latencies, [50, 99]) * 1e3
    return {
        "major_faults_per_query": round(faults / len(latencies), 2),
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "queries_per_s": round(len(latencies) / busy, 1),
        "warm_queries_per_s": round(warm / warm_s, 1),
        "wrong": wrong,
        "checked": _CHECKED,
        "seconds": round(time.perf_counter() - began, 1),
    }


def _ask(model: Model, rows: int, alpha: float, batch: int, count: int, seed: int, advance: Any) -> None:
    for query in asked(rows, alpha, batch, count, seed):
        model.run([query])
        advance(1)


if __name__ == "__main__":
    command()
