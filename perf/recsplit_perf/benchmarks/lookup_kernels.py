"""Lookups alone, one thread, nanoseconds a row: `python -m recsplit_perf.benchmarks.lookup_kernels`.

The engine's kernels (fp32 and fp16, in huge pages; fp32 in usual ones too), torch's embedding_bag, FBGEMM's tables for inference, and
the operators that the portable form runs in ONNX Runtime pool the same ids of equally large tables. Beside each cell stands the limit:
cache lines a row, each as long as this machine needs for a line that is read at random from that table, and its sequential bandwidth.
What fits into memory together is measured in turns, round by round; tables that don't are measured one form after the other, each with a
limit of its own.
"""

import json
import mmap
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

ROWS, DIMS, BAGS = (100_000, 2_000_000, 20_000_000), (32, 128), (1, 20, 128)
LAWS: dict[str, laws.Skew] = {"uniform": laws.Uniform(), "zipf 1.05": laws.Zipf(1.05)}
_IDS = 2_000_000
_LINE = 64
_LINES = 4_000_000
#: Of the memory that is available: more of it, and forms are measured one after the other.
_SHARE = 0.6


@click.command()
@click.option("--rows", default=",".join(map(str, ROWS)), show_default=True, help="Sizes of tables.")
@click.option("--dims", default=",".join(map(str, DIMS)), show_default=True, help="Widths.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Measurements of each kind.")
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
    result = {"benchmark": "lookup_kernels", **origin, "settings": {"ids": _IDS, "rounds": rounds}, "cells": cells}
    show(result)
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


def measure(library: Library, rows: int, dim: int, rounds: int, advance: Callable[[int], None]) -> list[dict[str, Any]]:
    """All cells of one size of table: medians over the rounds, ns a row, and the limits."""
    random = np.random.default_rng([rows, dim])
    ids = {(law, bag): laws.draw(LAWS[law], rows, _IDS // bag * bag, random).reshape(-1, bag) for law in LAWS for bag in BAGS}
    nanoseconds: dict[tuple[str, int], dict[str, list[float]]] = {key: {} for key in ids}
    limits: dict[str, list[tuple[float, float]]] = {}
    together = sum(size for _, size in _sizes(dim)) * rows < _SHARE * _available()
    groups = [list(_MAKERS)] if together else [[name] for name in _MAKERS]
    for group in groups:
        with _forms(library, group, rows, dim) as (forms, memory):
            for _ in range(rounds):
                for name, data in memory.items():
                    limits.setdefault(name, []).append((library.random_line_ns(data, _LINES), library.sequential_bytes_per_s(data)))
                for key, chosen in ids.items():
                    for name, form in forms.items():
                        start = time.perf_counter()
                        form(chosen)
                        nanoseconds[key].setdefault(name, []).append(1e9 * (time.perf_counter() - start) / chosen.size)
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


def _sizes(dim: int) -> Iterator[tuple[str, int]]:
    """Each form, and the bytes of a row of its table."""
    for name in _MAKERS:
        yield name, dim * (2 if name.endswith("fp16") else 4)


def _lines(dim: int, name: str) -> float:
    return max(1.0, dim * (2 if name.endswith("fp16") else 4) / _LINE)


@contextmanager
def _forms(library: Library, names: Sequence[str], rows: int, dim: int) -> Iterator[tuple[dict[str, Form], dict[str, Array]]]:
    """Functions that pool, and the memory of those that are the engine's; let go of on the way out."""
    usual: dict[str, Array] = {}
    forms: dict[str, Form] = {}
    memory: dict[str, Array] = {}
    for name in names:
        if name in ("torch fp32", "onnxruntime fp32", "native fp32, usual pages"):
            table = usual.setdefault("table", _filled(np.empty((rows, dim), np.float32)))
        elif name.startswith("native"):
            table = memory[name] = _filled(_huge(rows, dim, np.float16 if name.endswith("fp16") else np.float32))
        else:
            table = np.empty((0, dim), np.float32)
        forms[name] = _MAKERS[name](library, table, rows, dim)
    yield forms, memory
    forms.clear()
    memory.clear()
    usual.clear()


def _native(library: Library, table: Array, _rows: int, _dim: int) -> Form:
    dtype = "FP16" if table.dtype == np.float16 else "FP32"
    return lambda ids: library.pool(table, dtype, ids, "sum")


def _torch(_library: Library, table: Array, _rows: int, _dim: int) -> Form:
    weight = torch.from_numpy(table)
    return lambda ids: torch.nn.functional.embedding_bag(torch.from_numpy(ids), weight, mode="sum")


def _fbgemm(dtype: str) -> Callable[[Library, Array, int, int], Form]:
    def form(_library: Library, _table: Array, rows: int, dim: int) -> Form:
        from fbgemm_gpu.split_embedding_configs import SparseType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
        from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen

        kind = {"fp32": SparseType.FP32, "fp16": SparseType.FP16}[dtype]
        spec = [("", rows, dim, kind, EmbeddingLocation.HOST)]
        bags = IntNBitTableBatchedEmbeddingBagsCodegen(spec, pooling_mode=PoolingMode.SUM, output_dtype=SparseType.FP32, device="cpu")
        bags.initialize_weights()
        data = bags.split_embedding_weights()[0][0].numpy().view(np.float32 if dtype == "fp32" else np.float16)
        _filled(data)

        def pooled(ids: Ids) -> object:
            # Its kernels take INT32 as INT64: ids and offsets are made beforehand as they come, not timed as a cast.
            return bags(torch.from_numpy(ids.reshape(-1)), torch.arange(0, ids.size + 1, ids.shape[1]))

        return pooled

    return form


def _onnxruntime(_library: Library, table: Array, _rows: int, dim: int) -> Form:
    text = (
        f'<ir_version: 8, opset_import: ["": 17]> bags (float[R, {dim}] table, int64[N, L] ids) => (float[N, {dim}] out) '
        "<int64[1] axis = {1}> { rows = Gather (table, ids) out = ReduceSum <keepdims = 0> (rows, axis) }"
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), options, providers=["CPUExecutionProvider"])
    value = ort.OrtValue.ortvalue_from_numpy(table)

    def pooled(ids: Ids) -> object:
        # In requests of 2048 bags at most, as they are served: the vectors of all ids at once would be what is measured.
        return [session.run(None, {"table": value, "ids": ids[first : first + 2048]}) for first in range(0, len(ids), 2048)]

    return pooled


_MAKERS: dict[str, Callable[[Library, Array, int, int], Form]] = {
    "native fp32": _native,
    "native fp32, usual pages": _native,
    "native fp16": _native,
    "torch fp32": _torch,
    "fbgemm fp32": _fbgemm("fp32"),
    "fbgemm fp16": _fbgemm("fp16"),
    "onnxruntime fp32": _onnxruntime,
}


def _huge(rows: int, dim: int, dtype: Any) -> Array:
    """Memory as the engine copies tables into."""
    size = rows * dim * np.dtype(dtype).itemsize
    memory = mmap.mmap(-1, size)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(rows, dim)


def _filled(table: Array) -> Array:
    """Small numbers everywhere: no page may be the kernel's one page of zeros."""
    flat = table.reshape(-1)
    block = np.random.default_rng(0).standard_normal(min(flat.size, 1 << 20)).astype(table.dtype)
    for start in range(0, flat.size, len(block)):
        flat[start : start + len(block)] = block[: flat.size - start]
    return table


def _available() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * float(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))


def show(result: dict[str, Any]) -> None:
    """The cells as a table."""
    names = list(_MAKERS)
    rows: list[list[str | int | float | None]] = []
    for cell in result["cells"]:
        numbers = [f"{cell['ns_per_row'][name]:.1f}" for name in names]
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
    columns = ["rows", "dim", "ids", "bag", *names, "torch / native", "fbgemm / native", "native / limit", "of sequential"]
    show_table(columns, rows, title="ns a row, one thread")


if __name__ == "__main__":
    command()
