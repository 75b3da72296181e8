"""How near a tenth of the evaluations comes to an exhaustive grid: `python -m recsplit_perf.benchmarks.tuner`.

Every setting of `recsplit tune`'s space on four cores is simulated, from profiles of three models of the zoo; then the searchers ask the
same simulator: the joint search (20 seeds, a tenth of the grid each), DeepRecSched's climb, and NVIDIA's Model Analyzer's quick search.
"""

import dataclasses
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from recsplit.capacity import ids
from recsplit.capacity.search import Throughput
from recsplit.commands.output import progress, refuse_output, show_table
from recsplit.disk.files import whole_file
from recsplit.repository.find import find
from recsplit.tuning.climb import climb
from recsplit.tuning.joint import joint
from recsplit.tuning.setting import Setting, Space, space_of
from recsplit.tuning.simulated import evaluator
from recsplit.zoo.catalogue.catalogue import CATALOGUE
from recsplit_perf.benchmarks.deeprecsched.ours import build_of, workload_of
from recsplit_perf.benchmarks.deeprecsched.paper import SIZES
from recsplit_perf.machine import provenance
from recsplit_perf.profile import profiling

#: All lookups, all layers, all overhead.
MODELS = ("dlrm_rmc1", "wide_and_deep", "ncf")
CORES = 4
SEEDS = 20
#: Of a model's own bound, which the fastest settings then keep at some rate.
QUERIES = 6_000


@click.command()
@click.option("--model", "models", multiple=True, type=click.Choice(sorted(CATALOGUE)), default=MODELS, show_default=True)
@click.option("--profile-seconds", type=click.FloatRange(1), default=15.0, show_default=True, help="Each model.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there, after each model.")
def command(models: Sequence[str], profile_seconds: float, output: Path | None) -> None:
    """Compare searchers with an exhaustive grid, by the simulator."""
    if output is not None:
        refuse_output(output)
    result: dict[str, Any] = {"benchmark": "tuner", **provenance(), "cores": CORES, "seeds": SEEDS, "models": []}
    for name in models:
        result["models"].append(measured(name, profile_seconds))
        if output is not None:
            with whole_file(output) as file:
                file.write((json.dumps(result, indent=1) + "\n").encode())
    columns = ("model", "settings", "best", "joint: asked", "median", "least", "climb: asked", "of the best", "quick: asked", "of the best")
    show_table(
        columns, [_row(one) for one in result["models"]], title=f"Queries/s of the best setting found, of the grid's best; {CORES} cores"
    )


def measured(name: str, seconds: float) -> dict[str, Any]:
    """One model: its grid, and what each searcher found of it."""
    model = CATALOGUE[name]
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as folder:
        with progress(f"{name}: building"):
            build = find(build_of(model.factory, Path(folder)))
        with progress(f"{name}: profiling"):
            profile = profiling.measure(build, seconds=seconds, rounds=3, law=ids.Uniform())
        space, present = space_of(build.plan, CORES), Setting("ensemble", 1, 1, 1, build.plan.max_batch_size, 0)
    evaluate = evaluator(profile, workload_of(name, SIZES["lognormal"], model.p95_bound_ms or 400.0), CORES, queries=QUERIES)
    with progress(f"{name}: {len(space)} settings", total=len(space)) as advance:
        grid: dict[Setting, Throughput] = {}
        for setting in space.grid():
            grid[setting] = evaluate(setting)
            advance(1)
    best = max(throughput.rate for throughput in grid.values())
    asked = len(space) // 10
    reached = [
        max(one.throughput.rate for one in joint(space, grid.__getitem__, start=[present], trials=asked, seed=seed)) / best
        for seed in range(SEEDS)
    ]
    climbed = climb(space.batches, lambda batch: grid[dataclasses.replace(present, max_batch_size=batch)])
    quick = quick_search(space, grid)
    winner = max(grid, key=lambda setting: grid[setting].rate)
    return {
        "model": name,
        "settings": len(space),
        "best": best,
        "best_setting": str(winner),
        "joint": {"asked": asked, "median": statistics.median(reached), "least": min(reached), "reached": reached},
        "climb": {"asked": len(climbed.steps), "reached": climbed.best.throughput.rate / best},
        "quick": {"asked": len(quick), "reached": max(grid[setting].rate for setting in quick) / best},
    }


def quick_search(space: Space, grid: Mapping[Setting, Throughput]) -> list[Setting]:
    """The settings that Model Analyzer's quick search asks for, as its documentation and sources (1.58) describe it, rebuilt.

    Each model's instances and largest batch, both from the smallest on; threads, delay and form as they are (it doesn't search them). From
    the present place the neighbours that differ by a step are measured, and the best one is the next place, until none is better. Its
    first, larger steps are left out: they only come sooner to where these end.
    """
    asked: dict[Setting, float] = {}

    def rate(place: tuple[int, ...]) -> float:
        instances, dense, batch = place
        setting = Setting("ensemble", space.instances[instances], space.instances[dense], 1, space.batches[batch], 0)
        asked[setting] = grid[setting].rate
        return asked[setting]

    here: tuple[int, ...] = (0, 0, 0)
    limits = (len(space.instances), len(space.instances), len(space.batches))
    while True:
        around = [
            tuple(value + (step if axis == place else 0) for place, value in enumerate(here)) for axis in range(3) for step in (-1, 1)
        ]
        inside = [place for place in around if all(0 <= value < limit for value, limit in zip(place, limits, strict=True))]
        best = max((here, *inside), key=rate)
        if best == here:
            return list(asked)
        here = best


def _row(one: Mapping[str, Any]) -> list[str | int | float | None]:
    joint_, climb_, quick = one["joint"], one["climb"], one["quick"]
    cells: list[str | int | float | None] = [one["model"], one["settings"], one["best"], joint_["asked"], joint_["median"], joint_["least"]]
    return [*cells, climb_["asked"], climb_["reached"], quick["asked"], quick["reached"]]


if __name__ == "__main__":
    command()
