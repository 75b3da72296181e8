"""Whether TensorRT takes the zoo's dense models: `make test-tensorrt`, or `python -m recsplit_perf.benchmarks.tensorrt_zoo --python P`.

Each model is built, and TensorRT for RTX, whose wheel parses and builds without a GPU, makes an engine of its dense model for batches of
1 to 64 rows. It runs in an environment of its own, P; its engines are thrown away, for Triton's TensorRT backend runs those of TensorRT
itself.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click

from recsplit.building.build import build
from recsplit.building.settings import BuildSettings
from recsplit.commands.output import progress, show_table
from recsplit.configs.tensorrt_shapes import shapes
from recsplit.errors import RecsplitError
from recsplit.rendering.progress import in_silence
from recsplit.zoo.catalogue.catalogue import CATALOGUE
from recsplit_perf.benchmarks.coverage import MODELS
from recsplit_perf.machine import provenance

LARGEST_BATCH = 64
#: Of the published tables: dense models are as published, and no table is read here.
ROWS_SCALE = "0.0001"


@click.command()
@click.option("--python", type=click.Path(exists=True, path_type=Path), required=True, help="The Python that has tensorrt-rtx-cu12.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(python: Path, output: Path | None) -> None:
    """Make TensorRT engines of the zoo's dense models."""
    os.environ.setdefault("RECSPLIT_ZOO_ROWS_SCALE", ROWS_SCALE)
    factories = [*MODELS, *(model.factory for model in CATALOGUE.values())]
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as folder:
        for factory in dict.fromkeys(factories):
            with progress(f"Building {factory}"):
                written(factory, Path(folder))
        with progress("Making engines"):
            lines = parsed(python, Path(folder))
    if output is not None:
        output.write_text(json.dumps({"benchmark": "tensorrt_zoo", **provenance(), "models": lines}, indent=1) + "\n")
    refused = [line for line in lines if line["problem"]]
    if refused:
        show_table(("model", "problem"), [(line["model"], line["problem"]) for line in refused], title="No engine")
    click.echo(f"{len(lines) - len(refused)} of {len(lines)} dense models parsed and built by TensorRT for RTX {lines[0]['version']}")
    raise SystemExit(bool(refused))


def written(factory: str, folder: Path) -> None:
    """Build a model under `folder`, and say beside it what shapes its dense model takes. Raises RecsplitError as build does."""
    name = factory.removeprefix("recsplit.zoo.").replace(":", ".")
    (folder / name).mkdir()
    settings = BuildSettings(source=factory, out=folder / name / "models", name="m", max_batch_size=LARGEST_BATCH, search_s=0.0)
    built = build(settings, in_silence)
    onnx = built.repository / built.plan.dense.name / str(built.plan.version) / "model.onnx"
    asked = {"onnx": str(onnx), "shapes": shapes(built.plan.dense, LARGEST_BATCH)}
    (folder / name / "shapes.json").write_text(json.dumps(asked))


def parsed(python: Path, folder: Path) -> list[dict[str, Any]]:
    """What TensorRT says of each. Raises RecsplitError where it ends without an answer."""
    done = subprocess.run([python, Path(__file__).with_name("tensorrt_parse.py"), folder], capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"model"')]
    if done.returncode != 0 or not lines:
        raise RecsplitError(
            "TensorRT's parser ended without an answer", hint=f"has {python} tensorrt-rtx-cu12?", detail=done.stderr[-2000:]
        )
    return lines


if __name__ == "__main__":
    command()
