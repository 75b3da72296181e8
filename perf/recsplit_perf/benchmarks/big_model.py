"""A model whose tables are larger than memory should need: written, built, served, and weighed on the way.

    python -m recsplit_perf.benchmarks.big_model --gb 10 --dir /tmp/big              # writes model.onnx and model.safetensors
    python -m recsplit_perf.benchmarks.big_model --gb 10 --dir /tmp/big --measure    # builds and serves what was written

It holds three times its size on the disk while measuring. Nothing is dropped from the page cache: builds and copies take
turns, so that both find the cache alike.
"""

import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from recsplit.commands.output import progress, show_table
from recsplit.disk.files import size_text
from recsplit.errors import RecsplitError
from recsplit.repository.find import find
from recsplit.serving import serve
from recsplit.zoo import big
from recsplit_perf.benchmarks.big_files import FACTORY, PAGE, table_bytes, write
from recsplit_perf.machine import provenance
from recsplit_perf.processes import kernel, watched
from recsplit_perf.traffic import closed_loop

#: Rows of the random block that every table repeats: a prime, so that no row boundary of a table falls on the block's.
INSTANCES = 4
NAME = "big"


@click.command()
@click.option("--gb", type=click.IntRange(1, 1000), default=10, show_default=True, help="Tables of 1 GB each.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), required=True, help="Where the model lies.")
@click.option("--measure", is_flag=True, help="Build and serve the model that lies there.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Builds and copies of each kind.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(gb: int, folder: Path, measure: bool, rounds: int, output: Path | None) -> None:
    """Write a DLRM with tables of many GB, or measure how it builds and serves."""
    if not measure:
        write(gb, folder)
        return
    for name in ("model.onnx", "model.safetensors"):
        if not (folder / name).is_file():
            raise click.BadParameter(f"{folder / name} is missing; write it first, without --measure", param_hint="--dir")
    try:
        result = {**provenance(), "table_bytes": table_bytes(gb), **measured(gb, folder, rounds)}
    except RecsplitError as error:
        raise click.ClickException("\n".join(text for text in (str(error), error.detail, f"Hint: {error.hint}") if text)) from error
    show(result)
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


def measured(gb: int, folder: Path, rounds: int) -> dict[str, Any]:
    """Builds from both sources against copies of the data, then memory while serving."""
    sources = {
        "onnx": (folder / "tables.bin", ["model.onnx"]),
        "safetensors": (folder / "model.safetensors", [f"{FACTORY}:dlrm", "--weights", "model.safetensors"]),
    }
    builds: dict[str, Any] = {}
    repository = folder / "repository"
    for name, (data, arguments) in sources.items():
        copies, synced, peaks = [], [], []
        for n in range(rounds):
            _remove(repository)
            with progress(f"{name}, round {n + 1}: cp {data.name}"):
                copied, flushed = _copy(data, folder / "copy")
            copies.append(copied)
            synced.append(copied + flushed)
            build = ["build", *arguments, "-o", "repository", "--name", NAME]
            with progress(f"{name}, round {n + 1}: recsplit build"):
                peaks.append(watched.recsplit([*build, "--embedding-instances", str(INSTANCES), "--threads", "1"], folder))
        builds[name] = {
            "seconds": [peak.seconds for peak in peaks],
            "copy_seconds": copies,
            "copy_and_sync_seconds": synced,
            "over_copy": statistics.median(peak.seconds / copy for peak, copy in zip(peaks, copies, strict=True)),
            "over_copy_and_sync": statistics.median(peak.seconds / copy for peak, copy in zip(peaks, synced, strict=True)),
            # The most of all rounds, not their median: this is the memory that a build must find.
            "peak_resident_bytes": max(peak.resident_bytes for peak in peaks),
            "peak_anonymous_bytes": max(peak.anonymous_bytes for peak in peaks),
        }
    served = _served(repository, gb)
    _remove(repository)
    return {"builds": builds, "served": served}


def _copy(data: Path, target: Path) -> tuple[float, float]:
    """Seconds that `cp` took, and that the kernel then took to bring the copy to the disk."""
    start = time.monotonic()
    subprocess.run(["cp", data, target], check=True)
    copied = time.monotonic()
    subprocess.run(["sync", target], check=True)
    flushed = time.monotonic()
    target.unlink()
    return copied - start, flushed - copied


def _remove(folder: Path) -> None:
    subprocess.run(["rm", "-rf", folder], check=True)


def _served(repository: Path, gb: int) -> dict[str, Any]:
    """Memory of the server's processes when it is ready, and after every instance has had the time to read every page."""
    plan = find(repository, NAME).plan
    with progress(f"Starting Triton with {INSTANCES} embedding instances"):
        server = serve(repository, ready_timeout_s=600)
    with server:
        before = pss(server.pid)
        queries = list(every_page(gb, plan.max_batch_size))
        with progress("Reading every page of every table, several times over"):
            result = closed_loop.run(
                server.grpc_url,
                NAME,
                queries,
                seconds=600,
                concurrency=2 * INSTANCES,
                max_requests=6 * INSTANCES * len(queries),
                timeout_s=60,
            )
        after = pss(server.pid)
    return {
        "instances": INSTANCES,
        "pss_bytes_when_ready": sum(before.values()),
        "pss_bytes": sum(after.values()),
        "pss_bytes_by_process": sorted(after.values(), reverse=True),
        "pss_over_tables": sum(after.values()) / table_bytes(gb),
        "requests": result.requests,
        "errors": dict(result.errors),
    }


def every_page(gb: int, batch: int) -> Iterator[closed_loop.Query]:
    """Queries whose ids together touch each page of each table once."""
    per_page = PAGE // (big.DIM * 4)
    ids = np.arange(0, big.ROWS, per_page, dtype=np.int64)
    per_query = batch * big.BAG
    ids = np.resize(ids, -(-len(ids) // per_query) * per_query)
    for part in ids.reshape(-1, batch, big.BAG):
        yield {"dense": np.zeros((batch, big.DENSE), dtype=np.float32), "ids": np.tile(part, gb)}


def pss(server: int) -> dict[int, int]:
    """Proportional set size of each process in the server's process group, in bytes."""
    return {pid: kernel.pss_bytes(pid) for pid in kernel.members(server)}


def show(result: dict[str, Any]) -> None:
    """The tables of a result."""
    columns = ("source", "build s", "cp s", "cp + sync s", "build / cp", "build / cp + sync", "peak RSS GB", "peak private GB")
    rows = [
        (
            name,
            statistics.median(build["seconds"]),
            statistics.median(build["copy_seconds"]),
            statistics.median(build["copy_and_sync_seconds"]),
            build["over_copy"],
            build["over_copy_and_sync"],
            build["peak_resident_bytes"] / 1e9,
            build["peak_anonymous_bytes"] / 1e9,
        )
        for name, build in result["builds"].items()
    ]
    show_table(columns, rows, title=f"Building {size_text(result['table_bytes'])} of tables")
    served = result["served"]
    show_table(
        ("instances", "PSS when ready GB", "PSS GB", "PSS / tables", "requests", "failed"),
        [
            (
                served["instances"],
                served["pss_bytes_when_ready"] / 1e9,
                served["pss_bytes"] / 1e9,
                served["pss_over_tables"],
                served["requests"],
                sum(served["errors"].values()),
            )
        ],
        title="Serving them",
    )


if __name__ == "__main__":
    command()
