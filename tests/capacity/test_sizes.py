"""Query sizes: against theory, and as the papers' code draws them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit.capacity import sizes
from recsplit.errors import InputError
from tests.capacity.laws import SIZES

MANY = 200_000


@given(st.sampled_from(SIZES), st.integers(0, 300), st.integers(0, 2**32))
def test_a_draw_is_whole_positive_and_the_same_under_a_seed(law: sizes.Sizes, count: int, seed: int) -> None:
    drawn = sizes.draw(law, count, np.random.default_rng(seed))
    assert drawn.dtype == np.int64
    assert drawn.shape == (count,)
    assert (drawn >= 1).all()
    assert (drawn <= sizes.LIMIT).all()
    assert (drawn == sizes.draw(law, count, np.random.default_rng(seed))).all()


@given(st.floats(1, 2000), st.floats(0, 500), st.integers(1, 1500))
def test_clipped_laws_stay_within_their_most(mean: float, std: float, most: int) -> None:
    for law in (sizes.Normal(mean, std, most), sizes.Lognormal(np.log(mean), 1.0, most)):
        assert sizes.draw(law, 50, np.random.default_rng(0)).max() <= most


@pytest.mark.parametrize(
    ("law", "mean", "quantiles"),
    [
        (sizes.Fixed(7), 7, {50: 7}),
        (sizes.Normal(165, 16), 165, {50: 165, 95: 191.3}),
        (sizes.Lognormal(5.1, 0.2), 167.3, {50: 164.0, 95: 227.9, 99: 261.2}),  # seeds.md 2b
        (sizes.Uniform(), 400, {25: 250, 75: 550}),
        (sizes.Kairos(), (8 * 50 + 22 * 399.5 + 5 * 799.5 + 64 * 162) / 99, {95: 610}),
        (sizes.Ribbon(), (2 * 50 + 10 * 374.5 + 87 * 166.8) / 99, {50: 168}),
        (sizes.FromFile("x", np.array([1, 5, 5, 900])), 911 / 4, {50: 5}),
    ],
)
def test_moments_are_those_of_theory(law: sizes.Sizes, mean: float, quantiles: dict[int, float]) -> None:
    drawn = sizes.draw(law, MANY, np.random.default_rng(1))
    assert drawn.mean() == pytest.approx(mean, rel=0.015)
    for percent, expected in quantiles.items():
        assert np.percentile(drawn, percent) == pytest.approx(expected, rel=0.03)


def test_the_mixture_of_kairos_has_the_shares_of_its_code() -> None:
    drawn = sizes.draw(sizes.Kairos(), MANY, np.random.default_rng(2))
    shares = {"small": (drawn < 100).mean(), "200-599": ((drawn > 200) & (drawn < 600)).mean(), "600-999": (drawn >= 600).mean()}
    assert shares == pytest.approx({"small": 8 / 99, "200-599": 22 / 99, "600-999": 5 / 99}, rel=0.05)
    assert drawn.max() == 999


def test_the_heavy_tail_holds_most_items_in_its_largest_quarter() -> None:
    def largest_quarter(law: sizes.Sizes) -> float:
        drawn = np.sort(sizes.draw(law, MANY, np.random.default_rng(3)))
        return float(drawn[-MANY // 4 :].sum() / drawn.sum())

    assert 0.55 < largest_quarter(sizes.HeavyTail()) < 0.65
    assert largest_quarter(sizes.Lognormal(5.1, 0.2)) < 0.35


def test_a_law_made_in_code_is_checked_too() -> None:
    with pytest.raises(InputError, match="sigma is -1: expected 0 or more"):
        sizes.Lognormal(5, -1)
    with pytest.raises(InputError, match="low is 9 and high is 3"):
        sizes.Uniform(9, 3)
