"""Lookups alone, one thread, nanoseconds a row: `python -m recsplit_perf.benchmarks.lookup_kernels`.

The engine's kernels, torch's embedding_bag, FBGEMM's tables for inference, and the operators that the portable form runs in ONNX Runtime
pool the same ids, in requests of 40,960 ids, of equally large tables. Each has its table where it puts it by default: the engine in
huge pages, the others in usual ones; the engine in usual pages and torch in huge ones stand beside it. Beside each cell stands the limit:
cache lines a row, each as long as this machine needs for a line that is read at random from that table, and its sequential bandwidth.
What fits into memory together is measured in turns, round by round; else table after table, with the forms that read it.
"""

import json
import mmap
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx.parser
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from recsplit.capacity import ids as laws
from recsplit.commands.output import progress, show_table
from recsplit.engine.compilation import make
from recsplit.engine.library import Library
from recsplit_perf.machine import provenance

Array = NDArray[Any]
Ids = NDArray[np.int64]
#: Pools ids INT64 [bags, length].
Form = Callable[[Ids], object]
#: A form out of the library, and its table [rows, dim], whose elements are FP32 or FP16.
Maker = Callable[[Library, Array], Form]

ROWS, DIMS, BAGS = (100_000, 2_000_000, 20_000_000), (32, 128), (1, 20, 128)
LAWS: dict[str, laws.Skew] = {"uniform": laws.Uniform(), "zipf 1.05": laws.Zipf(1.05)}
#: As 2048 queries of a feature of 20 ids. All ids at once would measure how fast the system gives out memory for the vectors.
_REQUEST_IDS = 40_960
_IDS = 2_000_000
_LINE = 64
_LINES = 4_000_000
#: Of the memory that is available: more of it, and tables are measured one after the other.
_SHARE = 0.6


@click.command()
@click.option("--rows", default=",".join(map(str, ROWS)), show_default=True, help="Sizes of tables.")
@click.option("--dims", default=",".join(map(str, DIMS)), show_default=True, help="Widths.")
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True, help="Measurements of each kind.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(rows: str, dims: str, rounds: int, output: Path | None) -> None:
    """Measure the kernels of lookups, and what memory gives at most."""
    origin = provenance()
    torch.set_num_threads(1)
    library = Library(make())
    sizes = [(int(count), int(dim)) for count in rows.split(",") for dim in dims.split(",")]
    cells: list[dict[str, Any]] = []
    with progress("Measuring", total=len(sizes) * len(LAWS) * len(BAGS)) as advance:
        for count, dim in sizes:
            cells += measure(library, count, dim, rounds, advance)
    result = {
        "benchmark": "lookup_kernels",
        **origin,
        "settings": {"ids": _IDS, "request_ids": _REQUEST_IDS, "rounds": rounds},
        "cells": cells,
    }
    show(result)
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


def measure(library: Library, rows: int, dim: int, rounds: int, advance: Callable[[int], None]) -> list[dict[str, Any]]:
    """All cells of one size of table: medians over the rounds, ns a row, and the limits."""
    random = np.random.default_rng([rows, dim])
    ids = {(law, bag): laws.draw(LAWS[law], rows, _IDS // bag * bag, random).reshape(-1, bag) for law in LAWS for bag in BAGS}
    nanoseconds: dict[tuple[str, int], dict[str, list[float]]] = {key: {} for key in ids}
    limits: dict[str, list[tuple[float, float]]] = {}
    together = sum(rows * dim * dtype.itemsize for _, dtype, _ in _TABLES) < _SHARE * _available()
    for tables in [_TABLES] if together else [(table,) for table in _TABLES]:
        _measure_together(library, tables, (rows, dim), rounds, ids, nanoseconds, limits)
    advance(len(ids))
    medians = {key: {name: round(statistics.median(times), 3) for name, times in nanoseconds[key].items()} for key in ids}
    return [
        {
            "rows": rows,
            "dim": dim,
            "ids": law,
            "bag": bag,
            "ns_per_row": medians[law, bag],
            "over_native": {name: round(time / medians[law, bag]["native fp32"], 3) for name, time in medians[law, bag].items()},
            "limit_ns": {name: round(statistics.median(line for line, _ in both) * _lines(dim, name), 3) for name, both in limits.items()},
            "sequential_gb_per_s": round(statistics.median(rate for both in limits.values() for _, rate in both) / 1e9, 2),
            "in_turns": together,
        }
        for law, bag in ids
    ]


def _measure_together(
    library: Library,
    tables: "Sequence[_Table]",
    shape: tuple[int, int],
    rounds: int,
    ids: Mapping[tuple[str, int], Ids],
    nanoseconds: Mapping[tuple[str, int], dict[str, list[float]]],
    limits: dict[str, list[tuple[float, float]]],
) -> None:
    """Measurements of the forms of some tables, in turns; the tables are gone when it returns."""
    forms: dict[str, Form] = {}
    probed: dict[str, Array] = {}
    for memory, dtype, makers in tables:
        table = memory(*shape, dtype)
        for name, maker in makers.items():
            forms[name] = maker(library, table)
            if name in ("native fp32", "native fp16"):
                probed[name] = table
    for _ in range(rounds):
        for name, table in probed.items():
            limits.setdefault(name, []).append((library.random_line_ns(table, _LINES), library.sequential_bytes_per_s(table)))
        for key, chosen in ids.items():
            bags = max(1, _REQUEST_IDS // chosen.shape[1])
            requests = [chosen[first : first + bags] for first in range(0, len(chosen), bags)]
            for name, form in forms.items():
                # Once before: what is left in the caches shall be its own table's lines, not those of the form before it.
                _seconds(form, requests)
                nanoseconds[key].setdefault(name, []).append(1e9 * _seconds(form, requests) / chosen.size)


def _seconds(form: Form, requests: Sequence[Ids]) -> float:
    """How long a form takes for requests that have just come in: their ids were written right before, as a server's network does."""
    seconds = 0.0
    received = np.empty_like(requests[0])
    for request in requests:
        received[: len(request)] = request
        start = time.perf_counter()
        form(received[: len(request)])
        seconds += time.perf_counter() - start
    return seconds


def _lines(dim: int, name: str) -> float:
    return max(1.0, dim * (2 if name.endswith("fp16") else 4) / _LINE)


def _native(library: Library, table: Array) -> Form:
    dtype = "FP16" if table.dtype == np.float16 else "FP32"
    return lambda ids: library.pool(table, dtype, ids, "sum")


def _torch(_library: Library, table: Array) -> Form:
    weight = torch.from_numpy(table)
    return lambda ids: torch.nn.functional.embedding_bag(torch.from_numpy(ids), weight, mode="sum")


def _fbgemm(_library: Library, table: Array) -> Form:
    from fbgemm_gpu.split_embedding_configs import SparseType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
    from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen

    rows, dim = table.shape
    spec = [("", rows, dim, SparseType.FP16 if table.dtype == np.float16 else SparseType.FP32, EmbeddingLocation.HOST)]
    bags = IntNBitTableBatchedEmbeddingBagsCodegen(spec, pooling_mode=PoolingMode.SUM, output_dtype=SparseType.FP32, device="cpu")
    bags.initialize_weights()
    _filled(bags.split_embedding_weights()[0][0].numpy().view(table.dtype))
    # Its kernels take INT32 as INT64: ids are given as they come, not timed as a cast.
    return lambda ids: bags(torch.from_numpy(ids.reshape(-1)), torch.arange(0, ids.size + 1, ids.shape[1]))


def _onnxruntime(_library: Library, table: Array) -> Form:
    dim = table.shape[1]
    text = (
        f'<ir_version: 8, opset_import: ["": 17]> bags (float[R, {dim}] table, int64[N, L] ids) => (float[N, {dim}] out) '
        "<int64[1] axis = {1}> { rows = Gather (table, ids) out = ReduceSum <keepdims = 0> (rows, axis) }"
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), options, providers=["CPUExecutionProvider"])
    value = ort.OrtValue.ortvalue_from_numpy(table)
    return lambda ids: session.run(None, {"table": value, "ids": ids})


def _huge(rows: int, dim: int, dtype: "np.dtype[Any]") -> Array:
    """Memory as the engine copies tables into: private, since the system gives no huge pages to memory that is shared."""
    before, size = _in_huge_pages(), rows * dim * dtype.itemsize
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    table = _filled(np.frombuffer(memory, dtype).reshape(rows, dim))
    if _in_huge_pages() - before < 0.8 * size:
        raise click.ClickException("this machine gave no huge pages, and the engine's cells would be of usual ones")
    return table


def _usual(rows: int, dim: int, _dtype: "np.dtype[Any]") -> Array:
    """Memory as torch makes a weight: NumPy asks for huge pages for large arrays, torch doesn't."""
    return _filled(torch.empty((rows, dim)).numpy())


def _nowhere(rows: int, dim: int, dtype: "np.dtype[Any]") -> Array:
    """The form makes its table itself: an array of that shape that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), (rows, dim))


#: Where a table lies, its elements, and the forms that read it.
_Table = tuple[Callable[[int, int, "np.dtype[Any]"], Array], "np.dtype[Any]", dict[str, Maker]]
_FP32, _FP16 = np.dtype(np.float32), np.dtype(np.float16)
_TABLES: tuple[_Table, ...] = (
    (_huge, _FP32, {"native fp32": _native, "torch fp32, huge pages": _torch}),
    (_huge, _FP16, {"native fp16": _native}),
    (_usual, _FP32, {"torch fp32": _torch, "native fp32, usual pages": _native, "onnxruntime fp32": _onnxruntime}),
    (_nowhere, _FP32, {"fbgemm fp32": _fbgemm}),
    (_nowhere, _FP16, {"fbgemm fp16": _fbgemm}),
)
_NAMES = [name for _, _, makers in _TABLES for name in makers]


def _filled(table: Array) -> Array:
    """Small numbers everywhere: no page may be the kernel's one page of zeros."""
    flat = table.reshape(-1)
    block = np.random.default_rng(0).standard_normal(min(flat.size, 1 << 20)).astype(table.dtype)
    for start in range(0, flat.size, len(block)):
        flat[start : start + len(block)] = block[: flat.size - start]
    return table


def _available() -> float:
    return _bytes("/proc/meminfo", "MemAvailable")


def _in_huge_pages() -> float:
    return _bytes("/proc/self/smaps_rollup", "AnonHugePages")


def _bytes(file: str, name: str) -> float:
    lines = Path(file).read_text().splitlines()
    return 1024 * float(next(line.split()[1] for line in lines if line.startswith(name)))


def show(result: dict[str, Any]) -> None:
    """The cells as a table."""
    rows: list[list[str | int | float | None]] = []
    for cell in result["cells"]:
        numbers = [f"{cell['ns_per_row'][name]:.1f}" for name in _NAMES]
        native = cell["ns_per_row"]["native fp32"]
        others = [
            cell["ns_per_row"]["torch fp32"] / native,
            cell["ns_per_row"]["fbgemm fp32"] / native,
            native / cell["limit_ns"]["native fp32"],
        ]
        bandwidth = cell["dim"] * 4 / native / cell["sequential_gb_per_s"]
        rows.append(
            [cell["rows"], cell["dim"], cell["ids"], cell["bag"], *numbers, *(f"{other:.2f}" for other in others), f"{bandwidth:.0%}"]
        )
    columns = ["rows", "dim", "ids", "bag", *_NAMES, "torch / native", "fbgemm / native", "native / limit", "of sequential"]
    show_table(columns, rows, title="ns a row, one thread")


if __name__ == "__main__":
    command()
