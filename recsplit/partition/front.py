"""Rows that stay in the front server, beside the dense model: no call, no replica of their own, but a copy in every front server."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsplit.partition import cost
from recsplit.partition.cost import CostSettings, Numbers, ShardLoad
from recsplit.partition.heat import Heat
from recsplit.partition.programme import Solved

#: Further front servers tried after the last that paid, and halvings of the price of what is scarce in one.
_PATIENCE = 4
_HALVINGS = 40
_DEAREST = 1e30


@dataclass(frozen=True, eq=False)
class _Tables:
    """All tables, [tables, cuts]: what lies before each cut and what the rest costs; infinite where a table has fewer cuts than others."""

    gathers: Numbers
    sizes: Numbers
    rest: Numbers


def best_front(settings: CostSettings, heats: Sequence[Heat], solved: Sequence[Solved]) -> list[int]:
    """For each table the cut up to which its rows are kept in front, by index; all tables share the front servers' time and room.

    So many front servers have so much time a query, what the dense model leaves of it. For each number of them the rows in front are chosen
    at prices of time and room at which both suffice (Lagrange multipliers, found by bisection), and the cheapest number wins.
    Raises InputError where nothing is known of the front server.
    """
    count = math.ceil(float(cost.front_replicas(settings)) - 1e-9)
    tables = _stacked(heats, solved)
    best, chosen, since = math.inf, [0] * len(heats), 0
    while since <= _PATIENCE:
        starts = _fitting(settings, tables, count)
        at = (np.arange(len(heats)), starts)
        inside = ShardLoad(float(tables.gathers[at].sum()), 0.0, float(tables.sizes[at].sum()))
        price = float(cost.of_front(settings, inside)) + float(tables.rest[at].sum())
        since = 0 if price < best else since + 1
        if price < best:
            best, chosen = price, starts.tolist()
        count += 1
    return chosen


def _stacked(heats: Sequence[Heat], solved: Sequence[Solved]) -> _Tables:
    widest = max(len(heat.cuts) for heat in heats)

    def rows(values: Callable[[Heat, Solved], Numbers], filling: float) -> Numbers:
        return np.stack(
            [
                np.pad(values(heat, solution).astype(np.float64), (0, widest - len(heat.cuts)), constant_values=filling)
                for heat, solution in zip(heats, solved, strict=True)
            ]
        )

    return _Tables(
        rows(lambda heat, _: heat.gathers, 0.0),
        rows(lambda heat, _: heat.cuts * float(heat.row_bytes), 0.0),
        rows(lambda _, solution: solution.cost, math.inf),
    )


def _fitting(settings: CostSettings, tables: _Tables, count: int) -> NDArray[np.int64]:
    """The cheapest cuts for which `count` front servers have the time and the room."""
    front = settings.front
    assert front is not None
    byte = count * float(cost.held(settings, 1, 1e9) - cost.held(settings, 1, 0)) / 1e9
    budget_ms = 1000 * count / settings.target_qps - front.dense_ms

    def choose(byte_price: float, ms_price: float) -> NDArray[np.int64]:
        cheapest_cuts: NDArray[np.int64] = (byte_price * tables.sizes + ms_price * front.row_ms * tables.gathers + tables.rest).argmin(
            axis=1
        )
        return cheapest_cuts

    def total_at(values: Numbers, starts: NDArray[np.int64]) -> float:
        return float(values[np.arange(len(starts)), starts].sum())

    def in_time(byte_price: float) -> NDArray[np.int64]:
        return _cheapest(
            lambda price: choose(byte_price, price), lambda starts: front.row_ms * total_at(tables.gathers, starts) <= budget_ms
        )

    return _cheapest(lambda price: in_time(byte + price), lambda starts: total_at(tables.sizes, starts) <= front.most_bytes)


def _cheapest(choose: Callable[[float], NDArray[np.int64]], fits: Callable[[NDArray[np.int64]], bool]) -> NDArray[np.int64]:
    """What is chosen at the lowest price at which it fits; nothing of any table where no price is high enough."""
    starts = choose(0.0)
    if fits(starts):
        return starts
    low, high = 0.0, 1e-9
    while not fits(high_starts := choose(high)):
        if high > _DEAREST:
            return np.zeros_like(starts)
        low, high = high, high * 1000
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if fits(between := choose(middle)):
            high, high_starts = middle, between
        else:
            low = middle
    return high_starts
