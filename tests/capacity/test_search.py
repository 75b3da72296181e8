"""Latency-bounded throughput: searched on queues whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit.capacity.search import Measure, Trial, after, crossing, percentile_ms, search
from recsplit.capacity.workload import LatencyBound
from recsplit.errors import InputError

P95 = LatencyBound(bound_ms=25.0, percentile=95)


def queue(service_rate: float, noise: float = 0.0, seed: int = 0) -> Measure:
    """An M/M/1's 95th percentile of the sojourn time, ln(20)/(mu - lambda), with noise of that standard deviation on its logarithm."""
    rng = np.random.default_rng(seed)

    def measure(rate: float) -> Trial:
        exact = 1000 * math.log(20) / (service_rate - rate) if rate < service_rate else math.inf
        return Trial(rate, exact * math.exp(rng.normal(0, noise)), 1000)

    return measure


def answer(service_rate: float) -> float:
    return service_rate - 1000 * math.log(20) / P95.bound_ms


@settings(deadline=None, max_examples=30)
@given(st.floats(130, 5000), st.floats(0.5, 4000))
def test_the_rate_of_an_exact_queue_is_found_from_any_beginning(service_rate: float, first: float) -> None:
    throughput = search(queue(service_rate), P95, first=first)
    assert throughput.verdict == "found"
    assert throughput.rate == pytest.approx(answer(service_rate), rel=0.05)
    assert throughput.low <= throughput.rate <= throughput.high
    assert len(throughput.trials) <= 60


def test_noise_is_averaged_out_and_the_interval_tells_of_it() -> None:
    exact = answer(500)
    throughputs = [search(queue(500, noise=0.15, seed=seed), P95, first=50) for seed in range(20)]
    assert np.mean([one.low <= exact <= one.high for one in throughputs]) >= 0.7
    assert np.median([abs(one.rate / exact - 1) for one in throughputs]) < 0.05
    calm = search(queue(500, noise=0.01), P95, first=50)
    assert calm.high - calm.low < np.median([one.high - one.low for one in throughputs])
    assert len(calm.trials) < np.mean([len(one.trials) for one in throughputs])


def test_a_bound_that_nobody_meets_is_told() -> None:
    throughput = search(queue(100), P95, first=64, least=1)  # 30 ms without any load
    assert (throughput.verdict, throughput.rate, throughput.low) == ("bound unreachable", 0, 0)
    assert throughput.trials[-1].rate == 1


def test_a_bound_that_is_never_exceeded_is_told() -> None:
    throughput = search(lambda rate: Trial(rate, 1.0, 100), P95, first=10, most=500)
    assert (throughput.verdict, throughput.rate) == ("bound never exceeded", 500)


def test_a_generator_that_is_too_slow_is_no_verdict_on_the_server() -> None:
    throughput = search(lambda rate: Trial(rate, 1.0, 100, kept_up=rate < 300), P95, first=10)
    assert throughput.verdict == "generator too slow"
    assert throughput.rate == pytest.approx(300, rel=0.06) and throughput.rate < 300
    assert math.isinf(throughput.high)


def test_failed_queries_count_as_endless() -> None:
    latency_ms = np.arange(1.0, 96.0)
    assert percentile_ms(latency_ms, 95, failed=5) == 95.0
    assert percentile_ms(latency_ms, 96, failed=5) == math.inf
    assert percentile_ms(latency_ms, 50) == 48.0
    with pytest.raises(InputError, match="no queries"):
        percentile_ms(np.zeros(0), 95)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_the_smallest_latency_that_enough_queries_keep(values: list[float], percent: float) -> None:
    latency_ms = percentile_ms(np.array(values), percent)
    assert sum(value <= latency_ms for value in values) * 100 >= percent * len(values) - 1e-6
    assert sum(value < latency_ms for value in values) * 100 < percent * len(values)


def test_an_interrupted_search_goes_on_with_what_was_measured() -> None:
    whole = search(queue(500, noise=0.1, seed=1), P95, first=50)
    asked: list[float] = []

    def measure(rate: float) -> Trial:
        asked.append(rate)
        return whole.trials[8 + len(asked) - 1]

    again = search(after(whole.trials[:8], measure), P95, first=50)
    assert again == whole
    assert len(asked) == len(whole.trials) - 8


def test_too_few_trials_to_bracket_the_rate_are_told() -> None:
    growing = search(queue(500), P95, first=1, max_trials=3)
    assert (growing.verdict, growing.rate, growing.high) == ("too few trials", 4, math.inf)
    falling = search(queue(500), P95, first=8000, max_trials=6)
    assert (falling.verdict, falling.rate, falling.high) == ("too few trials", 0, 2000)


def test_a_single_disturbed_trial_leads_nowhere() -> None:
    exact, seen = queue(500), 0

    def measure(rate: float) -> Trial:
        nonlocal seen
        seen += 1
        return Trial(rate, 1000.0, 1000) if seen in (3, 9) else exact(rate)

    assert search(measure, P95, first=50).rate == pytest.approx(answer(500), rel=0.05)


def test_trials_are_bounded() -> None:
    throughput = search(queue(500, noise=1.0), P95, first=50, max_trials=12)
    assert len(throughput.trials) <= 12


def test_a_fallen_percentile_is_pooled_with_its_neighbours() -> None:
    trials = [Trial(rate, ms, 100) for rate, ms in ((10, 10), (20, 30), (30, 20), (40, 40))]
    assert 20 < crossing(trials, P95) <= 40


def test_a_search_begins_within_its_limits() -> None:
    with pytest.raises(InputError, match="can't begin at 5"):
        search(queue(500), P95, first=5, least=10)
