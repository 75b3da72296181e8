"""Waits in a queue in front of equal units: Erlang's C formula, for Poisson arrivals and exponential service times.

Real service times vary less and Triton batches, so the waits that it tells are rather too long: safe for deciding on counts.
"""

import math

MOST_UNITS = 100_000


def tail_wait_s(units: int, arrivals: float, service_s: float, share: float) -> float:
    """The wait in seconds that `share` of the requests stay within; infinite where the units can't keep up.

    `arrivals` a second, of `service_s` each, at `units` that serve one at a time.
    """
    load = arrivals * service_s
    if load <= 0:
        return 0.0
    if load >= units:
        return math.inf
    blocked = 1.0  # Erlang B by its recursion, which neither overflows nor loses digits
    for count in range(1, units + 1):
        blocked = load * blocked / (count + load * blocked)
    waits = units * blocked / (units - load * (1 - blocked))
    if waits <= 1 - share:  # with thousands of spare units it is too small for a float
        return 0.0
    return math.log(waits / (1 - share)) * service_s / (units - load)


def most_arrivals(units: int, service_s: float, wait_s: float, share: float) -> float:
    """The most arrivals a second of which `share` wait no longer than `wait_s`, which is more than 0, at so many units."""
    low, high = 0.0, units / service_s
    for _ in range(40):
        middle = (low + high) / 2
        if tail_wait_s(units, middle, service_s, share) > wait_s:
            high = middle
        else:
            low = middle
    return low


def least_units(arrivals: float, service_s: float, wait_s: float, share: float) -> int:
    """The fewest units with which `share` of the requests wait no longer than `wait_s`, which is more than 0; at least 1."""
    low = max(1, min(MOST_UNITS, math.ceil(arrivals * service_s)))
    high = low
    while high < MOST_UNITS and tail_wait_s(high, arrivals, service_s, share) > wait_s:
        low, high = high + 1, min(MOST_UNITS, 2 * high)
    while low < high:
        middle = (low + high) // 2
        if tail_wait_s(middle, arrivals, service_s, share) > wait_s:
            low = middle + 1
        else:
            high = middle
    return low
