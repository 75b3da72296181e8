"""Id skew: shares against theory, at small and large tables."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit.capacity import ids
from recsplit.errors import InputError
from tests.capacity.laws import SKEWS

MANY = 200_000


@given(st.sampled_from(SKEWS), st.integers(1, 10**9), st.integers(0, 200), st.integers(0, 2**32))
def test_ids_are_rows_and_the_same_under_a_seed(law: ids.Skew, rows: int, count: int, seed: int) -> None:
    drawn = ids.draw(law, rows, count, np.random.default_rng(seed))
    assert drawn.dtype == np.int64
    assert drawn.shape == (count,)
    assert ((drawn >= 0) & (drawn < rows)).all()
    assert (drawn == ids.draw(law, rows, count, np.random.default_rng(seed))).all()


@given(st.integers(1, 5000))
def test_every_rank_has_a_row_of_its_own(rows: int) -> None:
    assert sorted(ids.at_rank(np.arange(rows), rows)) == list(range(rows))


@pytest.mark.parametrize("rows", [100, 9973, 20_000_000])
def test_hot_rows_are_no_neighbours(rows: int) -> None:
    hottest = np.sort(ids.at_rank(np.arange(rows // 20), rows))
    assert np.diff(hottest).min() > 1


@pytest.mark.parametrize("law", SKEWS, ids=str)
@pytest.mark.parametrize("rows", [50, 10_000, 20_000_000])
def test_the_hottest_rows_get_their_share(law: ids.Skew, rows: int) -> None:
    drawn = ids.draw(law, rows, MANY, np.random.default_rng(1))
    for hottest in (max(rows // 1000, 1), rows // 10, rows // 2):
        inside = np.isin(drawn, ids.at_rank(np.arange(hottest), rows)) if rows <= 10_000 else _ranks(drawn, rows) < hottest
        assert inside.mean() == pytest.approx(ids.share(law, rows, hottest), abs=0.006)


def _ranks(drawn: ids.Ids, rows: int) -> ids.Ids:
    """The ranks of rows: at_rank turned round with the multiplier's inverse."""
    first, second = (int(row) for row in ids.at_rank(np.array([0, 1]), rows))
    return (drawn - first) * pow(second - first, -1, rows) % rows


@pytest.mark.parametrize("alpha", [0.5, 0.99, 1.0, 1.0 + 1e-12, 1.5, 3.0])
def test_every_rank_of_zipf_has_its_probability(alpha: float) -> None:
    drawn = ids.draw(ids.Zipf(alpha), 8, MANY, np.random.default_rng(2))
    weights = np.arange(1, 9) ** -alpha
    counts = np.bincount(drawn, minlength=8)[ids.at_rank(np.arange(8), 8)]
    assert counts / MANY == pytest.approx(weights / weights.sum(), abs=0.005)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 1.035, 2.0])
def test_shares_of_zipf_are_exact(alpha: float) -> None:
    weights = np.arange(1, 100_001, dtype=np.float64) ** -alpha
    for hottest in (1, 64, 65, 1000, 100_000):
        assert ids.share(ids.Zipf(alpha), 100_000, hottest) == pytest.approx(weights[:hottest].sum() / weights.sum(), rel=1e-9)


def test_elasticrecs_locality_as_zipf() -> None:
    # seeds.md 1c: 90 % of the accesses in the hottest 10 % of 20 million rows is about alpha = 1.035, 50 % is 0.70.
    assert ids.share(ids.Zipf(1.035), 20_000_000, 2_000_000) == pytest.approx(0.90, abs=0.005)
    assert ids.share(ids.Zipf(0.70), 20_000_000, 2_000_000) == pytest.approx(0.50, abs=0.005)


@pytest.mark.parametrize("law", SKEWS, ids=str)
def test_a_draw_takes_no_memory_for_the_table(law: ids.Skew) -> None:
    tracemalloc.start()
    ids.draw(law, 20_000_000, 1000, np.random.default_rng(3))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_trace_is_replayed_in_its_order_round_and_round() -> None:
    law = ids.Trace("x", np.array([3, 1, 4, 1, 12]))
    drawn = ids.draw(law, 10, 20, np.random.default_rng(4)).tolist()
    whole = [3, 1, 4, 1, 2] * 10  # 12 counts on from the first of 10 rows
    assert any(whole[start : start + 20] == drawn for start in range(5))
    assert ids.share(law, 10, 1) == pytest.approx(2 / 5)


def test_a_table_too_large_to_hash_is_refused() -> None:
    with pytest.raises(InputError, match="1 to 3000000000"):
        ids.draw(ids.Zipf(1), 4_000_000_000, 1, np.random.default_rng(0))


@pytest.mark.parametrize("law", SKEWS, ids=str)
@pytest.mark.parametrize("rows", [1, 50, 10_000, 3_000_000])
def test_counts_are_those_of_drawn_ids(law: ids.Skew, rows: int) -> None:
    counts = np.zeros(rows, np.int64)
    for row_numbers, times in ids.counts(law, rows, MANY, np.random.default_rng(3)):
        np.add.at(counts, row_numbers, times)
    drawn = np.bincount(ids.draw(law, rows, MANY, np.random.default_rng(4)), minlength=rows)
    assert counts.sum() == MANY
    by_rank = ids.at_rank(np.arange(rows), rows)
    for hottest in {1, max(rows // 1000, 1), max(rows // 10, 1), max(rows // 2, 1)}:
        assert counts[by_rank[:hottest]].sum() / MANY == pytest.approx(drawn[by_rank[:hottest]].sum() / MANY, abs=0.006)
    assert np.count_nonzero(counts) == pytest.approx(np.count_nonzero(drawn), rel=0.02)  # as many rows are never read
