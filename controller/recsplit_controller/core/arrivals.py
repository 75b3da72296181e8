"""Units that are on their way: a pod takes a minute to serve, and what it will carry is not asked for twice in that time. Pure."""

from recsplit_controller.core.elapsed import begun
from recsplit_controller.core.memory import Arrival
from recsplit_controller.values.observation import Count


def arrival(before: Arrival, count: Count, at_s: float) -> Arrival:
    """A target's arrivals after this count. What isn't known changes nothing."""
    if count.serving is None or count.asked is None:
        return before
    if before.since_s is None:
        return Arrival(count.serving, at_s, before.start_s) if count.coming else before
    since_s, start_s, serving = begun(before.since_s, at_s), before.start_s, before.serving
    if serving is not None and count.serving > serving:
        # The first to come were asked for first: of the others it isn't known when they were.
        since_s, start_s, serving = at_s, at_s - since_s, None
    return Arrival(serving, since_s, start_s) if count.coming else Arrival(start_s=start_s)


def delay_s(of: Arrival, at_s: float) -> float:
    """How long a unit that is asked for now is expected to take until it serves: as long as the last one, or as those that are on their
    way have taken already; 0 where none was ever seen to come."""
    return max(of.start_s or 0.0, 0.0 if of.since_s is None else at_s - begun(of.since_s, at_s))
