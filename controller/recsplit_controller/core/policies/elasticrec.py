"""The policy elasticrec: lookups by the queries that a unit sustains, the dense model by latency (ElasticRec, section IV)."""

from collections.abc import Mapping

from recsplit_controller.core.load import Context, level_ms, load_of
from recsplit_controller.core.policies.wishes import aim_ms, load_text
from recsplit_controller.values.decision import Wish

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
            most = "as many as it takes" if target.max_qps is None else f"{target.max_qps:.1f}/s"
            said = f"{load_text(load)}, a unit sustains {most}, {settings.qps_share:.0%} of it used"
            wishes[target.name] = Wish(units / settings.qps_share, said)
        elif level is not None and count is not None:
            ratio = min(level / aim, MOST_RATIO)
            # Without a forecast: latency says nothing of the load that the present count would carry.
            said = f"p{settings.percentile} {level:.1f} ms, aimed at {aim:.1f} ms ({settings.bound_share:.0%} of the bound)"
            wishes[target.name] = Wish(count * ratio, said)
    return wishes
