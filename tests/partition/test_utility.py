"""The share of rows that is read: expected and counted agree."""

import itertools

import numpy as np
import pytest

from recsplit.capacity.ids import Skew, TwoLevel, Uniform, Zipf, at_rank, draw, share
from recsplit.partition.utility import counted, touched, touched_counts

ROWS, GATHERS = 50_000, 60_000
BOUNDS = (0, 300, 5_000, 20_000, ROWS)


@pytest.mark.parametrize("law", [Uniform(), TwoLevel(0.9), Zipf(1.05), Zipf(0.7)])
def test_a_drawn_trace_touches_what_the_law_expects(law: Skew) -> None:
    rank_of_row = np.argsort(at_rank(np.arange(ROWS), ROWS))
    measured = counted(rank_of_row[draw(law, ROWS, GATHERS, np.random.default_rng(0))], BOUNDS)
    for (first, last), touched_share in zip(itertools.pairwise(BOUNDS), measured, strict=True):
        expected = touched(lambda hottest: share(law, ROWS, hottest), first, last, GATHERS, breaks=(ROWS // 10,))
        assert touched_share == pytest.approx(expected, abs=0.02)


def test_counts_of_an_access_profile_expect_the_same_as_the_law() -> None:
    law = TwoLevel(0.9)
    counts = np.where(np.arange(ROWS) < ROWS // 10, 1800, 22)
    touched_share = touched_counts(counts[:300], int(counts.sum()), GATHERS)
    assert touched_share == pytest.approx(touched(lambda hottest: share(law, ROWS, hottest), 0, 300, GATHERS), abs=0.01)


def test_nothing_read_touches_nothing() -> None:
    assert counted(np.zeros(0, dtype=np.int64), BOUNDS) == (0.0,) * 4
    assert touched(lambda hottest: hottest / 10, 0, 10, 0) == 0.0
    assert touched_counts(np.zeros(5, dtype=np.int64), 100, 50) == 0.0
