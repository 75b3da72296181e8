"""The policy utilization: each unit busy for a share of the time."""

from collections.abc import Mapping

from recsplit_controller.core.load import Context, Load, load_of
from recsplit_controller.core.policies.wishes import load_text
from recsplit_controller.values.decision import Wish


def utilization(context: Context) -> Mapping[str, Wish]:
    """As many units as keep each of them busy for `busy_share` of the time, and more where a queue has to be worked off."""
    entering = context.entering()
    wishes = {}
    for target in context.targets:
        load = load_of(context, target, entering)
        if load is not None:
            units = load.busy / context.settings.busy_share + load.draining
            wishes[target.name] = Wish(units, load_text(load) + f", aimed at {context.settings.busy_share:.0%} busy{_queue(load)}")
    return wishes


def _queue(load: Load) -> str:
    return f", {load.backlog:.0f} too many in the queue" if load.backlog else ""
