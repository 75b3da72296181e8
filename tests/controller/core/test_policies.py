"""What policies wish: enough for the load, more for more, nothing where the data is missing."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit.errors import InputError
from recsplit_controller.core.flow import Flow
from recsplit_controller.core.load import Context, level_ms
from recsplit_controller.core.memory import Arrival
from recsplit_controller.core.policies import GROUPED, POLICIES, policy_of
from recsplit_controller.core.queueing import least_units
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Settings, Target

#: `variants` chooses among the targets of a group (test_choosing_variants.py).
OF_STEPS = [policy for policy in POLICIES if policy not in GROUPED]

TARGETS = (Target("shop_embedding", "shop_embedding", "embedding"), Target("shop_dense", "shop_dense", "dense"))


def context(policy: str, rate: float, queue: float = 0.0, service_s: float = 0.05, count: int = 4, **more: Series) -> Context:
    models = {
        "shop_embedding": Series(requests=rate, busy=rate * 0.005, waiting=0.0, pending=0.0),
        "shop_dense": Series(requests=rate, busy=rate * service_s, waiting=queue, pending=queue),
    }
    wait_ms = 1000 * queue / rate if rate else 0.0
    level = 5 + 1000 * service_s + wait_ms
    models["shop"] = Series(requests=rate, mean_ms=level, p50_ms=level, p95_ms=level, p99_ms=level)
    seen = Observation(100.0, 99.0, "shop", models | more, {"shop_embedding": Count.steady(2), "shop_dense": Count.steady(count)})
    return Context(Settings(policy=policy, bound_ms=100.0), TARGETS, seen)


@pytest.mark.parametrize("policy", OF_STEPS)
@given(
    rate=st.floats(0.1, 1000),
    more=st.floats(1, 10),
    queue=st.floats(0, 500),
    longer=st.floats(0, 500),
)
def test_more_load_is_never_answered_with_fewer_units(policy: str, rate: float, more: float, queue: float, longer: float) -> None:
    """Monotone: a larger rate with the same queue time, and a longer queue at the same rate."""
    wish = POLICIES[policy]
    less = wish(context(policy, rate, queue))["shop_dense"].units
    assert wish(context(policy, rate * more, queue * more))["shop_dense"].units >= less - 1e-6
    assert wish(context(policy, rate, queue + longer))["shop_dense"].units >= less - 1e-6


@pytest.mark.parametrize("policy", OF_STEPS)
@pytest.mark.parametrize("field", ["requests", "busy"])
def test_what_is_missing_is_no_opinion_rather_than_zero(policy: str, field: str) -> None:
    known = context(policy, 10)
    dense = dataclasses.replace(known.observation.models["shop_dense"], **{field: None})
    wishes = POLICIES[policy](context(policy, 10, shop_dense=dense))
    assert "shop_embedding" in wishes
    # ElasticRec's dense model is sized by the ensemble's latency alone.
    assert ("shop_dense" in wishes) == (policy == "elasticrec")


@pytest.mark.parametrize("policy", ["latency", "elasticrec"])
def test_a_percentile_that_is_missing_is_no_opinion_on_latency(policy: str) -> None:
    assert "shop_dense" not in POLICIES[policy](context(policy, 10, shop=Series(requests=10)))


def test_requests_that_wait_while_none_ends_are_not_taken_for_an_idle_model() -> None:
    stuck = Series(requests=0.0, busy=0.0, waiting=0.0, pending=7.0)
    assert "shop_dense" not in POLICIES["utilization"](context("utilization", 10, shop_dense=stuck))


def test_an_idle_model_is_given_as_little_as_there_is() -> None:
    for policy in (POLICIES[name] for name in OF_STEPS):
        settings = context("latency", 0)
        assert policy(settings)["shop_dense"].units <= 1


def test_a_breach_is_attributed_to_the_step_that_waits() -> None:
    wishes = POLICIES["latency"](context("latency", 20, queue=10))
    assert wishes["shop_dense"].units >= 5
    assert "waits most" in wishes["shop_dense"].reason
    assert wishes["shop_embedding"].units == 2
    assert "shop_dense causes it" in wishes["shop_embedding"].reason


def test_a_queue_that_shrinks_is_no_reason_for_one_more_each_tick() -> None:
    less = Flow(20.0, 20.0, queued=True)
    drains = dataclasses.replace(context("latency", 40, queue=20), flows={"shop_embedding": less, "shop_dense": less})
    assert POLICIES["latency"](drains)["shop_dense"].units == pytest.approx(4, rel=0.1), "what the guard tolerates"
    assert "shrinks" in POLICIES["latency"](drains)["shop_dense"].reason


def test_a_breach_without_a_queue_asks_for_nothing_that_would_not_help() -> None:
    wishes = POLICIES["latency"](context("latency", 10, service_s=0.09))
    assert wishes["shop_dense"].units == 4
    assert "would not help" in wishes["shop_dense"].reason


def test_a_percentile_of_the_last_minute_does_not_count_when_queues_are_gone() -> None:
    after = context("latency", 20, shop=Series(requests=20, mean_ms=55, p95_ms=4000))
    assert level_ms(after) == pytest.approx(55)
    assert "causes" not in POLICIES["latency"](after)["shop_dense"].reason


def test_the_whole_pipeline_follows_what_comes_in_rather_than_what_the_slow_step_lets_through() -> None:
    held_up = context("utilization", 20, queue=100)
    growing = dataclasses.replace(held_up, flows={"shop_embedding": Flow(80.0, 80.0, queued=True)})
    assert POLICIES["utilization"](growing)["shop_dense"].units >= 80 * 0.05 / 0.6


def test_elasticrec_gives_lookups_by_measured_throughput_and_the_dense_model_by_latency() -> None:
    known = context("elasticrec", 100, queue=20)
    targets = (dataclasses.replace(TARGETS[0], max_qps=50.0), TARGETS[1])
    wishes = POLICIES["elasticrec"](dataclasses.replace(known, targets=targets))
    assert wishes["shop_embedding"].units == pytest.approx(100 / (50 * 0.8))
    assert wishes["shop_dense"].units == pytest.approx(least_units(100, 0.05, 0.015, 0.95) + 12 * 0.05 / 10), (
        "what the load can make use of"
    )
    assert "would be idle" in wishes["shop_dense"].reason
    front = dataclasses.replace(known, targets=(Target("shop_dense", "shop", "front", "replica"),))
    assert POLICIES["elasticrec"](front)["shop_dense"].units == pytest.approx(4 * 255 / 65), "of a front that isn't known"


@pytest.mark.parametrize("policy", OF_STEPS)
def test_what_is_on_its_way_is_not_asked_for_again(policy: str) -> None:
    """Latency and queue are as they were when it was asked for; a minute later they are worse, and more would not come sooner."""
    late = context(policy, 100, queue=600)
    counts = {"shop_embedding": Count.steady(2), "shop_dense": Count(4, 12)}
    arrivals = {"shop_dense": Arrival(4, 40.0)}
    waiting = dataclasses.replace(late, observation=dataclasses.replace(late.observation, counts=counts), arrivals=arrivals)
    assert POLICIES[policy](waiting)["shop_dense"].units <= 12


def test_a_forecast_counts_where_it_is_above_what_comes_now() -> None:
    now = context("utilization", 20)
    expected = dataclasses.replace(now, flows={"shop_dense": Flow(20.0, 20.0, queued=False, expected=2.0)})
    assert POLICIES["utilization"](expected)["shop_dense"].units == pytest.approx(2 * 20 * 0.05 / 0.6)


def test_a_policy_that_lacks_its_bound_is_a_mistake_of_the_user() -> None:
    with pytest.raises(InputError, match="bound_ms"):
        policy_of(Settings(policy="latency"), TARGETS)
    with pytest.raises(InputError, match="no policy"):
        policy_of(Settings(policy="latancy"), TARGETS)


def test_replicas_with_several_instances_are_as_many_fewer() -> None:
    one = context("utilization", 100)
    two = dataclasses.replace(one, targets=(TARGETS[0], dataclasses.replace(TARGETS[1], instances=2)))
    assert POLICIES["utilization"](two)["shop_dense"].units == pytest.approx(POLICIES["utilization"](one)["shop_dense"].units / 2)


def test_elasticrec_sizes_a_front_by_the_ensembles_latency() -> None:
    known = context("elasticrec", 100, queue=20)
    front = dataclasses.replace(known, targets=(Target("shop_dense", "shop", "front", "replica"),))
    assert POLICIES["elasticrec"](front)["shop_dense"].units > 4
