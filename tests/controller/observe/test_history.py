"""What came in before a controller started, out of Prometheus' answers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit_controller.core.flow import flow, remembered
from recsplit_controller.forecast import named
from recsplit_controller.observe import history
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Settings, Target

MODELS = ("shop", "shop_dense")


def answer(model: str, *values: tuple[float, str]) -> list[dict[str, object]]:
    return [{"metric": {"model": model}, "values": [list(value) for value in values]}]


def test_periods_that_lack_count_as_the_one_before_and_the_larger_rate_is_what_came() -> None:
    requests = answer("shop_dense", (120, "5"), (180, "7"), (360, "NaN"), (300, "6")) + answer("other", (120, "9"))
    offered = answer("shop_dense", (180, "8"), (420, "1"))
    known = history.maxima([requests, offered], MODELS, 60.0, 60.0, 7)
    assert known == {"shop_dense": (5.0, 8.0, 8.0, 6.0, 6.0, 1.0)}


@given(st.floats(0, 2e9), st.sampled_from([5.0, 60.0, 3600.0]), st.integers(1, 50_000))
def test_points_are_the_ends_of_full_periods(at_s: float, period_s: float, periods: int) -> None:
    first_s, last_s, count = history.points(at_s, period_s, periods)
    assert at_s - period_s < last_s <= at_s
    assert (last_s - first_s) / period_s == count - 1 < 10_000
    assert first_s % period_s == last_s % period_s == 0


@pytest.mark.parametrize("result", [{}, [{}], [{"metric": {"model": "shop"}}], [{"metric": {"model": "shop"}, "values": [[1]]}], None])
def test_what_is_no_answer_is_said_to_be_none(result: object) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        history.maxima([result], MODELS, 0.0, 60.0, 3)


def test_what_is_no_rate_is_left_out() -> None:
    values = [(60.0 * place, text) for place, text in enumerate(["-1", "Inf", "NaN", "1e999"])]
    assert history.maxima([answer("shop", *values)], MODELS, 0.0, 60.0, 4) == {}


def test_the_forecaster_begins_with_what_came_before() -> None:
    """A day ago at this time 90/s came: that is expected in the first period already."""
    settings, target = Settings(), Target("shop_dense", "shop_dense", "dense")
    forecaster = named("seasonal")
    at_s = 1440 * 60 * 20.0
    yesterday = [20.0] * 1445
    yesterday[5] = 90.0
    rates = remembered(forecaster, yesterday, int(at_s // settings.period_s))
    seen = Observation(at_s, at_s, "shop", {"shop_dense": Series(requests=20.0, busy=1.0)}, {"shop_dense": Count.steady(1)})
    after, begun = flow(settings, forecaster, target, rates, seen)
    assert begun.expected == pytest.approx(90 / 20)
    assert len(after.maxima) == 1445 and math.isfinite(after.largest or math.nan)
