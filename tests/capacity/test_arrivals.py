"""Arrival processes: against theory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit.capacity import arrivals
from recsplit.errors import InputError
from tests.capacity.laws import ARRIVALS


@given(st.sampled_from(ARRIVALS), st.floats(0.01, 30), st.integers(0, 2**32))
def test_times_are_sorted_within_the_window_and_the_same_under_a_seed(law: arrivals.Arrivals, seconds: float, seed: int) -> None:
    times = arrivals.draw(law, seconds, np.random.default_rng(seed))
    assert times.dtype == np.float64
    assert (np.diff(times) >= 0).all()
    assert (times >= 0).all()
    assert (times < seconds).all()
    assert np.array_equal(times, arrivals.draw(law, seconds, np.random.default_rng(seed)))


@pytest.mark.parametrize("law", ARRIVALS, ids=lambda law: law.process)
@pytest.mark.parametrize("rate", [5.0, 300.0])
def test_the_mean_rate_is_the_one_asked_for(law: arrivals.Arrivals, rate: float) -> None:
    scaled = arrivals.at_rate(law, rate)
    assert arrivals.rate(scaled) == rate
    assert len(arrivals.draw(scaled, 1000, np.random.default_rng(1))) == pytest.approx(1000 * rate, rel=0.06)


@pytest.mark.parametrize(
    ("law", "variation"),
    [(arrivals.Constant(40), 0.0), (arrivals.Poisson(40), 1.0), (arrivals.PoissonGap(40), 1 / 25**0.5)],
    ids=["constant", "poisson", "poisson-gap"],
)
def test_gaps_vary_as_the_process_says(law: arrivals.Arrivals, variation: float) -> None:
    gaps = np.diff(arrivals.draw(law, 2000, np.random.default_rng(2)))
    assert gaps.std() / gaps.mean() == pytest.approx(variation, abs=0.02)  # of the papers' gaps: 1/sqrt(mean in ms), not 1


def test_the_papers_gaps_are_whole_milliseconds() -> None:
    times_ms = 1000 * arrivals.draw(arrivals.PoissonGap(40), 100, np.random.default_rng(3))
    assert np.allclose(times_ms, np.rint(times_ms), atol=1e-6)


def test_bursts_have_their_rates_and_begin_calm() -> None:
    times = arrivals.draw(arrivals.Bursts(100, burst=3, on_s=1, off_s=4), 2000, np.random.default_rng(4)) % 5
    assert (times >= 4).sum() / 400 == pytest.approx(300, rel=0.03)
    assert (times < 4).sum() / 1600 == pytest.approx(50, rel=0.03)
    silent = arrivals.draw(arrivals.Bursts(100, burst=5, on_s=1, off_s=4), 100, np.random.default_rng(4)) % 5
    assert (silent >= 4).all()


def test_a_day_begins_at_its_lowest() -> None:
    times = arrivals.draw(arrivals.Diurnal(100, amplitude=0.8, period_s=10), 2000, np.random.default_rng(5)) % 10
    counts, _ = np.histogram(times, bins=10, range=(0, 10))
    expected = [100 - 80 * (np.sin(2 * np.pi * (n + 1) / 10) - np.sin(2 * np.pi * n / 10)) * 10 / (2 * np.pi) for n in range(10)]
    assert counts / 200 == pytest.approx(expected, rel=0.05)


def test_a_trace_gives_each_second_its_rate_and_begins_anew() -> None:
    law = arrivals.Trace("x", np.array([0, 100, 300]))
    assert arrivals.rate(law) == pytest.approx(400 / 3)
    counts, _ = np.histogram(arrivals.draw(law, 600, np.random.default_rng(6)) % 3, bins=3, range=(0, 3))
    assert counts[0] == 0
    assert counts[1:] / 200 == pytest.approx([100, 300], rel=0.03)


def test_a_burst_larger_than_its_mean_allows_is_refused() -> None:
    with pytest.raises(InputError, match=r"burst is 6: .* at most 5 keeps the mean"):
        arrivals.Bursts(100, burst=6, on_s=1, off_s=4)
