"""What comes in, told from what ends and from queues: right in the mean while a queue grows and while it is worked off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit_controller.core.flow import Flow, flow
from recsplit_controller.core.memory import Rates
from recsplit_controller.forecast import named
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Settings, Target

SETTINGS = Settings(interval_s=2.0, window_s=10.0, period_s=20.0)
DENSE = Target("dense", "dense", "dense")
SERVICE_S = 0.025
THREE = {"dense": Count.steady(3)}
BUSY_LITTLE = Series(requests=1.0, busy=0.1, pending=1.0)


def queue(rates: list[float], capacity: float, window: int = 5) -> list[Observation]:
    """A fluid queue that is given `rates` in ticks of 2 s; what is seen of rates is a mean over the last `window` ticks."""
    waiting, done, seen = 0.0, [], []
    for tick, rate in enumerate(rates):
        ended = min(capacity, rate + waiting / 2)
        waiting = max(0.0, waiting + 2 * (rate - ended))
        done.append(ended)
        mean = sum(done[-window:]) / len(done[-window:])
        dense = Series(requests=mean, busy=mean * SERVICE_S, pending=waiting)
        at_s = 1000.0 + 2 * tick
        seen.append(Observation(at_s, at_s, "shop", {"dense": dense, "shop": Series(requests=mean)}, {"dense": Count.steady(1)}))
    return seen


def flows(seen: list[Observation]) -> list[Flow]:
    rates, tick_flows = Rates(), []
    for observation in seen:
        rates, one = flow(SETTINGS, named(SETTINGS.forecaster), DENSE, rates, observation)
        tick_flows.append(one)
    return tick_flows


def test_without_a_queue_it_is_what_ends() -> None:
    assert flows(queue([20.0] * 10, 40))[-1] == Flow(20.0, 20.0, queued=False)


def test_a_step_up_is_seen_in_full_within_two_ticks_and_its_backlog_is_not_taken_for_load() -> None:
    tick_flows = flows(queue([20.0] * 6 + [80.0] * 6, 40))
    assert tick_flows[5].now == pytest.approx(20)
    assert tick_flows[7].now == pytest.approx(80, rel=0.1)
    worked_off = flows(queue([20.0] * 6 + [80.0] * 3 + [20.0] * 20, 40))
    assert max(one.steady for one in worked_off) <= 81
    assert worked_off[-1].steady == pytest.approx(20)


@given(st.lists(st.floats(5, 35), min_size=12, max_size=12), st.floats(36, 200))
def test_steady_is_the_mean_of_what_came_over_the_window(rates: list[float], burst: float) -> None:
    """Whatever came, and however long it waited: but for the usual queue, which is not counted."""
    given_rates = [*rates[:6], burst, *rates[6:]]
    tick_flows = flows(queue(given_rates, 40))
    # Rates of 5 ticks; the queue's change from the first of them on.
    for tick in range(6, len(given_rates)):
        assert tick_flows[tick].steady == pytest.approx(sum(given_rates[tick - 4 : tick + 1]) / 5, abs=0.5)


def test_the_warm_up_of_new_instances_is_none_of_the_load() -> None:
    seen = Observation(
        0.0, 0.0, "shop", {"dense": Series(requests=127.0, busy=2.0), "shop": Series(requests=80.0)}, {"dense": Count.steady(3)}
    )
    assert flows([seen])[0].steady == 80


def test_what_a_front_offers_counts_where_it_is_more() -> None:
    seen = Observation(0.0, 0.0, "shop", {"dense": Series(requests=10.0, busy=1.0, offered=30.0)}, THREE)
    assert (flows([seen])[0].now, flows([seen])[0].steady) == (30, 30)


def test_a_smaller_count_does_not_look_like_a_queue_that_went() -> None:
    """How long a queue is usual depends on the count."""
    seen = [
        Observation(
            1000.0 + 2 * tick,
            1000.0 + 2 * tick,
            "shop",
            {"dense": Series(requests=1.0, busy=0.1, pending=1.0)},
            {"dense": Count.steady(count)},
        )
        for tick, count in enumerate([8, 8, 4, 2, 1, 1])
    ]
    assert all((one.now, one.steady) == (1.0, 1.0) for one in flows(seen))


def test_instances_that_are_new_are_not_taken_for_ones_that_were_busy() -> None:
    """The queue grew from 58 to 148 in 2 s while one instance of 40/s served it: 85/s came."""
    series = [Series(requests=28.0, busy=0.7, pending=pending) for pending in (58.0, 148.0)]
    seen = [
        Observation(1000.0 + 2 * tick, 1000.0 + 2 * tick, "shop", {"dense": series[tick]}, {"dense": Count.steady((1, 4)[tick])})
        for tick in range(2)
    ]
    assert flows(seen)[-1].now == pytest.approx(85)


@pytest.mark.parametrize(("scrape_s", "tick_s"), [(15, 5), (15, 2), (2, 5), (5, 5)])
def test_a_queue_grows_by_the_times_of_its_samples_not_of_the_looks(scrape_s: int, tick_s: int) -> None:
    """100/s come and 80/s end, so 20 more wait each second; pages are older than looks, and stand still between."""
    seen = []
    for at_s in range(1000, 1200, tick_s):
        sample_s = at_s // scrape_s * scrape_s
        series = Series(requests=80.0, busy=2.0, pending=20.0 * (sample_s - 900))
        whole = Series(requests=80.0)
        seen.append(Observation(at_s, sample_s, "shop", {"dense": series, "shop": whole}, {"dense": Count.steady(2)}, window_s=60.0))
    later = flows(seen)[-10:]
    assert all(one.now == pytest.approx(100) for one in later)
    assert all(one.steady == pytest.approx(100) for one in later)


def test_a_clock_that_was_set_back_is_no_end_of_growth() -> None:
    seen = [
        Observation(at_s, at_s, "shop", {"dense": Series(requests=80.0, busy=2.0, pending=20.0 * look)}, {"dense": Count.steady(2)})
        for look, at_s in enumerate([1000.0, 1002.0, 880.0, 882.0, 884.0])
    ]
    assert flows(seen)[-1].now == pytest.approx(90)  # 20 more in 2 s
