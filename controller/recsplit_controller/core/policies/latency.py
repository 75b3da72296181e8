"""The policy latency: the ensemble's percentile within a share of the bound."""

from collections.abc import Mapping

from recsplit_controller.core.load import Context, Load, level_ms, load_of, wait_ms
from recsplit_controller.core.policies.wishes import BUSIEST, aim_ms, load_text, needed, room_ms
from recsplit_controller.core.queueing import least_units
from recsplit_controller.values.decision import Wish

#: Fewer units are wished for only if they would carry this many times the load too: counts are whole, and the load is noisy.
MARGIN = 1.2
#: Waiting is the cause of a long latency where it is at least this share of it.
CAUSE = 0.05


def latency(context: Context) -> Mapping[str, Wish]:
    """As many units as keep the ensemble's percentile within `bound_share` of the bound.

    Where it is not within, the target whose queue adds most to it gets more; the others keep up with what will reach them. Where it is,
    each may have as few as keep its wait within its part of what the bound leaves.
    """
    settings, level = context.settings, level_ms(context)
    aim = aim_ms(settings)
    if level is None:
        return {}
    entering, share = context.entering(), settings.percentile / 100
    loads = {target.name: load for target in context.targets if (load := load_of(context, target, entering)) is not None}
    waits = {target.name: wait_ms(context.observation.of(target.model)) for target in context.targets if target.name in loads}
    cause = max(waits, key=lambda name: waits[name], default=None)
    if cause is not None and (level <= aim or waits[cause] < CAUSE * level):
        cause = None
    service_s = sum(load.service_s for load in loads.values())
    wishes = {}
    for target in context.targets:
        load, count = loads.get(target.name), context.count(target)
        if load is None or count.asked is None:
            continue
        room = room_ms(aim, service_s, len(loads))
        enough = _enough(load, room, share, count.asked)
        level_text = f"p{settings.percentile} {level:.1f} ms, aimed at {aim:.1f} ms; " + load_text(load)
        if target.name == cause:
            # A queue that gets shorter is what too few units left behind, and those that run now are not.
            shrinks = context.flow(target).now < (context.observation.of(target.model).requests or 0.0)
            # Nor do those that are on their way: one more each tick would be asked for until they serve.
            units = max(enough + load.draining, count.asked + (0.0 if shrinks or count.coming else 1.0))
            why = ", which shrinks" if shrinks else "; units are on their way" if count.coming else ""
            wishes[target.name] = Wish(units, f"{level_text}; waits most: {waits[cause]:.1f} ms in its queue{why}")
        elif level > aim:
            wishes[target.name] = Wish(max(load.busy / BUSIEST, float(count.asked)), level_text + _other(cause))
        elif enough > count.asked and not load.forecast and not load.backlog:
            wishes[target.name] = Wish(float(count.asked), level_text + "; the latency is measured and good, so as it is")
        else:
            wishes[target.name] = Wish(enough, f"{level_text}; a wait of up to {room:.1f} ms may be had")
    return wishes


def _enough(load: Load, room: float, share: float, count: int) -> float:
    """As many units as the load needs; the present count where fewer would barely do."""
    least = needed(load, room, share)
    if least < count:
        least = max(least, min(float(count), least_units(MARGIN * load.arrivals, load.service_s, room / 1000, share)))
    return least


def _other(cause: str | None) -> str:
    return "; no queue causes it, and more units would not help" if cause is None else f"; {cause} causes it"
