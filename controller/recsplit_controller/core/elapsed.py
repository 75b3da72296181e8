"""Time between two readings of a clock that may be set: it begins again where the clock went back. Pure.

NTP, a resumed machine and a person set clocks. A delay that waits until the clock is again where it was would hold for as long as that was.
"""


def begun(since_s: float, now_s: float) -> float:
    """When what has been so since `since_s` began, by the clock of `now_s`: now, where that clock went back beyond it."""
    return min(since_s, now_s)


def within(since_s: float | None, now_s: float, seconds: float) -> bool:
    """Whether it is less than so many seconds since; not where that isn't known, or is yet to come by a clock that went back."""
    return since_s is not None and 0 <= now_s - since_s < seconds


def yet_to_come(until_s: float | None, now_s: float, most_s: float) -> bool:
    """Whether it is yet to come, and no further off than it was ever put, `most_s`."""
    return until_s is not None and 0 < until_s - now_s <= most_s
