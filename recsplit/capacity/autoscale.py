"""Kubernetes' horizontal autoscaler over simulated pools: what replicas follow a load that moves, and what that costs queries.

The rule is that of autoscaling/v2 with its defaults: every 15 s, wanted = ceil(replicas * metric / target) unless the ratio is within
0.1 of 1; at most four or as many again as there are in one step up; down only to the most that was wanted in the last 300 s.
ElasticRec scales embedding shards on queries a second against the most that one sustains, and the dense model on latency against
65 % of the bound.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.simulate import Pool, Scaling, Simulated, simulate
from recsplit.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ScalingRule:
    """When a pool gets more servers or fewer.

    `signal` "qps": queries that arrive in a second, per server, against `target`. "latency": the queries' `percentile` in ms against
    `target`, which Kubernetes reads as an object's value and multiplies with the servers that are ready. Both over the last `window_s`.
    """

    signal: Literal["qps", "latency"]
    target: float
    least: int = 1
    most: int = 1000
    percentile: float = 95.0
    window_s: float = 30.0
    sync_s: float = 15.0
    tolerance: float = 0.1
    settle_s: float = 300.0


@dataclass(frozen=True)
class Scaled:
    """A pool whose servers are alike, what scales it, and how long a new server takes until it serves, from when it is asked for."""

    pool: Pool
    rule: ScalingRule
    start_s: float


@dataclass(frozen=True, eq=False)
class Followed:
    """A run under autoscalers. At `time_s` (every sync, from 0) each pool has `replicas[name]` servers, those that start included."""

    simulated: Simulated
    scaling: tuple[Scaling, ...]
    time_s: Floats
    replicas: Mapping[str, NDArray[np.int64]]


def replicas_asked(replicas: int, ready: int, metric: float, rule: ScalingRule) -> int:
    """What the rule asks for before limits: `metric` is queries a second of the whole pool, or a latency in ms."""
    counted = replicas if rule.signal == "qps" else ready
    ratio = metric / rule.target / (replicas if rule.signal == "qps" else 1)
    if abs(ratio - 1) <= rule.tolerance:
        return replicas
    return math.ceil(ratio * counted - 1e-9)


def step(replicas: int, recommended: Sequence[int], rule: ScalingRule) -> int:
    """Servers after this sync. `recommended`: what was wanted at each sync of the last `settle_s`, this one last."""
    up = min(recommended[-1], replicas + max(4, replicas))
    chosen = up if up >= replicas else min(replicas, max(recommended))
    return min(max(chosen, rule.least), rule.most)


def follow(
    pools: Sequence[Scaled], arrivals_s: Floats, sizes: Ints, *, seconds: float, seed: int = 0, advance: Callable[[int], None] | None = None
) -> Followed:
    """Send queries through pools that their autoscalers size, for `seconds`. `advance` is told of every sync.

    What an autoscaler sees at a sync is what the simulator says of the queries so far, and nothing later: where a latency is asked for, the
    run up to that sync is simulated again with the steps taken until then. Raises InputError as `simulate` does, and where two rules
    sync at different times.
    """
    if len({scaled.rule.sync_s for scaled in pools}) != 1:
        raise InputError("autoscalers of one simulation sync at one time", hint="give every rule the same sync_s")
    sync_s = pools[0].rule.sync_s
    times = np.arange(0.0, seconds, sync_s)
    counts = {scaled.pool.name: np.full(len(times), len(scaled.pool.servers), dtype=np.int64) for scaled in pools}
    recommended: dict[str, list[int]] = {scaled.pool.name: [len(scaled.pool.servers)] for scaled in pools}
    steps: list[Scaling] = []
    plain = [scaled.pool for scaled in pools]
    for sync, now in enumerate(times[1:], start=1):
        latency = _latencies(plain, arrivals_s, sizes, steps, now, seed) if any(s.rule.signal == "latency" for s in pools) else None
        for scaled in pools:
            rule, name, current = scaled.rule, scaled.pool.name, int(counts[scaled.pool.name][sync - 1])
            if rule.signal == "qps":
                low, high = np.searchsorted(arrivals_s, (now - rule.window_s, now))
                metric = float(high - low) / min(rule.window_s, now)
            else:
                metric = _percentile(latency, now, rule)
            starting = sum(s.change for s in steps if s.pool == name and s.change > 0 and s.time_s + s.start_s > now)
            asked = current if math.isnan(metric) else replicas_asked(current, max(current - starting, 1), metric, rule)
            history = recommended[name]
            history.append(asked)
            after = step(current, history[-(int(rule.settle_s / sync_s) + 1) :], rule)
            if after != current:
                steps.append(Scaling(float(now), name, after - current, scaled.start_s))
            counts[name][sync:] = after
        if advance is not None:
            advance(1)
    return Followed(simulate(plain, arrivals_s, sizes, scaling=steps, seed=seed), tuple(steps), times, counts)


def _latencies(
    pools: Sequence[Pool], arrivals_s: Floats, sizes: Ints, steps: Sequence[Scaling], now: float, seed: int
) -> tuple[Floats, Floats] | None:
    """When each query that came before `now` ends (s), and its latency (ms); what hasn't ended by then is for later."""
    count = int(np.searchsorted(arrivals_s, now))
    if not count:
        return None
    latency_ms = simulate(pools, arrivals_s[:count], sizes[:count], scaling=steps, seed=seed).latency_ms
    return arrivals_s[:count] + latency_ms / 1e3, latency_ms


def _percentile(latency: tuple[Floats, Floats] | None, now: float, rule: ScalingRule) -> float:
    """The percentile over the queries that ended within the window; NaN where none did."""
    if latency is None:
        return math.nan
    ended_s, latency_ms = latency
    inside = latency_ms[(ended_s > now - rule.window_s) & (ended_s <= now)]
    return float(np.percentile(inside, rule.percentile)) if len(inside) else math.nan
