"""Every published model of the zoo built, proved, served and profiled: `python -m recsplit_perf.benchmarks.zoo`.

Writes a table: what the model is (tables, bytes, MFLOP an item) and what it costs on this machine, as lines a + b * rows through the
measured latencies, with R2. One thread an instance, so that a line is that of one core.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from recsplit.capacity.profile import Fit
from recsplit.commands.output import progress, show_table
from recsplit.disk.files import size_text
from recsplit.errors import RecsplitError
from recsplit.proof import published
from recsplit.repository.find import find
from recsplit.zoo.catalogue.catalogue import CATALOGUE
from recsplit.zoo.catalogue.shapes import Published, scale_of
from recsplit_perf.machine import provenance
from recsplit_perf.profile import profiling

MAX_BATCH_SIZE = 512


@dataclass(frozen=True)
class Row:
    """One model. `error`: the largest relative difference of all comparisons, the served ones among them; fits are in ms against rows,
    of the whole as a client sees it and of each sub-model by the server's own clock."""

    model: str
    factory: str
    rows_scale: float
    tables: int
    size_bytes: int
    lookups: int
    mflop: float
    build_s: float
    comparisons: int
    error: float
    whole: Fit
    embedding: Fit
    dense: Fit


@click.command()
@click.option(
    "--model", "models", multiple=True, type=click.Choice(sorted(CATALOGUE)), help="One of the zoo; again for more.  [default: all]"
)
@click.option("--seconds", type=click.FloatRange(1), default=10.0, show_default=True, help="Each profile.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the table there, as Markdown.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="Write the result there.")
def command(models: Sequence[str], seconds: float, output: Path | None, as_json: Path | None) -> None:
    """Build, prove, serve and profile the published models."""
    origin, rows = provenance(), []
    for name in models or CATALOGUE:
        rows.append(measured(CATALOGUE[name], seconds))
        if as_json is not None:  # what there is, after each model
            result = {"benchmark": "zoo", **origin, "seconds": seconds, "models": [asdict(row) for row in rows]}
            as_json.write_text(json.dumps(result, indent=1) + "\n")
    if output is not None:
        output.write_text(markdown(rows, origin))
    show_table(("model", "whole, ms", "R2", "embedding, ms", "R2", "dense, ms", "R2"), [(row.model, *_lines(row)) for row in rows])


def measured(model: Published, seconds: float) -> Row:
    """Build, prove and profile one. Raises RecsplitError where a step fails or a comparison doesn't hold."""
    scale = scale_of(model, None)
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as folder:
        repository = Path(folder) / "repository"
        with progress(f"Building {model.name}"):
            build_s = build(model.factory, repository)
        with progress(f"Verifying {model.name}, served"):
            differences = published.verify(repository, served=True)
        wrong = [item for item in differences if not item.ok]
        if wrong:
            raise RecsplitError(
                f"{model.name} differs in {len(wrong)} of {len(differences)} comparisons", hint=f"recsplit verify {repository}"
            )
        with progress(f"Profiling {model.name}"):
            profile = profiling.measure(find(repository, None), seconds=seconds, rounds=3)
    return Row(
        model=model.name,
        factory=model.factory,
        rows_scale=scale,
        tables=model.table_count,
        size_bytes=model.size_bytes(scale),
        lookups=model.lookups,
        mflop=model.mflop,
        build_s=build_s,
        comparisons=len(differences),
        error=max(item.relative for item in differences),
        whole=profile.whole.fit,
        embedding=profile.part("embedding").alone.fit,
        dense=profile.part("dense").alone.fit,
    )


def build(factory: str, repository: Path) -> float:
    """`recsplit build`, as a user runs it; how long it took, s. Raises RecsplitError."""
    command = [sys.executable, "-m", "recsplit", "build", factory, "-o", str(repository)]
    command += ["--threads", "1", "--max-batch-size", str(MAX_BATCH_SIZE)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RecsplitError(f"{factory} can't be built", hint="its own words are above", detail=done.stderr)
    return time.perf_counter() - start


def markdown(rows: Sequence[Row], origin: dict[str, Any]) -> str:
    """The page docs/zoo_measured.md."""
    machine = origin["machine"]
    where = f"{machine['cores']} cores of {machine['cpu']}, commit {origin['commit'][:7]}"
    headings = ("model", "tables", "size", "lookups/item", "MFLOP/item", "build, s", "error", "whole a + b, R²", "embedding a + b, R²")
    lines = [
        "# The published models, measured",
        "",
        "Written by `python -m recsplit_perf.benchmarks.zoo -o docs/zoo_measured.md`; do not edit.",
        "",
        f"{len(rows)} models, each built at its default scale, proved, served on Triton, verified there over gRPC and HTTP, and profiled",
        f"with batches of 1 to {MAX_BATCH_SIZE} ({where}; one thread an instance). Latency = a + b * rows, in ms, by least",
        "squares through medians: of the whole as a client sees it, one query at a time, and of each sub-model by the server's clock.",
        "`error` is the largest relative difference of all comparisons with the source.",
        "",
        f"| {' | '.join(headings)} | dense a + b, R² |",
        f"| --- |{' ---: |' * 6}{' --- |' * 3}",
    ]
    for row in rows:
        cells = [row.model, row.tables, size_text(row.size_bytes), f"{row.lookups:,}", f"{row.mflop:.3g}", f"{row.build_s:.1f}"]
        cells += [f"{row.error:.0e}", *(f"{_line(fit)}, {fit.r2:.3f}" for fit in (row.whole, row.embedding, row.dense))]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _lines(row: Row) -> list[str]:
    return [text for fit in (row.whole, row.embedding, row.dense) for text in (_line(fit), f"{fit.r2:.3f}")]


def _line(fit: Fit) -> str:
    return f"{fit.a_ms:.3g} + {fit.b_ms:.3g}"


if __name__ == "__main__":
    command()
