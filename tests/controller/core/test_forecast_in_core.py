"""How the controller uses a forecast: of each period's largest rate, made when the period ends, never for less than comes now."""

import pytest

from recsplit.errors import InputError
from recsplit_controller.core.decide import decide
from recsplit_controller.core.flow import remembered
from recsplit_controller.core.memory import Arrival, Memory
from recsplit_controller.forecast import named
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Settings, Target

TARGET = Target("dense", "dense", "dense", maximum=40)


def seen(at_s: float, rate: float) -> Observation:
    series = Series(requests=rate, busy=rate * 0.04, waiting=0.0, pending=0.0, mean_ms=40.0)
    return Observation(at_s, at_s, "whole", {"dense": series}, {"dense": Count.steady(4)})


def remember(settings: Settings, rates: list[tuple[float, float]]) -> Memory:
    memory = Memory()
    for at_s, rate in rates:
        memory, _ = decide(settings, named(settings.forecaster), (TARGET,), memory, seen(at_s, rate))
    return memory


def test_each_period_leaves_its_largest_rate_and_as_many_as_the_forecaster_uses() -> None:
    rates = [(minute * 60.0 + second, 50.0 + minute + second) for minute in range(60) for second in (0, 20, 40)]
    memory = remember(Settings(forecaster="holt"), rates)
    assert memory.rates["dense"].maxima == tuple(50.0 + minute + 40 for minute in range(49, 59))


def test_a_gap_keeps_the_season_in_step() -> None:
    memory = remember(Settings(forecaster="holt"), [(0, 50), (60, 80), (240, 70), (300, 60)])
    assert memory.rates["dense"].maxima == (50, 80, 80, 80, 70)


def test_what_is_expected_is_provided_for_and_no_less_than_what_comes() -> None:
    settings = Settings(busy_share=0.5)
    wishes = []
    memory = Memory()
    for at_s, rate in [(0, 100), (60, 50), (120, 80)]:
        memory, (decision,) = decide(settings, named(settings.forecaster), (TARGET,), memory, seen(at_s, rate))
        wishes.append(decision.wish)
    assert wishes == [pytest.approx(rate * 0.04 / 0.5) for rate in (100, 100, 80)]


def test_a_forecaster_that_is_none_is_told_before_anything_is_decided() -> None:
    with pytest.raises(InputError, match="oracle"):
        named("oracle")


@pytest.mark.parametrize(("start_s", "minutes_before"), [(0.0, 2), (60.0, 3), (240.0, 6)])
def test_a_burst_of_yesterday_is_provided_for_as_long_before_as_units_take_to_serve(start_s: float, minutes_before: int) -> None:
    """Yesterday 90/s came in minute 30, for a minute; `seasonal` gives a minute more on each side."""
    settings, day = Settings(busy_share=0.5, tolerance=0.0), 1440
    yesterday = [20.0] * (day + 1)
    yesterday[30] = 90.0
    first = 20 * day
    rates = remembered(named("seasonal"), [*[20.0] * day, *yesterday[:-1]], first)
    memory = Memory(rates={"dense": rates}, arrivals={"dense": Arrival(start_s=start_s)})
    begun = []
    for minute in range(40):
        at_s = 60.0 * (first + minute) + 1
        memory, (decision,) = decide(settings, named("seasonal"), (TARGET,), memory, seen(at_s, 20.0))
        begun += [minute] if (decision.wish or 0.0) > 3 else []
    assert begun[0] == 30 - minutes_before + 1
    assert begun[-1] in (30, 31), "and given up when it doesn't come"
