"""recsplit's controller with its policy `variants` and its defaults, on replicas of a core that come and go one by one."""

from collections.abc import Sequence
from dataclasses import replace

from recsplit_controller.core.flow import Flow, remembered
from recsplit_controller.core.group_flow import group_key
from recsplit_controller.core.load import Context
from recsplit_controller.core.memory import Memory
from recsplit_controller.core.policies.variants import variants
from recsplit_controller.forecast import named
from recsplit_controller.simulated.play import controlled
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import GroupBounds, Settings
from recsplit_perf.benchmarks.infadapter.deployments import GROUP, part
from recsplit_perf.benchmarks.infadapter.inputs import BOUND_MS, CORES, Line, Slice, maxima
from recsplit_perf.benchmarks.infadapter.player import Player


def controller(
    lines: Sequence[Line], part_of_trace: Slice, cores_cost: float, forecaster: str = "last_max", *, in_place: bool = True
) -> Player:
    """The controller, which begins with what it chooses for the minute before. Not `in_place`: each core more takes as long as a new
    deployment."""
    settings = Settings(
        policy="variants",
        forecaster=forecaster,
        bound_ms=BOUND_MS,
        percentile=99,
        cores_cost=cores_cost,
        groups={GROUP: GroupBounds(cores=float(CORES))},
    )
    parts = [part(line.name, line, 0, 0.0, in_place=in_place) for line in lines]
    targets = tuple(each.target for each in parts)
    rate = float(part_of_trace.before[-60:].mean())
    models = {target.model: Series(requests=rate / len(targets), pending=0.0) for target in targets}
    seen = Observation(0.0, 0.0, "whole", models, {target.name: Count.steady(1) for target in targets})
    wishes = variants(Context(settings, targets, seen, {group_key(GROUP): Flow(rate, rate, queued=False)}))
    begun = [replace(each, count=int(wishes[each.target.name].units), weight=wishes[each.target.name].weight or 0.0) for each in parts]
    chosen = named(forecaster)
    memory = Memory(rates={group_key(GROUP): remembered(chosen, maxima(part_of_trace.before), part_of_trace.start_s // 60)})
    name = (
        f"recsplit, cost {cores_cost:g}" + ("" if forecaster == "last_max" else f", {forecaster}") + ("" if in_place else ", not in place")
    )
    return Player(name, controlled(settings, chosen, targets, memory), tuple(begun), round(settings.interval_s))
