"""Erlang's C formula at its ends: no load, too much of it, and so many spare units that a wait is smaller than a float can say."""

import math

import pytest

from recsplit_controller.core.queueing import least_units, tail_wait_s


def test_no_load_waits_for_nothing_and_too_much_for_ever() -> None:
    assert tail_wait_s(3, 0.0, 0.1, 0.95) == 0.0
    assert tail_wait_s(3, 30.0, 0.1, 0.95) == math.inf


def test_thousands_of_units_are_counted_too() -> None:
    """Below the smallest float the share that waits is 0, whose logarithm there isn't."""
    assert tail_wait_s(60_000, 19_160.0, 0.1, 0.95) == 0.0
    assert 1916 < least_units(19_160.0, 0.1, 0.01, 0.95) < 2100


@pytest.mark.parametrize("load", [0.5, 7.0, 300.0, 1900.0, 5000.0])
def test_more_units_never_wait_longer(load: float) -> None:
    waits = [tail_wait_s(math.ceil(load * factor) + 1, load, 1.0, 0.95) for factor in (1.0, 1.05, 1.2, 2.0, 5.0)]
    assert waits == sorted(waits, reverse=True)
