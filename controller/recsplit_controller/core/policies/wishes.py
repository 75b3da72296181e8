"""What the policies share: what they are, limits of what they wish, and how a wish gives its reason."""

from collections.abc import Callable, Mapping

from recsplit.errors import InputError
from recsplit_controller.core.load import Context, Load
from recsplit_controller.values.decision import Wish
from recsplit_controller.values.settings import Settings

#: From what is known to how many units each target should have, and why. A target that is absent: what it needs isn't known.
Policy = Callable[[Context], Mapping[str, Wish]]

#: A backlog is to be gone in this time.
DRAIN_S = 10.0
#: A unit is not planned to be busier than this: beyond, a queue grows by chance alone.
BUSIEST = 0.85


def aim_ms(settings: Settings) -> float:
    """The percentile that is aimed at. Raises InputError where no bound is set."""
    if settings.bound_ms is None:
        raise InputError(f"the policy {settings.policy!r} needs bound_ms", hint="what the percentile must stay within, as in bound_ms = 25")
    return settings.bound_share * settings.bound_ms


def load_text(load: Load) -> str:
    """The load that a wish is for, in words."""
    if load.arrivals <= 0:
        return "no requests"
    source = "forecast" if load.forecast else "now"
    return f"{load.arrivals:.1f}/s ({source}) of {1000 * load.service_s:.2f} ms"
