"""Policies: from what is known to how many units each target should have. Pure functions, and the table of them.

A target that is absent from a policy's answer: no opinion, since what it needs isn't known; the guard then holds it.
"""

from collections.abc import Callable, Mapping

from recsplit.errors import InputError
from recsplit_controller.core.load import Context, Load, level_ms, load_of, wait_ms
from recsplit_controller.core.queueing import least_units
from recsplit_controller.values.decision import Wish
from recsplit_controller.values.settings import Settings

Policy = Callable[[Context], Mapping[str, Wish]]

#: A backlog is to be gone in this time.
DRAIN_S = 10.0
#: What is asked for without knowing better is no more than this many times the present count; the guard's steps are smaller.
MOST_RATIO = 100.0
#: A unit is not planned to be busier than this: beyond, a queue grows by chance alone.
BUSIEST = 0.85
#: Fewer units are wished for only if they would carry this many times the load too: counts are whole, and the load is noisy.
MARGIN = 1.2
#: Waiting is the cause of a long latency where it is at least this share of it.
CAUSE = 0.05


def utilization(context: Context) -> Mapping[str, Wish]:
    """As many units as keep each of them busy for `busy_share` of the time, and more where a queue has to be worked off."""
    entering = context.entering()
    wishes = {}
    for target in context.targets:
        load = load_of(context, target, entering)
        if load is not None:
            units = load.busy / context.settings.busy_share + load.backlog * load.service_s / DRAIN_S
            wishes[target.name] = Wish(units, _said(load) + f", aimed at {context.settings.busy_share:.0%} busy{_queue(load)}")
    return wishes


def latency(context: Context) -> Mapping[str, Wish]:
    """As many units as keep the ensemble's percentile within `bound_share` of the bound.

    Where it is not within, the target whose queue adds most to it gets more; the others keep up with what will reach them. Where it is,
    each may have as few as keep its wait within its part of what the bound leaves.
    """
    settings, level = context.settings, level_ms(context)
    aim = _aim_ms(settings)
    if level is None:
        return {}
    entering, share = context.entering(), settings.percentile / 100
    loads = {target.name: load for target in context.targets if (load := load_of(context, target, entering)) is not None}
    waits = {target.name: wait_ms(context.observation.of(target.model)) for target in context.targets if target.name in loads}
    cause = max(waits, key=lambda name: waits[name], default=None)
    if cause is not None and (level <= aim or waits[cause] < CAUSE * level):
        cause = None
    serving_ms = 1000 * sum(load.service_s for load in loads.values())
    wishes = {}
    for target in context.targets:
        load, count = loads.get(target.name), context.count(target)
        if load is None or count is None:
            continue
        room_ms = max(aim - serving_ms, aim / 10) / len(loads)
        needed = _needed(load, room_ms, share, count)
        told = f"p{settings.percentile} {level:.1f} ms, aimed at {aim:.1f} ms; " + _said(load)
        if target.name == cause:
            # A queue that gets shorter is what too few units left behind, and those that run now are not.
            shrinks = context.flow(target).now < (context.observation.of(target.model).requests or 0.0)
            units = max(needed + load.backlog * load.service_s / DRAIN_S, count + (0.0 if shrinks else 1.0))
            wishes[target.name] = Wish(units, f"{told}; waits most: {waits[cause]:.1f} ms in its queue{', which shrinks' * shrinks}")
        elif level > aim:
            wishes[target.name] = Wish(max(load.busy / BUSIEST, float(count)), told + _other(cause))
        elif needed > count and not load.forecast and not load.backlog:
            wishes[target.name] = Wish(float(count), told + "; the latency is measured and good, so as it is")
        else:
            wishes[target.name] = Wish(needed, f"{told}; a wait of up to {room_ms:.1f} ms may be had")
    return wishes


def elasticrec(context: Context) -> Mapping[str, Wish]:
    """ElasticRec's pair: lookups by the most queries that a unit sustains, the dense model by latency against a share of the bound."""
    settings, level, entering = context.settings, level_ms(context), context.entering()
    aim = _aim_ms(settings)
    wishes = {}
    for target in context.targets:
        load, count = load_of(context, target, entering), context.count(target)
        if target.role in ("embedding", "shard"):
            if load is None:
                continue
            # A unit that was never measured sustains what keeps it busy all the time.
            units = load.busy if target.max_qps is None else load.arrivals / target.max_qps
            most = "as many as it takes" if target.max_qps is None else f"{target.max_qps:.1f}/s"
            said = f"{_said(load)}, a unit sustains {most}, {settings.qps_share:.0%} of it used"
            wishes[target.name] = Wish(units / settings.qps_share, said)
        elif level is not None and count is not None:
            ratio = min(level / aim, MOST_RATIO)
            # Without a forecast: latency says nothing of the load that the present count would carry.
            said = f"p{settings.percentile} {level:.1f} ms, aimed at {aim:.1f} ms ({settings.bound_share:.0%} of the bound)"
            wishes[target.name] = Wish(count * ratio, said)
    return wishes


def _needed(load: Load, room_ms: float, share: float, count: int) -> float:
    """The fewest units with which `share` of the requests wait no longer than that; the present count where fewer would barely do."""
    least = float(least_units(load.arrivals, load.service_s, room_ms / 1000, share))
    if least < count:
        least = min(float(count), least_units(MARGIN * load.arrivals, load.service_s, room_ms / 1000, share))
    return max(least, load.busy / BUSIEST)


POLICIES: Mapping[str, Policy] = {"utilization": utilization, "latency": latency, "elasticrec": elasticrec}


def policy_of(settings: Settings) -> Policy:
    """The policy that the settings name. Raises InputError where there is none of that name, or where it lacks a setting."""
    if settings.policy not in POLICIES:
        raise InputError(f"there is no policy {settings.policy!r}", hint=f"choose one of {', '.join(POLICIES)}")
    if settings.policy != "utilization":
        _aim_ms(settings)
    return POLICIES[settings.policy]


def _aim_ms(settings: Settings) -> float:
    if settings.bound_ms is None:
        raise InputError(f"the policy {settings.policy!r} needs bound_ms", hint="what the percentile must stay within, as in bound_ms = 25")
    return settings.bound_share * settings.bound_ms


def _said(load: Load) -> str:
    if load.arrivals <= 0:
        return "no requests"
    source = "forecast" if load.forecast else "now"
    return f"{load.arrivals:.1f}/s ({source}) of {1000 * load.service_s:.2f} ms"


def _queue(load: Load) -> str:
    return f", {load.backlog:.0f} too many in the queue" if load.backlog else ""


def _other(cause: str | None) -> str:
    return "; no queue causes it, and more units would not help" if cause is None else f"; {cause} causes it"
