"""The policy variants: which variants of a model run, how many units of each, and their shares of the requests (InfAdapter).

The choice is recsplit.capacity.variants', exact for the load that is there or expected. Beyond the paper: units of one variant are sized
as servers behind one queue by Erlang's formula where a bound is known, not by a fixed share of what each sustains; a change is charged with
the cores that run twice; units come and go one by one, and the router's weights follow what serves (core/groups.py).
"""

import math
from collections.abc import Mapping, Sequence

from recsplit.capacity.variants import Choice, Objective, Size, Variant, choose
from recsplit.errors import InputError
from recsplit_controller.core.flow import USUAL_QUEUE
from recsplit_controller.core.group_flow import as_one, group_key
from recsplit_controller.core.groups import bounds_of, groups_of, idle
from recsplit_controller.core.load import DRAIN_S, Context
from recsplit_controller.core.policies.wishes import BUSIEST, aim_ms, room_ms
from recsplit_controller.core.queueing import most_arrivals
from recsplit_controller.values.decision import Wish
from recsplit_controller.values.settings import Settings, Target

#: What all cores of a group are worth in accuracy where nobody said: the paper's, and of one server, which has them anyway.
COST, COST_IN_SERVER = 0.05, 0.0001


def variants(context: Context) -> Mapping[str, Wish]:
    """What each target of each group is to have, and the router's weights. No wish for a group of which no load is known."""
    wishes: dict[str, Wish] = {}
    for group in groups_of(context.targets):
        assert group[0].group is not None  # `check` has seen to it
        flow = context.flows.get(group_key(group[0].group))
        if flow is None:
            continue
        delay_s = max(context.delay_s(target) for target in group)
        _, whole = as_one(group, context.observation)
        series, count = whole.of(group_key(group[0].group)), whole.count(group_key(group[0].group))
        if series.requests is None:
            continue
        backlog = max(0.0, (series.pending or 0.0) - USUAL_QUEUE * (count.serving or 1))
        expected = flow.steady * flow.expected if flow.expected > 1 else 0.0
        rate = max(flow.now, expected) + backlog / max(DRAIN_S, delay_s)
        cores = _cores(context.settings, group)
        hold_s = max(context.settings.downscale_delay_s, context.settings.interval_s)
        choice = choose(
            [_variant(context, target, delay_s) for target in group],
            rate,
            cores,
            Objective(cost=_cost(context.settings, group), loading=0.0, hold_s=hold_s),
        )
        source = "forecast" if expected > flow.now else "now"
        enough = "" if choice.enough else f"; no choice carries it on {cores:g} cores, so the one that carries most"
        wishes |= _wishes(group, choice, f"{rate:.1f}/s ({source}){enough}")
    return wishes


def check(targets: Sequence[Target]) -> None:
    """Raises InputError where the policy can't be used on these targets."""
    for target in targets:
        if target.group is None or target.accuracy is None or target.max_qps is None:
            lacks = "group" if target.group is None else "accuracy" if target.accuracy is None else "max_qps"
            raise InputError(
                f"the policy 'variants' needs {lacks} of {target.name!r}",
                hint="behind a router: recsplit route DIR --accuracy VARIANT=A --max-qps VARIANT=Q; else in the settings, for each target",
            )


def _cost(settings: Settings, group: Sequence[Target]) -> float:
    if settings.cores_cost is not None:
        return settings.cores_cost
    return COST_IN_SERVER if group[0].in_server else COST


def _cores(settings: Settings, group: Sequence[Target]) -> float:
    """What the group may use: its own bound, the server's, or what all of it may have."""
    bounds = [bounds_of(settings, group[0]).cores, settings.cores if group[0].in_server else None]
    known = [cores for cores in bounds if cores is not None]
    return min(known) if known else sum(target.cores * target.maximum for target in group)


def _variant(context: Context, target: Target, delay_s: float) -> Variant:
    assert target.max_qps is not None and target.accuracy is not None
    sizes = tuple(
        Size(count * target.cores, _carried(context.settings, target.max_qps, count), (count,))
        for count in range(max(1, target.minimum), target.maximum + 1)
    )
    count = context.count(target)
    present = 0.0 if idle(target, count) else (count.asked or 0) * target.cores
    return Variant(target.name, target.accuracy, sizes, delay_s, present, in_place=True)


def _carried(settings: Settings, max_qps: float, count: int) -> float:
    """Queries a second that so many units carry: within what the bound leaves for waiting, else by a share of what they sustain."""
    if settings.bound_ms is None:
        return settings.qps_share * max_qps * count
    service_s = 1 / max_qps
    wait_s = room_ms(aim_ms(settings), service_s, 1) / 1000
    return min(most_arrivals(count, service_s, wait_s, settings.percentile / 100), BUSIEST * count * max_qps)


def _wishes(group: Sequence[Target], choice: Choice, load: str) -> Mapping[str, Wish]:
    wishes = {}
    for target, chosen in zip(group, choice.chosen, strict=True):
        units = 0.0 if chosen.size is None else float(chosen.size.units[0])
        said = f"{load}: {chosen.share:.1%} of it" if chosen.share else f"{load}: for others"
        wishes[target.name] = Wish(units, said, 0.0 if math.isclose(chosen.share, 0, abs_tol=1e-9) else chosen.share)
    return wishes
