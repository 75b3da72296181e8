"""The policy elasticrec: lookups by the queries that a unit sustains, the dense model by latency (ElasticRec, section IV).

Beyond the paper: by latency no more is wished for than the load could make use of, and nothing twice for one and the same delay. A
percentile of the last minute is high for as long as units start and for a minute more, and its ratio to the bound would be applied
again and again: with pods of 60 s a load that needs 7 of them got 32 (docs/decisions/0020).
"""

from collections.abc import Mapping

from recsplit_controller.core.load import Context, Load, level_ms, load_of
from recsplit_controller.core.policies.wishes import aim_ms, load_text, needed, room_ms
from recsplit_controller.values.decision import Wish
from recsplit_controller.values.observation import Count

#: What is asked for without knowing better is no more than this many times the present count; the guard's steps are smaller.
MOST_RATIO = 100.0


def elasticrec(context: Context) -> Mapping[str, Wish]:
    """ElasticRec's pair: lookups by the most queries that a unit sustains, the dense model by latency against a share of the bound."""
    settings, level, entering = context.settings, level_ms(context), context.entering()
    aim = aim_ms(settings)
    wishes = {}
    for target in context.targets:
        load, count = load_of(context, target, entering), context.count(target)
        if target.role in ("embedding", "shard"):
            if load is None:
                continue
            # A unit that was never measured sustains what keeps it busy all the time.
            units = load.busy if target.max_qps is None else load.arrivals / target.max_qps
            sustained = "as many as it takes" if target.max_qps is None else f"{target.max_qps:.1f}/s"
            said = f"{load_text(load)}, a unit sustains {sustained}, {settings.qps_share:.0%} of it used"
            wishes[target.name] = Wish(units / settings.qps_share + load.draining, said)
        elif level is not None and count.serving is not None and count.asked is not None:
            # Without a forecast: latency says nothing of the load that the present count would carry.
            said = f"p{settings.percentile} {level:.1f} ms, aimed at {aim:.1f} ms ({settings.bound_share:.0%} of the bound)"
            units, why = _by_latency(count, level / aim)
            if load is not None and (most := _most_useful(context, load, aim)) < units:
                units, why = most, f"; more than {most:.1f} would be idle at {load_text(load)}"
            wishes[target.name] = Wish(units, said + why)
    return wishes


def _by_latency(count: Count, ratio: float) -> tuple[float, str]:
    """As many units as the latency is too long, or could be longer; while some are on their way, no more for what those are for."""
    assert count.serving is not None and count.asked is not None
    if ratio > 1 and count.coming:
        return float(count.asked), "; units are on their way"
    return count.serving * min(ratio, MOST_RATIO), ""


def _most_useful(context: Context, load: Load, aim: float) -> float:
    """Units beyond which none is busy: waits are as short as they need be, and what has queued is worked off."""
    share = context.settings.percentile / 100
    by_waits = needed(load, room_ms(aim, load.service_s, 1), share)
    return max(by_waits, load.busy / context.settings.busy_share) + load.draining
