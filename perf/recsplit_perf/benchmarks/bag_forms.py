"""What the two forms of ragged bags cost: `python -m recsplit_perf.benchmarks.bag_forms`.

One table of 100,000 x 64, a sum over bags of 1024 rows, the embedding model in onnxruntime with one thread; padded and chunked in turns,
medians of `--rounds` runs. The lengths: even, one bag much longer than the rest, and lognormal.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recsplit.building.build import build
from recsplit.building.settings import BuildSettings
from recsplit.commands.output import progress, show_table
from recsplit.graph.lower.ragged_bags import BagForm
from recsplit.plan.files import MODEL_FILE
from recsplit.proof.parts import Array, Run, session
from recsplit.rendering.progress import in_silence
from recsplit_perf.machine import provenance

ROWS, DIM, BATCH = 100_000, 64, 1024
FORMS: tuple[BagForm, ...] = ("padded", "chunked")


class Bag(nn.Module):
    """The sum of a ragged bag of one table."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(ROWS, DIM, mode="sum")

    def forward(self, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """[batch, DIM] of ids [n] and offsets [batch]."""
        return torch.as_tensor(self.bag(ids, offsets))


def bag() -> tuple[nn.Module, tuple[torch.Tensor, ...], dict[str, dict[int, object]]]:
    """A factory for `recsplit build`."""
    varies = torch.export.Dim.AUTO
    return Bag(), (torch.arange(7), torch.tensor([0, 2, 3, 5])), {"ids": {0: varies}, "offsets": {0: varies}}


def lengths() -> dict[str, NDArray[np.int64]]:
    """Bag lengths [BATCH] by name."""
    rng = np.random.default_rng(0)
    even = rng.integers(0, 20, BATCH)
    skewed = np.minimum(rng.lognormal(2, 1.2, BATCH).astype(np.int64), 3000)
    return {"0 to 19": even, "one of 400": np.r_[even[1:], 400], "one of 4000": np.r_[even[1:], 4000], "lognormal": skewed}


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=15, show_default=True, help="Runs of each form and lengths.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there.")
def command(rounds: int, output: Path | None) -> None:
    """Time padded and chunked bags."""
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as folder, progress("Timing both forms"):
        runs = {form: _embedding(form, Path(folder)) for form in FORMS}
        lines = [_timed(name, counts, runs, rounds) for name, counts in lengths().items()]
    if output is not None:
        output.write_text(json.dumps({"benchmark": "bag_forms", **provenance(), "rounds": rounds, "lines": lines}, indent=1) + "\n")
    show_table(tuple(lines[0]), [list(line.values()) for line in lines], title=f"Bags of {BATCH} rows, ms")


def _embedding(form: BagForm, folder: Path) -> Run:
    built = build(
        BuildSettings(source=bag, out=folder / form, name="m", bag_form=form, search_s=0.0, embedding_runtime="onnxruntime"), in_silence
    )
    return session(built.repository / built.plan.embedding.name / str(built.plan.version) / MODEL_FILE)


def _timed(name: str, counts: NDArray[np.int64], runs: dict[BagForm, Run], rounds: int) -> dict[str, str | float]:
    ids = np.random.default_rng(1).integers(0, ROWS, (BATCH, int(counts.max())))
    inputs: dict[str, Array] = {"ids": ids, "lengths": counts.reshape(-1, 1)}
    times_ms: dict[BagForm, list[float]] = {form: [] for form in runs}
    for _ in range(rounds):
        for form, run in runs.items():
            began_s = time.perf_counter()
            run(inputs)
            times_ms[form].append(1e3 * (time.perf_counter() - began_s))
    medians: dict[str, float] = {form: round(statistics.median(times), 3) for form, times in times_ms.items()}
    skew = round(float(counts.max() / counts.mean()), 1)
    ratio = round(medians["padded"] / medians["chunked"], 2)
    return {"lengths": name, "longest over mean": skew, "padded": medians["padded"], "chunked": medians["chunked"], "ratio": ratio}


if __name__ == "__main__":
    command()
