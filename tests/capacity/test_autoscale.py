"""Kubernetes' rule, and pools that follow it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit.capacity.autoscale import Followed, Scaled, ScalingRule, follow, replicas_asked, step
from recsplit.capacity.service import affine
from recsplit.capacity.simulate import Pool
from recsplit.errors import InputError

QPS = ScalingRule("qps", target=10)
LATENCY = ScalingRule("latency", target=200)


def test_wanted_follows_kubernetes() -> None:
    assert replicas_asked(3, 3, 45, QPS) == 5  # ceil(45 / 10)
    assert replicas_asked(3, 1, 45, QPS) == 5  # servers that start are counted: nothing more is asked for them
    assert replicas_asked(3, 3, 32.9, QPS) == 3  # 9.7 % above the target
    assert replicas_asked(3, 3, 27.1, QPS) == 3
    assert replicas_asked(3, 3, 20, QPS) == 2
    assert replicas_asked(4, 2, 400, LATENCY) == 4  # a latency is an object's value: times the two that are ready
    assert replicas_asked(4, 4, 100, LATENCY) == 2


def test_steps_up_are_limited_and_steps_down_wait() -> None:
    assert step(1, [50], QPS) == 5
    assert step(20, [50], QPS) == 40
    assert step(20, [18, 10, 5], QPS) == 18
    assert step(20, [25, 5], QPS) == 20  # more was wanted a while ago: nothing goes yet, and nothing comes for it
    assert step(3, [0], QPS) == 1
    assert step(3, [50], ScalingRule("qps", target=10, most=4)) == 4


@given(st.integers(1, 500), st.lists(st.integers(0, 2000), min_size=1, max_size=21))
def test_a_step_stays_between_what_is_wanted_and_what_there_is(replicas: int, recommended: list[int]) -> None:
    after = step(replicas, recommended, QPS)
    assert min(replicas, max(recommended[-1], 1)) <= after <= max(replicas, min(recommended[-1], replicas + max(4, replicas), 1000))


def _follow(rule: ScalingRule, rates: list[tuple[float, float]], *, start_s: float = 20.0, servers: int = 2) -> Followed:
    """Queries evenly spaced at each rate for so many seconds, through one pool of 100 ms a query."""
    starts = np.cumsum([0.0, *(seconds for _, seconds in rates)])
    arrivals = np.concatenate(
        [start + np.arange(int(seconds * rate)) / rate for start, (rate, seconds) in zip(starts, rates, strict=False)]
    )
    pool = Scaled(Pool("whole", (affine(100, 0),) * servers), rule, start_s)
    return follow([pool], arrivals, np.ones(len(arrivals), dtype=np.int64), seconds=float(starts[-1]))


@pytest.mark.parametrize("rule", [ScalingRule("qps", target=8), ScalingRule("latency", target=260)])
def test_servers_come_with_the_load_and_the_queue_goes(rule: ScalingRule) -> None:
    history = _follow(rule, [(10, 120), (60, 480)])
    assert history.replicas["whole"][5] <= 2
    assert history.replicas["whole"][-1] >= 6
    latency = history.simulated.latency_ms
    assert latency[:1000].max() < 150  # two servers are enough for ten a second
    assert latency.max() > 1000  # the servers for the step haven't started
    assert latency[-600:].max() < 600  # later they have


def test_servers_go_only_after_the_settling_time() -> None:
    history = _follow(ScalingRule("qps", target=8), [(60, 300), (10, 600)], servers=8)
    replicas = history.replicas["whole"]
    times = history.time_s
    assert (replicas[times < 600] == 8).all()
    assert replicas[-1] == 2
    assert (np.diff(replicas) <= 0).all()


def test_a_longer_start_loses_more_queries() -> None:
    rates = [(10.0, 60.0), (40.0, 240.0)]
    fast, slow = (_follow(ScalingRule("qps", target=8), rates, start_s=start_s).simulated.latency_ms for start_s in (5.0, 90.0))
    assert (slow > 400).mean() > 2 * (fast > 400).mean()


def test_nothing_is_seen_before_it_ends() -> None:
    """Queries that come after a sync change nothing of what was done until then."""
    rates = [(10.0, 120.0), (60.0, 120.0)]
    short, long = (_follow(LATENCY, rate_steps).replicas["whole"] for rate_steps in (rates, [*rates, (200.0, 60.0)]))
    assert (short == long[: len(short)]).all()


def test_rules_that_sync_apart_are_refused() -> None:
    pools = [Scaled(Pool(name, (affine(1, 0),)), ScalingRule("qps", 10, sync_s=sync_s), 1) for name, sync_s in (("a", 15), ("b", 30))]
    with pytest.raises(InputError, match="sync at one time"):
        follow(pools, np.array([0.0]), np.array([1]), seconds=60)
