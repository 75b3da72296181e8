"""The benchmark's command: tables on the terminal, the same as JSON after each model, as a page, and as docs/deeprecsys.md."""

import dataclasses
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from recsplit.capacity import ids
from recsplit.capacity.search import Throughput, figures
from recsplit.commands.output import progress, refuse_output, show_table
from recsplit.disk.files import whole_file
from recsplit.repository.find import find
from recsplit.tuning.climb import Climb
from recsplit.tuning.setting import Setting, Space, space_of
from recsplit.zoo.catalogue.catalogue import CATALOGUE, DEEPRECSYS
from recsplit_perf.benchmarks.deeprecsched import contents, curves, ours, paper, second
from recsplit_perf.machine import provenance
from recsplit_perf.profile import profiling
from recsplit_perf.report.markdown import markdown
from recsplit_perf.report.page import Page, origin, render

FILE = click.Path(path_type=Path)
MODELS = {name: model for name, model in CATALOGUE.items() if model.paper == DEEPRECSYS}
#: Those that go on real servers here: all layers, several scores, bags, attention.
LIVE = ("wide_and_deep", "multi_task_wide_and_deep", "dlrm_rmc1", "din")
TITLE = "DeepRecSched: how large a part of a query one core should take"
COMMAND = "python -m recsplit_perf.benchmarks.deeprecsched -o docs/deeprecsys.md"


@click.command()
@click.option("--model", "models", multiple=True, type=click.Choice(sorted(MODELS)), help="One of the eight; repeatable.  [default: all]")
@click.option("--served/--no-served", default=True, show_default=True, help=f"Real servers too, of {', '.join(LIVE)}.")
@click.option("--curve-seconds", type=click.FloatRange(0.1), default=15.0, show_default=True, help="PyTorch, each model.")
@click.option("--profile-seconds", type=click.FloatRange(1), default=15.0, show_default=True, help="The engine, each model.")
@click.option("--seconds", type=click.FloatRange(0.5), default=2.0, show_default=True, help="Each trial on a server.")
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Write docs/deeprecsys.md there.")
@click.option("--html", metavar="FILE", type=FILE, help="Write a page with plots there.")
@click.option("--json", "as_json", metavar="FILE", type=FILE, help="Write the numbers there, after each model.")
def command(
    models: Sequence[str],
    served: bool,
    curve_seconds: float,
    profile_seconds: float,
    seconds: float,
    output: Path | None,
    html: Path | None,
    as_json: Path | None,
) -> None:
    """DeepRecSched in the paper's setting, a threshold with a second target, the joint tuner, and real servers on this machine."""
    for path in (output, html, as_json):
        if path is not None:
            refuse_output(path)
    settings = {"curve_seconds": curve_seconds, "profile_seconds": profile_seconds, "seconds": seconds}
    result: dict[str, Any] = {"benchmark": "deeprecsched", **provenance(), "settings": settings, "models": []}
    for name in models or MODELS:
        result["models"].append(measured(name, served and name in LIVE, curve_seconds, profile_seconds, seconds))
        if as_json is not None:
            with whole_file(as_json) as file:
                file.write((json.dumps(result, indent=1) + "\n").encode())
    sections = contents.sections(result)
    for section in sections:
        if section.table is not None:
            show_table(section.table.columns, section.table.rows, title=section.title)
    facts = contents.facts(result)
    texts = {
        output: markdown(TITLE, COMMAND, facts, contents.LEAD, sections),
        html: render(Page(title=TITLE, subtitle="", facts=facts, sections=tuple(sections), origin=origin(result))),
    }
    for path, text in texts.items():
        if path is not None:
            with whole_file(path) as file:
                file.write(text.encode())


def measured(name: str, live: bool, curve_seconds: float, profile_seconds: float, seconds: float) -> dict[str, Any]:
    """All of one model, as plain values."""
    model = MODELS[name]
    bound_ms = model.p95_bound_ms
    assert bound_ms is not None, "DeepRecSys has a bound for each"
    sizes = paper.SIZES[paper.FIRST]
    with progress(f"{name}: PyTorch on one core"):
        core = curves.by_torch(model, curve_seconds)
    with progress(f"{name}: the paper's setting"):
        scheduled = paper.scheduled(core, bound_ms)
    summary: dict[str, Any] = {
        "model": name,
        "bound_ms": bound_ms,
        "torch": {"a_ms": core.fit.a_ms, "b_ms": core.fit.b_ms, "x": core.x, "median_ms": core.median_ms},
        "scheduled": [
            {"sizes": one.sizes, "bound_share": one.bound_share, "gain": one.gain, "static": vars(figures(one.static)), **_climb(one.climb)}
            for one in scheduled
        ],
    }
    with tempfile.TemporaryDirectory(prefix="recsplit-benchmark-") as folder:
        with progress(f"{name}: building"):
            build = find(ours.build_of(model.factory, Path(folder)))
        with progress(f"{name}: profiling"):
            profile = profiling.measure(build, seconds=profile_seconds, rounds=3, law=ids.Uniform())
        at_bound = next(one for one in scheduled if (one.sizes, one.bound_share) == (paper.FIRST, 1.0))
        with progress(f"{name}: a threshold"):
            bound = ours.workload_of(name, sizes, bound_ms).latency
            away = second.threshold(core, profile.whole, sizes, bound, at_bound.climb.best.value)
        summary["threshold"] = {"queries_away": away.queries_away, "rows_away": away.rows_away, **_climb(away.climb)}
        summary["forty_cores"] = []
        whole = Setting("fused", paper.CORES, 1, 1, ours.BATCHES[-1], 0)
        many = Space(("ensemble", "fused"), (10, 20, 40), (1, 2, 4), ours.BATCHES, (0, 500, 2000))
        for share in paper.BOUNDS:
            workload = ours.workload_of(name, sizes, share * bound_ms)
            with progress(f"{name}: all jointly on {paper.CORES} cores, {workload.latency.bound_ms:g} ms"):
                summary["forty_cores"].append({"bound_share": share, **_choice(ours.chosen(profile, workload, paper.CORES, whole, many))})
        summary["live"] = []
        for share in paper.BOUNDS if live else ():
            workload = ours.workload_of(name, sizes, share * bound_ms)
            present = Setting("ensemble", 1, 1, 1, ours.BATCHES[-1], 0)
            choice = ours.chosen(profile, workload, ours.CORES_HERE, present, space_of(build.plan, ours.CORES_HERE))
            settings = {
                "static": choice.static.setting,
                "climbed": dataclasses.replace(present, max_batch_size=choice.climb.best.value),
                "joint": choice.joint.setting,
            }
            rounds = ours.AGAIN if share == 1.0 else 1
            outcomes = ours.served(
                build, settings, workload, seconds=seconds, rounds=rounds, tell=lambda text: click.echo(f"  {name}: {text}", err=True)
            )
            summary["live"].append({"bound_share": share, **_choice(choice), "served": _served(outcomes)})
    return summary


def _served(outcomes: dict[str, list[Throughput]]) -> dict[str, Any]:
    rates = {name: [outcome.rate for outcome in throughputs] for name, throughputs in outcomes.items()}
    return {name: {"median": statistics.median(values), "rates": values} for name, values in rates.items()}


def _choice(choice: ours.Choice) -> dict[str, Any]:
    return {
        "static": {"setting": str(choice.static.setting), **vars(figures(choice.static.throughput))},
        "climbed": {"max_batch_size": choice.climb.best.value, **vars(figures(choice.climb.best.throughput))},
        "joint": {"setting": str(choice.joint.setting), **vars(figures(choice.joint.throughput))},
        "evaluations": choice.evaluations,
    }


def _climb(climbed: Climb) -> dict[str, Any]:
    return {
        "best": climbed.best.value,
        "rate": climbed.best.throughput.rate,
        "steps": [{"value": step.value, **vars(figures(step.throughput))} for step in climbed.steps],
    }


if __name__ == "__main__":
    command()
