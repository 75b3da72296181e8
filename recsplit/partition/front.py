"""Rows that stay in the front server, beside the dense model: no call, no replica of their own, but a copy in every front server."""

import math
from collections.abc import Sequence

import numpy as np

from recsplit.partition import cost
from recsplit.partition.cost import Settings
from recsplit.partition.heat import Heat
from recsplit.partition.programme import Solved

#: Further front servers tried after the last that paid, and halvings of the price of a front server's time.
_PATIENCE = 4
_HALVINGS = 40


def best_front(settings: Settings, heats: Sequence[Heat], solved: Sequence[Solved]) -> list[int]:
    """For each table the cut up to which its rows are kept in front, by index; all tables share the front servers' time.

    So many front servers have so much time a query, what the dense model leaves of it; for each number of them the rows in front are
    chosen at a price of time at which the time suffices (a Lagrange multiplier, found by bisection), and the cheapest number wins.
    Raises InputError where nothing is known of the front server.
    """
    first = math.ceil(float(cost.front_replicas(settings)) - 1e-9)
    byte = float(cost.held(settings, 1, 1e9) - cost.held(settings, 1, 0)) / 1e9
    best, chosen, since, count = math.inf, [0] * len(heats), 0, first
    while since <= _PATIENCE:
        starts = _fitting(settings, heats, solved, count, byte)
        # Whole servers that are there anyway, or as many as the rows in front ask for.
        inside = cost.NOTHING
        for heat, start in zip(heats, starts, strict=True):
            inside += cost.Load(heat.gathers[start], 0.0, float(heat.cuts[start] * heat.row_bytes))
        price = float(cost.of_front(settings, inside)) + sum(float(found.cost[start]) for found, start in zip(solved, starts, strict=True))
        since = 0 if price < best else since + 1
        if price < best:
            best, chosen = price, starts
        count += 1
    return chosen


def _fitting(settings: Settings, heats: Sequence[Heat], solved: Sequence[Solved], count: int, byte: float) -> list[int]:
    """The cheapest cuts for which `count` front servers have the time."""
    assert settings.front is not None
    row_ms = settings.front.row_ms
    budget_ms = 1000 * count / settings.target_qps - settings.front.dense_ms

    def choose(ms_price: float) -> list[int]:
        return [
            int(np.argmin(count * byte * heat.cuts * heat.row_bytes + ms_price * row_ms * heat.gathers + found.cost))
            for heat, found in zip(heats, solved, strict=True)
        ]

    def needs_ms(starts: list[int]) -> float:
        return row_ms * sum(float(heat.gathers[start]) for heat, start in zip(heats, starts, strict=True))

    low, high = 0.0, 1.0
    starts = choose(low)
    if needs_ms(starts) <= budget_ms:
        return starts
    while needs_ms(choose(high)) > budget_ms and high < 1e30:
        high *= 4
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if needs_ms(choose(middle)) > budget_ms:
            low = middle
        else:
            high = middle
    found = choose(high)
    return found if needs_ms(found) <= budget_ms else [0] * len(heats)
