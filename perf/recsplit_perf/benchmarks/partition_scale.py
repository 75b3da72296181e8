"""A table of many million rows, counted, partitioned and built in shards: `python -m recsplit_perf.benchmarks.partition_scale --dir DIR`.

Writes a model of one table and a trace of its accesses, and runs `recsplit build`, `access`, `partition` and `build --partition`, each a
process of its own whose time and memory are measured. It holds three times the table on the disk, and the trace.
"""

import json
import math
import shutil
import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from recsplit.capacity import ids
from recsplit.commands.output import progress, show_table
from recsplit.errors import RecsplitError
from recsplit_perf.machine import provenance
from recsplit_perf.processes import watched

DIM = 32
#: Ids in a row and in a query, as in ElasticRec's RM1.
BAG = 128
NAME = "scale"
_FACTORY = """from recsplit.zoo import dlrm


def model():
    return dlrm.dlrm(tables=1, rows={rows}, dim={dim}, bag={bag})
"""
_CHUNK_ROWS = 1 << 15


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path), required=True, help="Where model, trace and builds lie meanwhile.")
@click.option("--rows", type=click.IntRange(1000), default=20_000_000, show_default=True, help="Of the table.")
@click.option("--accesses", type=click.IntRange(1000), default=100_000_000, show_default=True, help="In the trace.")
@click.option("--alpha", type=float, default=1.05, show_default=True, help="Of the accesses' Zipf law.")
@click.option("--qps", type=float, default=100.0, show_default=True, help="That the partition is for.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(folder: Path, rows: int, accesses: int, alpha: float, qps: float, output: Path | None) -> None:
    """Time and peak memory of an access profile, a partition and a sharded build."""
    origin = provenance()
    try:
        steps = measure(folder, rows, accesses, alpha, qps)
    except RecsplitError as error:
        raise click.ClickException("\n".join(text for text in (str(error), error.detail, f"Hint: {error.hint}") if text)) from error
    columns = ("step", "seconds", "cpu_s", "peak private GB", "peak RSS GB")
    lines = [
        (one["step"], one["seconds"], one["cpu_s"], one["peak_anonymous_bytes"] / 1e9, one["peak_resident_bytes"] / 1e9)
        for one in steps["steps"]
    ]
    show_table(columns, lines, title=f"{rows:,} rows of {DIM}, {accesses:,} accesses")
    if output is not None:
        settings = {"rows": rows, "dim": DIM, "accesses": accesses, "alpha": alpha, "qps": qps}
        output.write_text(json.dumps({"benchmark": "partition_scale", **origin, **settings, **steps}, indent=1) + "\n")


def measure(folder: Path, rows: int, accesses: int, alpha: float, qps: float) -> dict[str, Any]:
    """Every step's time and memory, and the resulting partition."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scale_model.py").write_text(_FACTORY.format(rows=rows, dim=DIM, bag=BAG))
    trace_rows = math.ceil(accesses / BAG)
    with progress(f"Writing a trace of {trace_rows:,} rows", total=trace_rows) as advance:
        write_trace(folder / "trace.npz", rows, trace_rows, ids.Zipf(alpha), advance)
    build = ["build", "scale_model:model", "--name", NAME, "--max-batch-size", "256", "--tolerance", "1e-4", "-o"]  # sums of 128 rows
    partition = ["partition", "whole", "--access", "access.npz", "--qps", str(qps), "-o", "partition.json"]
    steps = {
        "build": [*build, "whole"],
        "access": ["access", "whole", "--trace", "trace.npz", "-o", "access.npz"],
        "partition": partition,
        "build --partition": [*build, "sharded", "--partition", "partition.json", "--access", "access.npz"],
    }
    measurements = []
    for step, arguments in steps.items():
        with progress(f"recsplit {step}"):
            peak = watched.recsplit(arguments, folder)
        measurements.append(
            {
                "step": step,
                "seconds": peak.seconds,
                "cpu_s": peak.cpu_s,
                "peak_anonymous_bytes": peak.anonymous_bytes,
                "peak_resident_bytes": peak.resident_bytes,
            }
        )
    shards = json.loads((folder / "partition.json").read_text())["shards"]
    sizes = {name: (folder / name).stat().st_size for name in ("trace.npz", "access.npz")}
    for name in ("whole", "sharded"):
        shutil.rmtree(folder / name)
    (folder / "trace.npz").unlink()
    return {"steps": measurements, "table_bytes": rows * DIM * 4, "file_bytes": sizes, "shards": shards}


def write_trace(path: Path, rows: int, trace_rows: int, law: ids.Skew, advance: Any) -> None:
    """A .npz with the input `ids`, INT32 [trace_rows, BAG], drawn by the law, written as it is drawn."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive, archive.open("ids.npy", "w", force_zip64=True) as member:
        header = {"descr": "<i4", "fortran_order": False, "shape": (trace_rows, BAG)}
        np.lib.format.write_array_header_1_0(member, header)
        for first in range(0, trace_rows, _CHUNK_ROWS):
            count = min(_CHUNK_ROWS, trace_rows - first)
            member.write(ids.draw(law, rows, count * BAG, rng).astype("<i4").tobytes())
            advance(count)


if __name__ == "__main__":
    command()
