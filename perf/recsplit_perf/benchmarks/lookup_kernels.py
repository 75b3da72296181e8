"""Lookups alone, one thread, nanoseconds a row: `python -m recsplit_perf.benchmarks.lookup_kernels`.

The engine's kernels, torch's embedding_bag, FBGEMM's tables for inference, and the operators that the portable form runs in ONNX Runtime
pool the same ids, in requests of 40,960 ids, of equally large tables. Each has its table where it puts it by default: the engine in
huge pages, the others in usual ones; the engine in usual pages and torch in huge ones stand beside it. Beside each cell stands the limit:
cache lines a row, each as long as this machine needs for a line that is read at random from that table, and its sequential bandwidth.
What fits into memory together is measured in turns, round by round; else table after table, with the forms that read it.
"""

import json
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
from recsplit.plan.dtypes import NUMPY
from recsplit.rows import scaled
from recsplit_perf.benchmarks.lookup_tables import HEADER, Array, Shape, available, filled, huge, nowhere, usual
from recsplit_perf.machine import provenance

Ids = NDArray[np.int64]
#: Pools ids INT64 [bags, length].
Form = Callable[[Ids], object]


#: A form out of the library, a table and its shape.
Maker = Callable[[Library, Array, Shape], Form]

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
    together = sum(rows * Shape(rows, dim, stored).row_bytes for _, stored, _ in _TABLES) < _SHARE * available()
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
            "over_same_dtype": {dtype: _over(medians[law, bag], f"fbgemm {dtype}", f"native {dtype}") for dtype in _DTYPES},
            "torch_over_int8": _over(medians[law, bag], "torch fp32", "native int8"),
            "limit_ns": {
                name: round(statistics.median(line for line, _ in both) * _lines(Shape(rows, dim, name.split()[1].upper()).row_bytes), 3)
                for name, both in limits.items()
            },
            "sequential_gb_per_s": round(statistics.median(rate for both in limits.values() for _, rate in both) / 1e9, 2),
            "in_turns": together,
        }
        for law, bag in ids
    ]


def _over(medians: Mapping[str, float], other: str, one: str) -> float:
    """How many times as long another takes."""
    return round(medians[other] / medians[one], 3)


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
    for memory, stored, makers in tables:
        kind = Shape(*shape, stored)
        table = memory(kind)
        for name, maker in makers.items():
            forms[name] = maker(library, table, kind)
            if name.startswith("native") and memory is huge:
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


def _lines(row_bytes: int) -> float:
    """Cache lines that a row lies in, the mean over its places: rows lie one after the other."""
    places = [place * row_bytes % _LINE for place in range(_LINE)]
    return statistics.mean((place + row_bytes - 1) // _LINE + 1 for place in places)


def _native(library: Library, table: Array, shape: Shape) -> Form:
    if shape.stored in scaled.BITS:
        return lambda ids: library.pool(table, "FP32", ids, "sum", stored=shape.stored, dim=shape.dim)
    return lambda ids: library.pool(table, shape.stored, ids, "sum")


def _torch(_library: Library, table: Array, _shape: Shape) -> Form:
    weight = torch.from_numpy(table)
    return lambda ids: torch.nn.functional.embedding_bag(torch.from_numpy(ids), weight, mode="sum")


def _fbgemm(_library: Library, _table: Array, shape: Shape) -> Form:
    from fbgemm_gpu.split_embedding_configs import SparseType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
    from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen

    spec = [("", shape.rows, shape.dim, SparseType[shape.stored], EmbeddingLocation.HOST)]
    bags = IntNBitTableBatchedEmbeddingBagsCodegen(spec, pooling_mode=PoolingMode.SUM, output_dtype=SparseType.FP32, device="cpu")
    bags.initialize_weights()
    weights, scales = bags.split_embedding_weights()[0]
    if scales is None:
        filled(weights.numpy().view(NUMPY[shape.stored]))
    else:  # rows of several parts and of some padding: they can't be filled as one
        weights.random_(0, 256)
        scales.numpy()[:] = HEADER
    # Its kernels take INT32 as INT64: ids are given as they come, not timed as a cast.
    return lambda ids: bags(torch.from_numpy(ids.reshape(-1)), torch.arange(0, ids.size + 1, ids.shape[1]))


def _onnxruntime(_library: Library, table: Array, _shape: Shape) -> Form:
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


#: Where a table lies, how its rows are stored, and the forms that read it.
_Table = tuple[Callable[[Shape], Array], str, dict[str, Maker]]
_TABLES: tuple[_Table, ...] = (
    (huge, "FP32", {"native fp32": _native, "torch fp32, huge pages": _torch}),
    (huge, "FP16", {"native fp16": _native}),
    (huge, "INT8", {"native int8": _native}),
    (huge, "INT4", {"native int4": _native}),
    (usual, "FP32", {"torch fp32": _torch, "native fp32, usual pages": _native, "onnxruntime fp32": _onnxruntime}),
    (nowhere, "FP32", {"fbgemm fp32": _fbgemm}),
    (nowhere, "FP16", {"fbgemm fp16": _fbgemm}),
    (nowhere, "INT8", {"fbgemm int8": _fbgemm}),
    (nowhere, "INT4", {"fbgemm int4": _fbgemm}),
)
_DTYPES = ("fp32", "fp16", "int8", "int4")
_NAMES = [name for _, _, makers in _TABLES for name in makers]


def show(result: dict[str, Any]) -> None:
    """The cells as a table."""
    rows: list[list[str | int | float | None]] = []
    for cell in result["cells"]:
        numbers = [f"{cell['ns_per_row'][name]:.1f}" for name in _NAMES]
        native = cell["ns_per_row"]["native fp32"]
        others = [
            cell["ns_per_row"]["torch fp32"] / native,
            *cell["over_same_dtype"].values(),
            cell["torch_over_int8"],
            *(cell["ns_per_row"][f"native {dtype}"] / cell["limit_ns"][f"native {dtype}"] for dtype in _DTYPES),
        ]
        bandwidth = cell["dim"] * 4 / native / cell["sequential_gb_per_s"]
        rows.append(
            [cell["rows"], cell["dim"], cell["ids"], cell["bag"], *numbers, *(f"{other:.2f}" for other in others), f"{bandwidth:.0%}"]
        )
    ratios = ["torch / native", *(f"fbgemm / native {dtype}" for dtype in _DTYPES), "torch / native int8"]
    ratios += [f"{dtype} / limit" for dtype in _DTYPES]
    columns = ["rows", "dim", "ids", "bag", *_NAMES, *ratios, "of sequential"]
    show_table(columns, rows, title="ns a row, one thread")


if __name__ == "__main__":
    command()
