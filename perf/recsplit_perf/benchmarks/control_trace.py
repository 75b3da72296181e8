"""A trace of requests per second under the controller, Kubernetes' autoscaler, and counts that stay: `python -m
recsplit_perf.benchmarks.control_trace TRACE`.

A simulated group of instances, query by query (recsplit_controller.simulated.plant). What a rule costs is the instance-seconds,
those of instances that still start among them; what it is worth, the share of queries within the bound. Each rule is played with
several aims, so that misses can be compared at equal cost: those of another rule are interpolated between its own aims, in the
logarithm.
"""

import dataclasses
import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from recsplit.capacity import autoscale
from recsplit.commands.output import progress, show_table
from recsplit_controller.core.memory import Arrival, Memory
from recsplit_controller.forecast import named, trace, training
from recsplit_controller.simulated import backtest
from recsplit_controller.simulated.backtest import Test
from recsplit_controller.simulated.plant import Plant
from recsplit_controller.simulated.play import Acting, Played, controlled, fixed
from recsplit_controller.simulated.station import Units
from recsplit_controller.values.decision import Action
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Settings, Target
from recsplit_perf.machine import provenance

TARGET = Target("group", "group", "dense", "replica", maximum=40)
SERVICE_S, BOUND_MS = 0.04, 200.0
#: How an instance comes: into a running Triton, or as a pod with a server of its own (the readiness that seeds.md's reproduction took).
IN_PLACE, POD = Units(SERVICE_S, start_s=1.0), Units(SERVICE_S, start_s=10.0, blocks=False)
WAYS_TO_COME = {"in place": IN_PLACE, "pod": POD}
#: The controller's policy, forecaster and aim; the whole trace with the first, which are the defaults but for the aim.
WAYS = (
    ("utilization", "seasonal", 0.55),
    ("utilization", "last_max", 0.55),
    ("utilization", "seasonal", 0.7),
    ("utilization", "last_max", 0.4),
    ("latency", "seasonal", 0.3),
)
#: Pods that take as long to serve, under every policy with the controller's defaults.
PODS = {f"pod of {seconds} s": Units(SERVICE_S, start_s=float(seconds), blocks=False) for seconds in (10, 60, 300)}
POLICIES = (("utilization", "seasonal"), ("utilization", "last_max"), ("latency", "seasonal"), ("elasticrec", "seasonal"))
PARTS = ("slice", "whole", "pods", "forecasters")
OTHER_AIMS = (0.4, 0.52, 0.68)
STATIC, STATIC_OF_WHOLE = (5, 6, 7, 8, 9, 10, 11, 12, 13), (5, 6, 7, 9, 11, 13)
#: Kubernetes looks every 15 s.
SYNC_S = 15
DAY_S = 86_400
#: InfAdapter's slice: day 15, minutes 82 to 103.
SLICE_S = (15 * DAY_S + 82 * 60, 15 * DAY_S + 103 * 60)
KUBERNETES = {"hpa on queries": "qps", "hpa on busy share": "busy"}
COLUMNS = (
    "rule",
    "instances come",
    "aim",
    "misses",
    "miss share",
    "mean instances",
    "misses of hpa on queries",
    "of hpa on busy share",
    "static",
)


@click.command()
@click.argument("path", metavar="TRACE", type=click.Path(path_type=Path))
@click.option("--part", type=click.Choice(PARTS), default=PARTS[0], show_default=True, help="What to play.")
@click.option("--days", type=click.IntRange(1), help="Of the whole trace, the first so many; of the forecasters' part, after day 14.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the result there, beside the parts that it holds.")
def command(path: Path, part: str, days: int | None, output: Path | None) -> None:
    """Misses and instance-seconds of the controller against Kubernetes' rule and static counts, on a trace."""
    origin = provenance()
    rates = trace.read(path)
    settings = {"service_s": SERVICE_S, "bound_ms": BOUND_MS, "trace": path.name, "days": days}

    def keep(rows: list[dict[str, Any]]) -> None:
        if output is not None:
            known: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {"benchmark": "control_trace", "parts": {}}
            known["parts"][part] = {**origin, "settings": settings, "rows": rows}
            output.write_text(json.dumps(known, indent=1) + "\n")

    if part == "forecasters":
        first_s = 14 * DAY_S
        end_s = len(rates) if days is None else first_s + days * DAY_S
        rows = forecasters(rates[:end_s], first_s // 60)
        show_table(tuple(rows[0]), [list(row.values()) for row in rows], title="Forecasters")
    elif part == "pods":
        rows = pods(rates[: SLICE_S[1]], SLICE_S[0] // 60)
        show_table(tuple(rows[0]), [list(row.values()) for row in rows], title="Pods that take long to serve")
    else:
        start_s, end_s = SLICE_S if part == "slice" else (60, len(rates) if days is None else days * DAY_S)
        ways, static = (WAYS[:1], STATIC_OF_WHOLE) if part == "whole" else (WAYS, STATIC)
        rows = rules(rates[:end_s], start_s // 60, ways, static, keep)
        show_table(COLUMNS, [[row.get(column) for column in COLUMNS] for row in rows], title=f"{part}: bound {BOUND_MS:g} ms")
    keep(rows)


def rules(
    rates: Any, first: int, ways: Sequence[tuple[str, str, float]], static: Sequence[int], keep: Callable[[list[dict[str, Any]]], None]
) -> list[dict[str, Any]]:
    """Every rule in every way that instances come, on the periods from number `first` on; the controller's rows with the others' misses.

    `keep` is given the rows so far after each run: the whole trace takes a while.
    """
    tests = {name: Test(rates, first, Settings(), units, TARGET, BOUND_MS) for name, units in WAYS_TO_COME.items()}
    seconds = len(rates) // 60 * 60 - first * 60
    rows: list[dict[str, Any]] = []

    def played(name: str, come: str, aim: float, run: Callable[[Callable[[int], None]], Played]) -> None:
        with progress(f"{name}, {come}, {aim:g}", seconds) as advance:
            rows.append(row(name, come, aim, run(advance)))
        for one in rows:
            if one["rule"].startswith("controller"):
                for other, column in zip((*KUBERNETES, "static"), COLUMNS[-3:], strict=True):
                    one[column] = at_cost([run_row for run_row in rows if run_row["rule"] == other], one)
        keep(rows)

    for come, test in tests.items():
        for policy, forecaster, aim in ways:
            settings = Settings(policy=policy, forecaster=forecaster, bound_ms=BOUND_MS, busy_share=aim, bound_share=aim)
            memory = backtest.primed(named(forecaster), TARGET, test.maxima()[:first])
            rule = controlled(settings, named(forecaster), (TARGET,), memory)
            played(f"controller, {policy}, {forecaster}", come, aim, partial(test.play, rule))
        for name, signal in KUBERNETES.items():
            for aim in OTHER_AIMS:
                played(name, come, aim, partial(test.play, kubernetes(aim, signal), interval_s=SYNC_S))
    for count in static:
        played("static", "never", count, partial(tests["pod"].play, fixed, count=count, interval_s=60))
    return rows


def pods(rates: Any, first: int) -> list[dict[str, Any]]:
    """The slice on pods that take long to serve: every policy by its defaults, without a forecast, and with what was asked for taken for
    what serves, as status.replicas has it; and Kubernetes' rule, every 15 s and as often as the controller."""
    rows: list[dict[str, Any]] = []

    def add(rule: str, come: str, aim: float, played: Played, of: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        shown = row(rule, come, aim, played) | {"most instances": int(played.units.max())}
        curve = sorted((one["mean instances"], one["misses"]) for one in of)
        shown["misses of hpa at that cost"] = interpolated(curve, shown["mean instances"]) if curve else None
        rows.append(shown)
        return shown

    for come, units in PODS.items():
        test = Test(rates, first, Settings(bound_ms=BOUND_MS), units, TARGET, BOUND_MS)
        with progress(f"{come}: Kubernetes"):
            hpa = [
                add(f"hpa on queries, every {every} s", come, aim, test.play(kubernetes(aim, "qps", every), interval_s=every))
                for every in (SYNC_S, round(Settings().interval_s))
                for aim in OTHER_AIMS
            ]
        for policy, forecaster in POLICIES:
            for merged in (False, True):
                settings = Settings(policy=policy, forecaster=forecaster, bound_ms=BOUND_MS)
                rule = controlled(settings, named(forecaster), (TARGET,), _known(forecaster, test, first, units))
                name = f"controller, {policy}, {forecaster}{', counts merged' if merged else ''}"
                with progress(f"{come}: {name}"):
                    played = test.play(merging(rule) if merged else rule)
                aim = settings.busy_share if policy == "utilization" else settings.bound_share
                add(name, come, aim, played, [one for one in hpa if f"every {SYNC_S} s" in one["rule"]])
    return rows


def _known(forecaster: str, test: Test, first: int, units: Units) -> Memory:
    """What a controller knows that has run for a while: what came, and how long a pod takes."""
    memory = backtest.primed(named(forecaster), TARGET, test.maxima()[:first])
    return dataclasses.replace(memory, arrivals={TARGET.name: Arrival(start_s=units.start_s)})


def merging(rule: Acting) -> Acting:
    """The rule as it was with one count, of units that serve or start."""

    class Merged(Plant):
        def counts(self) -> Mapping[str, Count]:
            return {name: Count.steady(count.asked) for name, count in super().counts().items()}

    def act(plant: Plant, at_s: float) -> None:
        plant.__class__ = Merged
        rule(plant, at_s)

    return act


def row(rule: str, come: str, aim: float, played: Played) -> dict[str, Any]:
    """A run as plain numbers."""
    shares: dict[str, float] = {"misses": played.misses, "miss share": played.miss_share, "mean instances": played.mean_units}
    return {"rule": rule, "instances come": come, "aim": aim, "queries": played.queries, **shares, "instance seconds": played.unit_s}


def at_cost(others: Sequence[dict[str, Any]], one: dict[str, Any]) -> str | None:
    """The misses of another rule at the cost of a run, in each way that its instances come; None where its aims don't reach that cost."""
    texts = []
    for come in dict.fromkeys(other["instances come"] for other in others):
        curve = sorted((other["mean instances"], other["misses"]) for other in others if other["instances come"] == come)
        misses = interpolated(curve, one["mean instances"])
        texts.append(f"{come} {'-' if misses is None else f'{misses:.0f}'}")
    return ", ".join(texts)


def interpolated(curve: Sequence[tuple[float, float]], cost: float) -> float | None:
    """Misses at a cost on a curve of (cost, misses), linear in the logarithm of misses; None outside of it."""
    costs, misses = zip(*curve, strict=True)
    if not costs[0] <= cost <= costs[-1]:
        return None
    return float(math.expm1(np.interp(cost, costs, np.log1p(misses))))


def kubernetes(aim: float, signal: str, sync_s: int = SYNC_S) -> Acting:
    """The autoscaler's rule of autoscaling/v2 (recsplit.capacity.autoscale) with its defaults, on queries that come, over 30 s, or on busy
    instances, over the same window as the controller. `aim` of an instance is to be used."""
    rule = autoscale.ScalingRule("qps", aim, most=TARGET.maximum, sync_s=float(sync_s))
    recommended: list[int] = []

    def act(plant: Plant, at_s: float) -> None:
        busy = plant.came(rule.window_s) * SERVICE_S if signal == "qps" else plant.observe(at_s).of(TARGET.model).busy
        if busy is None:
            return
        present = plant.asked()
        recommended.append(autoscale.replicas_asked(present, present, busy, rule))
        after = autoscale.step(present, recommended[-(int(rule.settle_s / rule.sync_s) + 1) :], rule)
        if after != present:
            plant.begin(Action("scale", TARGET.name, after, at_s, "as Kubernetes would"))

    return act


def forecasters(rates: Any, first: int) -> list[dict[str, Any]]:
    """Forecasters, errors and misses: alone and in the controller, and what the last maximum misses at the same cost."""
    tests = {name: Test(rates, first, Settings(busy_share=0.55), units, TARGET, BOUND_MS) for name, units in WAYS_TO_COME.items()}
    pod = tests["pod"]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "lstm.safetensors"
        with progress("Training an LSTM"):
            weights.write_bytes(training.packed(training.train(pod.maxima()[:first], batch=256)))
        return _forecasters(rates, first, tests, ("last_max", "ewm", "holt", "seasonal", f"lstm:{weights}"))


def _forecasters(rates: Any, first: int, tests: Mapping[str, Test], names: Sequence[str]) -> list[dict[str, Any]]:
    pod = tests["pod"]
    curves = {come: _last_max(rates, first, units) for come, units in WAYS_TO_COME.items()}
    rows: list[dict[str, Any]] = []
    for name in names:
        with progress(f"Playing {name}"):
            said = pod.forecasts(named(name))
            forecast_errors = backtest.errors(said, pod.maxima()[first:])
            alone = pod.by_plan(said)
            played = {come: test.by_controller(name) for come, test in tests.items()}
        shown: dict[str, Any] = {
            "forecaster": name.split(":")[0],
            "error": forecast_errors.error,
            "short": forecast_errors.short,
            "over": forecast_errors.over,
        }
        shown |= {"periods > 10 % short": forecast_errors.short_share, "alone: misses": alone.misses, "alone: instances": alone.mean_units}
        for come, run in played.items():
            equal = interpolated(curves[come], run.mean_units)
            shown |= {f"{come}: misses": run.misses, f"{come}: instances": run.mean_units, f"{come}: last_max at that cost": equal}
        rows.append(shown)
    oracle = pod.by_plan(pod.maxima()[first:])
    zeros = dict.fromkeys(list(rows[0])[1:5], 0.0) | dict.fromkeys(list(rows[0])[7:], None)
    rows.append({"forecaster": "oracle", **zeros, "alone: misses": oracle.misses, "alone: instances": oracle.mean_units})
    return [{key: row[key] for key in rows[0]} for row in rows]


def _last_max(rates: Any, first: int, units: Units) -> list[tuple[float, float]]:
    """Cost and misses of the last maximum at several aims."""
    with progress("Playing last_max at several aims"):
        runs = [Test(rates, first, Settings(busy_share=aim), units, TARGET, BOUND_MS).by_controller("last_max") for aim in (0.4, 0.5, 0.6)]
    return sorted((run.mean_units, float(run.misses)) for run in runs)


if __name__ == "__main__":
    command()
