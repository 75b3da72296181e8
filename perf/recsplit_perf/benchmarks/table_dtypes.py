"""The demo's ranker with its tables in fewer bits: size, error, AUC and speed. `python -m recsplit_perf.benchmarks.table_dtypes`.

Weights and labelled rows are what `recsplit demo` leaves in its folder. Every form is built fused, by `recsplit build --table-dtype` or
--table-budget, with --eval; all are loaded into one Triton, and perf_analyzer asks one after the other, in turns: ratios are medians
within a round. The same forms stand as ensembles of ONNX Runtime's, which is what a server without the engine runs.
"""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import click

import recsplit
from recsplit.building.build import Built
from recsplit.commands.output import progress, show_table
from recsplit.serving import serve
from recsplit_perf.machine import provenance
from recsplit_perf.perf_analyzer import input_data, perf_analyzer

SOURCE = "recsplit.zoo.ranker:clicks"
#: Of the FP32 tables' size.
BUDGETS = {"budget_3.5x": 3.5, "budget_5x": 5.0}
DTYPES = ("fp32", "fp16", "bf16", "int8", "int4")


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path(".demo"), show_default=True, help="What recsplit demo left.")
@click.option("--batch", type=int, default=512, show_default=True, help="Rows of a query.")
@click.option("--seconds", type=float, default=3.0, show_default=True, help="Each measurement.")
@click.option("--rounds", type=int, default=5, show_default=True, help="Measurements of each kind.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(folder: Path, batch: int, seconds: float, rounds: int, output: Path | None) -> None:
    """Measure what fewer bits save and cost."""
    origin = provenance()
    analyzer = perf_analyzer.find_or_install(progress)
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as temporary:
        repository = Path(temporary) / "models"
        with progress("Building"):
            built = {name: build(repository, folder, name, settings) for name, settings in forms().items()}
        data = Path(temporary) / "queries.json"
        input_data.write(data, built["fp32"].plan, input_data.entries_for(batch), seed=0)
        raw: dict[str, list[float]] = {name: [] for name in built}
        with serve(repository) as server, progress("Measuring", total=rounds * len(built)) as advance:
            for _ in range(rounds):
                for name in built:
                    measured = perf_analyzer.measure(
                        analyzer, url=server.grpc_url, model=name, batch=batch, load=1, data=data, seconds=seconds
                    )
                    raw[name].append(measured.rows_per_s)
                    advance(1)
    result = {
        "benchmark": "table_dtypes",
        **origin,
        "settings": {"source": SOURCE, "batch": batch, "seconds": seconds, "rounds": rounds},
        "forms": {name: row(built, raw, name) for name in built},
    }
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")
    columns = ("form", "stored", "MB", "smaller", "AUC change", "largest error", "rows/s", "over fp32")
    shown = [
        [
            name,
            " ".join(f"{table}={dtype}" for table, dtype in form["stored"].items()),
            form["size_bytes"] / 1e6,
            form["smaller"],
            form["auc_change"],
            form["largest"],
            form["rows_per_s"],
            form["over_fp32"],
        ]
        for name, form in result["forms"].items()
    ]
    show_table(columns, shown)


def forms() -> dict[str, dict[str, Any]]:
    """The builds by name, and the settings of each."""
    from recsplit.zoo.ranker import CLICKS

    size = 4 * CLICKS.dim * (CLICKS.users + CLICKS.segments + CLICKS.items + CLICKS.tags)
    engine: dict[str, dict[str, Any]] = {dtype: {"table_dtype": (dtype,), "form": "fused"} for dtype in DTYPES}
    engine |= {name: {"table_budget": int(size / times), "form": "fused"} for name, times in BUDGETS.items()}
    portable = {f"{dtype}_portable": {"table_dtype": (dtype,), "embedding_runtime": "onnxruntime"} for dtype in ("fp32", "int8", "int4")}
    return engine | portable


def build(repository: Path, folder: Path, name: str, settings: dict[str, Any]) -> Built:
    """One build of the trained ranker, with the accuracy on its held-out rows."""
    weights, rows = folder / "weights.safetensors", folder / "eval.npz"
    return recsplit.build(SOURCE, out=repository, name=name, weights=weights, evaluation=rows, search_s=1.0, **settings)


def row(built: dict[str, Built], raw: dict[str, list[float]], name: str) -> dict[str, Any]:
    """What one build is and does."""
    build, base = built[name], "fp32_portable" if name.endswith("portable") else "fp32"
    size = sum(table.size_bytes for table in build.plan.tables)
    quality = build.quality
    assert quality is not None
    return {
        "stored": {table.name: table.stored for table in build.plan.tables},
        "size_bytes": size,
        "smaller": round(sum(table.size_bytes for table in built["fp32"].plan.tables) / size, 3),
        "largest": max((loss.largest for loss in build.plan.losses), default=0.0),
        "rms_of_numbers": max((loss.rms / loss.rms_numbers for loss in build.plan.losses), default=0.0),
        "auc": quality.auc.exact,
        "auc_change": quality.auc.change,
        "auc_change_interval": [quality.auc.change_low, quality.auc.change_high],
        "proof": max(difference.relative for difference in build.differences),
        "rows_per_s": round(statistics.median(raw[name])),
        "over_fp32": round(statistics.median(one / other for one, other in zip(raw[name], raw[base], strict=True)), 3),
    }


if __name__ == "__main__":
    command()
