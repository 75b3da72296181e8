"""DeepRecSched's climb, with noise and without."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit.capacity.search import Throughput
from recsplit.errors import InputError
from recsplit.tuning.climb import climb
from tests.tuning.asked import NEVER, about

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@given(st.integers(0, len(BATCHES) - 1), st.floats(0.05, 0.5))
def test_it_finds_the_top_and_stops_behind_it(top: int, slope: float) -> None:
    rates = {batch: 100 * (1 - slope) ** abs(place - top) for place, batch in enumerate(BATCHES)}
    climbed = climb(BATCHES, lambda batch: about(rates[batch], 0.0))
    assert climbed.best.value == BATCHES[top]
    assert len(climbed.steps) == min(top + 3, len(BATCHES))


def test_what_can_not_be_told_apart_does_not_stop_it() -> None:
    """A plateau with a dip of noise in it, and the top behind it."""
    rates = dict(zip(BATCHES, (50, 60, 58, 57, 59, 60, 90, 80, 40, 20, 10), strict=True))
    assert climb(BATCHES, lambda batch: about(rates[batch], 0.05)).best.value == 64


def test_it_goes_on_until_a_batch_meets_the_bound() -> None:
    def evaluate(batch: int) -> Throughput:
        return NEVER if batch < 64 else about(batch)

    assert climb(BATCHES, evaluate).best.value == 1024


def test_noise_rarely_misleads_it() -> None:
    """Rates with an error of 3 %, intervals of the same: the batch that it takes is within 8 % of the best."""
    rng = np.random.default_rng(0)
    truth = {batch: 1000 / (2.42 + 0.0435 * batch) * min(batch, 256) / 256 for batch in BATCHES}
    for _ in range(200):
        chosen = climb(BATCHES, lambda batch: about(truth[batch] * float(rng.normal(1, 0.03)), 0.06)).best.value
        assert truth[chosen] >= 0.92 * max(truth.values())


def test_nothing_to_climb_on_is_refused() -> None:
    with pytest.raises(InputError):
        climb((), lambda _: NEVER)
