"""Numbers in tables have one form."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit.rendering.numbers import number_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (0.001234, "0.00123"),
        (9.149, "9.15"),
        (999.6, "1,000"),
        (1113.2, "1,110"),
        (-818091.0, "-818,000"),
        (1e-5, "1e-05"),
        (2e15, "2e+15"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_a_number_has_three_digits_that_count(value: float, text: str) -> None:
    assert number_text(value) == text


@given(st.floats(1e-4, 9.99e14))
def test_it_reads_as_the_number_to_half_a_percent_and_without_an_exponent(value: float) -> None:
    text = number_text(value)
    assert "e" not in text
    assert abs(float(text.replace(",", "")) / value - 1) <= 0.005 + 1e-9
