"""Steps of load, what is seen of them second by second, and when a bound is kept again."""

import threading
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from recsplit_perf.traffic.open_loop import Sent
from recsplit_perf.traffic.stepped import Step, by_second, draw, recovered_s, sampled, starts_s

STEPS = (Step(50, 20), Step(200, 20), Step(50, 20))


def sent(due_s: NDArray[np.float64], latency_ms: NDArray[np.float64]) -> Sent:
    count = len(due_s)
    return Sent(due_s, np.zeros(count), latency_ms, np.ones(count, np.int64), Counter(), 60.0, False, 0.0)


def test_each_step_has_its_rate_and_gaps_as_a_poisson_process_has_them() -> None:
    times_s = draw(STEPS, np.random.default_rng(0))
    assert starts_s(STEPS) == [0, 20, 40, 60]
    for (first, last), step in zip(((0, 20), (20, 40), (40, 60)), STEPS, strict=True):
        inside = times_s[(times_s >= first) & (times_s < last)]
        expected = step.rate * step.seconds
        assert abs(len(inside) - expected) < 4 * expected**0.5
        gaps = np.diff(inside)
        assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.1)  # evenly spaced ones have 0


def test_seconds_hold_the_queries_due_in_them() -> None:
    due_s = np.array([0.1, 0.2, 2.0, 2.5, 2.9])
    seconds = by_second(sent(due_s, np.array([5.0, 7.0, 1.0, np.inf, 2.0])), 4, 50)
    assert seconds.queries.tolist() == [2, 0, 3, 0]
    assert seconds.failed.tolist() == [0, 0, 1, 0]
    np.testing.assert_array_equal(seconds.percentile_ms, [5.0, np.nan, 2.0, np.nan])


def test_it_has_recovered_where_no_later_window_misses() -> None:
    due_s = np.arange(0, 60, 0.1)
    slow = (due_s >= 20) & (due_s < 26)
    latency_ms = np.where(slow, 500.0, 10.0)
    # A window is fine once 1 in 20 of its queries at most is slow: from 25.5 on, 5 of 50 are; from 26 on, none.
    assert recovered_s(sent(due_s, latency_ms), 20, 40, bound_ms=100, percent=95) == 6.0
    assert recovered_s(sent(due_s, latency_ms), 0, 20, bound_ms=100, percent=95) == 0.0
    assert recovered_s(sent(due_s, np.full(600, 500.0)), 20, 40, bound_ms=100, percent=95) is None
    again = np.where(slow | ((due_s >= 32) & (due_s < 33)), np.inf, 10.0)
    assert recovered_s(sent(due_s, again), 20, 40, bound_ms=100, percent=95) == 13.0


def test_samples_come_until_the_end() -> None:
    counted, pause = iter(range(1000)), threading.Event()
    with sampled(lambda: next(counted), 0.02) as samples:
        pause.wait(0.2)
    count = len(samples)
    assert count >= 2
    assert [sample.count for sample in samples] == list(range(count))
    assert sorted(sample.at_s for sample in samples) == [sample.at_s for sample in samples]
    pause.wait(0.1)
    assert len(samples) == count
