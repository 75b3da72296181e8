"""What the policies share: what they are, limits of what they wish, and how a wish gives its reason."""

from collections.abc import Callable, Mapping

from recsplit.errors import InputError
from recsplit_controller.core.load import Context, Load
from recsplit_controller.core.queueing import least_units
from recsplit_controller.values.decision import Wish
from recsplit_controller.values.settings import Settings

#: From what is known to how many units each target should have, and why. A target that is absent: what it needs isn't known.
Policy = Callable[[Context], Mapping[str, Wish]]

#: A unit is not planned to be busier than this: beyond, a queue grows by chance alone.
BUSIEST = 0.85


def aim_ms(settings: Settings) -> float:
    """The percentile that is aimed at. Raises InputError where no bound is set."""
    if settings.bound_ms is None:
        raise InputError(f"the policy {settings.policy!r} needs bound_ms", hint="what the percentile must stay within, as in bound_ms = 25")
    return settings.bound_share * settings.bound_ms


def room_ms(aim: float, service_s: float, steps: int) -> float:
    """What the aim leaves for the wait at each of so many steps, which together serve for `service_s`; a tenth of it at the least."""
    return max(aim - 1000 * service_s, aim / 10) / steps


def needed(load: Load, room_ms: float, share: float) -> float:
    """The fewest units with which `share` of the requests wait no longer than `room_ms`, none of them planned to be too busy."""
    return max(float(least_units(load.arrivals, load.service_s, room_ms / 1000, share)), load.busy / BUSIEST)


def load_text(load: Load) -> str:
    """The load that a wish is for, in words."""
    if load.arrivals <= 0:
        return "no requests"
    source = "forecast" if load.forecast else "now"
    return f"{load.arrivals:.1f}/s ({source}) of {1000 * load.service_s:.2f} ms"
