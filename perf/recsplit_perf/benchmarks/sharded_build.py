"""Builds of one large table out of an .onnx: whole, in shards by row number, in shards by heat: time and peak memory of each.

    python -m recsplit_perf.benchmarks.sharded_build --dir /tmp/shards

The table lies beside the model as external data, so that what a build holds of it is the build's own doing (a factory's module
holds its table itself; partition_scale measures that way). It takes three times the table on the disk.
"""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import numpy_helper, parser

from recsplit.commands.output import progress, show_table
from recsplit.disk.files import size_text
from recsplit.errors import RecsplitError
from recsplit.partition import partition_file
from recsplit.partition.access import frequencies
from recsplit.plan.plan import Segment
from recsplit_perf.machine import provenance
from recsplit_perf.processes import watched

NAME = "shards"
#: Where the table is cut, in shares of its rows.
CUTS = (0.0, 0.01, 0.1, 0.4, 1.0)
_BLOCK_ROWS = 1 << 16
_MODEL = """<ir_version: 8, opset_import: ["" : 17]> shards (int64[N,128] ids) => (float[N,1] score) {
  v = Gather(table, ids) s = ReduceSum<keepdims=0>(v, axis) score = MatMul(s, w)
}"""


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path), required=True, help="Where model and builds lie meanwhile.")
@click.option("--rows", type=click.IntRange(1000), default=20_000_000, show_default=True, help="Of the table.")
@click.option("--dim", type=click.IntRange(1), default=32, show_default=True, help="Of the table.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(folder: Path, rows: int, dim: int, output: Path | None) -> None:
    """Time and peak memory of builds whole and in shards."""
    origin = provenance()
    try:
        steps = measured(folder, rows, dim)
    except RecsplitError as error:
        raise click.ClickException("\n".join(text for text in (str(error), error.detail, f"Hint: {error.hint}") if text)) from error
    show_table(
        ("build", "seconds", "peak private GB", "peak RSS GB"),
        [(step["step"], step["seconds"], step["peak_anonymous_bytes"] / 1e9, step["peak_resident_bytes"] / 1e9) for step in steps],
        title=f"{rows:,} rows of {dim}: {size_text(rows * dim * 4)}",
    )
    if output is not None:
        result = {"benchmark": "sharded_build", **origin, "rows": rows, "dim": dim, "cuts": CUTS, "builds": steps}
        output.write_text(json.dumps(result, indent=1) + "\n")


def measured(folder: Path, rows: int, dim: int) -> list[dict[str, Any]]:
    """Each build's time and memory; nothing is left but `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with progress("Writing the model"):
        write_model(folder, rows, dim)
    profile = folder / "access.npz"
    with progress("Writing an access profile"), profile.open("wb") as file:
        heat = np.random.default_rng(0).permutation(rows).astype(np.uint32)  # no two rows alike, the hottest anywhere
        frequencies.write(file, frequencies.About(NAME, 1000, 1000, 0, ("a permutation",)), [("table", heat)])
    write_partition(folder / "by_row.json", rows, None)
    write_partition(folder / "by_heat.json", rows, profile)
    build = ["build", "model.onnx", "--name", NAME, "--max-batch-size", "256", "--tolerance", "1e-4"]  # sums of 128 rows
    kinds = {
        "whole": [],
        "in shards by row": ["--partition", "by_row.json"],
        "in shards by heat": ["--partition", "by_heat.json", "--access", "access.npz"],
    }
    measurements = []
    for kind, more in kinds.items():
        with progress(f"recsplit build, {kind}"):
            peak = watched.recsplit([*build, *more, "-o", "built"], folder)
        shutil.rmtree(folder / "built")
        figures = {"seconds": peak.seconds, "peak_anonymous_bytes": peak.anonymous_bytes, "peak_resident_bytes": peak.resident_bytes}
        measurements.append({"step": kind, **figures})
    shutil.rmtree(folder)
    return measurements


def write_model(folder: Path, rows: int, dim: int) -> None:
    """ids INT64 [N, 128], as many as a row of ElasticRec's RM1 has -> the sum of their rows, times a vector."""
    table = onnx.TensorProto(name="table", data_type=onnx.TensorProto.FLOAT, dims=[rows, dim], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": "table.bin", "offset": 0, "length": rows * dim * 4}.items():
        table.external_data.add(key=key, value=str(value))
    model = parser.parse_model(_MODEL)
    weights = {"axis": np.array([1]), "w": np.linspace(-1, 1, dim, dtype=np.float32).reshape(dim, 1)}
    model.graph.initializer.extend([table, *(numpy_helper.from_array(data, name) for name, data in weights.items())])
    onnx.save(model, folder / "model.onnx")
    random = np.random.default_rng(0)
    with (folder / "table.bin").open("wb") as file:
        for first in range(0, rows, _BLOCK_ROWS):
            file.write(random.standard_normal((min(_BLOCK_ROWS, rows - first), dim), dtype=np.float32).tobytes())


def write_partition(path: Path, rows: int, profile: Path | None) -> None:
    """Four shards of the table."""
    ends = [int(share * rows) for share in CUTS]
    shards = [
        partition_file.ShardLayout((Segment("table", first, last),), "own", 1, 1.0, (last - first) * 4)
        for first, last in itertools.pairwise(ends)
    ]
    digest = None if profile is None else frequencies.digest(profile)
    path.write_text(partition_file.to_json(partition_file.Partition(NAME, digest, 100.0, "by hand", 1.0, "bytes", tuple(shards))))


if __name__ == "__main__":
    command()
