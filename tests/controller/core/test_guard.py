"""The guard and the whole decision: bounds, delays, steps, missing data, saturation; and that constant load gives constant counts."""

import dataclasses
import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit_controller.core.decide import decide
from recsplit_controller.core.guard import guard
from recsplit_controller.core.memory import Memory
from recsplit_controller.core.policies import GROUPED, POLICIES
from recsplit_controller.forecast import named
from recsplit_controller.values.decision import Decision, Wish
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Settings, Target
from tests.controller.simulated.simple_group import TICK_S, Plant

#: `variants` chooses among the targets of a group (test_choosing_variants.py).
OF_STEPS = [policy for policy in POLICIES if policy not in GROUPED]

DENSE = Target("dense", "shop_dense", "dense", maximum=20)
EMBEDDING = Target("embedding", "shop_embedding", "embedding")
IDLE = Series(requests=1.0, busy=0.1, waiting=0.0, pending=0.0)


def seen(at_s: float, count: int | None, series: Series = IDLE, *, data_s: float | None = None) -> Observation:
    return Observation(at_s, at_s if data_s is None else data_s, "shop", {"shop_dense": series}, {"dense": Count.steady(count)})


def judge(
    wishes: Sequence[float | None], count: int, asked: Settings | None = None, series: Series = IDLE, target: Target = DENSE
) -> list[Decision]:
    """Decisions at ticks of 5 s, each obeyed at once."""
    memory, decisions = Memory(), []
    for tick, units in enumerate(wishes):
        given_wishes = {} if units is None else {"dense": Wish(units, "a wish")}
        memory, (decision,) = guard(asked or Settings(), [target], memory, seen(5.0 * tick, count, series), given_wishes)
        count = decision.wanted or count
        decisions.append(decision)
    return decisions


def wanted_counts(decisions: list[Decision]) -> list[int | None]:
    return [decision.wanted for decision in decisions]


series = st.builds(
    Series,
    **{
        name: st.none() | st.floats(0, 1e6) | st.sampled_from([float("nan"), float("inf")])
        for name in ("requests", "busy", "waiting", "pending", "offered", "mean_ms", "p95_ms")
    },
)


@pytest.mark.parametrize("policy", OF_STEPS)
@given(
    ticks=st.lists(
        st.tuples(series, series, series, st.none() | st.integers(0, 60), st.none() | st.integers(0, 60), st.floats(0, 60)),
        min_size=1,
        max_size=12,
    ),
    minimum=st.integers(1, 5),
    extra=st.integers(0, 20),
)
@settings(max_examples=50)
def test_whatever_is_seen_nothing_outside_the_bounds_is_wanted_but_what_runs(
    policy: str, ticks: list[tuple[Series, Series, Series, int | None, int | None, float]], minimum: int, extra: int
) -> None:
    targets = [dataclasses.replace(target, minimum=minimum, maximum=minimum + extra) for target in (EMBEDDING, DENSE)]
    asked = Settings(policy=policy, bound_ms=10.0)
    memory = Memory()
    for tick, (shop, embedding, dense, *counts, age_s) in enumerate(ticks):
        models = {"shop": shop, "shop_embedding": embedding, "shop_dense": dense}
        observation = Observation(
            5.0 * tick, 5.0 * tick - age_s, "shop", models, {"embedding": Count.steady(counts[0]), "dense": Count.steady(counts[1])}
        )
        before = memory
        memory, decisions = decide(asked, named(asked.forecaster), targets, memory, observation)
        assert decide(asked, named(asked.forecaster), targets, before, observation) == (memory, decisions)
        for target, decision, count in zip(targets, decisions, counts, strict=True):
            assert decision.wanted == count or target.minimum <= (decision.wanted or 0) <= target.maximum


loads = {"rate": st.floats(0.5, 150), "count": st.integers(1, 20), "seed": st.integers(0, 1000)}


def settles(policy: str, rate: float, count: int, seed: int) -> None:
    """Five percent of noise to either side. After ten minutes, no count is changed to and fro."""
    plant = Plant(
        Settings(policy=policy, bound_ms=200.0, window_s=TICK_S),
        (EMBEDDING, DENSE),
        {"embedding": 0.005, "dense": 0.05},
        {"embedding": 1, "dense": count},
    )
    noise = random.Random(seed)
    plant.run(120, lambda _: rate * noise.uniform(0.95, 1.05))
    later = plant.run(240, lambda _: rate * noise.uniform(0.95, 1.05))
    for counts in zip(*later, strict=True):
        directions = {after > before for before, after in itertools.pairwise(counts) if after != before}
        assert len(directions) <= 1, counts


@pytest.mark.parametrize("policy", OF_STEPS)
@given(**loads)
@settings(max_examples=10)
def test_constant_load_with_noise_settles_and_stays(policy: str, rate: float, count: int, seed: int) -> None:
    settles(policy, rate, count, seed)


@pytest.mark.slow  # the same, of more loads
@pytest.mark.parametrize("policy", OF_STEPS)
@given(**loads)
@settings(max_examples=100)
def test_many_constant_loads_with_noise_settle_and_stay(policy: str, rate: float, count: int, seed: int) -> None:
    settles(policy, rate, count, seed)


@pytest.mark.parametrize("policy", OF_STEPS)
def test_four_times_the_load_and_back_is_followed(policy: str) -> None:
    plant = Plant(
        Settings(policy=policy, bound_ms=200.0, window_s=TICK_S),
        (EMBEDDING, DENSE),
        {"embedding": 0.005, "dense": 0.05},
        {"embedding": 1, "dense": 1},
    )
    counts = plant.run(100, lambda tick: 48.0 if 10 <= tick < 40 else 12.0)
    assert counts[14][1] >= 3, "within five ticks there is enough for 48/s of 50 ms"
    assert plant.pending["dense"] == 0
    assert counts[99][1] < max(dense for _, dense in counts)


def test_more_is_given_at_once_and_in_steps() -> None:
    assert wanted_counts(judge([15, 15, 15], 1)) == [4, 15, 15]


def test_more_waits_as_long_as_is_asked() -> None:
    assert wanted_counts(judge([3, 4, 3, 3], 1, Settings(upscale_delay_s=10))) == [1, 1, 3, 3]


def test_fewer_waits_and_then_goes_to_the_most_that_was_wished_meanwhile() -> None:
    assert wanted_counts(judge([2, 5, 2] + [2] * 11, 8)) == [8] * 12 + [5, 5]


def test_one_moment_of_need_starts_the_wait_again() -> None:
    assert wanted_counts(judge([2] * 11 + [8] + [2] * 12, 8))[-1] == 8


def test_no_more_than_half_is_given_up_at_once() -> None:
    counts = wanted_counts(judge([1] * 14, 8))
    assert counts[-1] == 4


def test_a_wish_within_the_tolerance_changes_nothing() -> None:
    assert wanted_counts(judge([10.9], 10)) == [10]
    assert wanted_counts(judge([11.1], 10)) == [12]


def test_nothing_is_taken_from_a_saturated_target() -> None:
    full = Series(requests=80.0, busy=3.9, waiting=6.0, pending=6.0)
    decisions = judge([1.0] * 30, 4, series=full)
    assert {decision.wanted for decision in decisions} == {4}
    assert decisions[-1].saturated
    assert "saturated" in decisions[-1].reason


def test_no_fewer_are_kept_than_carry_what_is_busy_now() -> None:
    decisions = judge([1.0] * 14, 6, series=Series(requests=80.0, busy=4.0, waiting=0.0, pending=0.0))
    assert decisions[-1].wanted == 5


@pytest.mark.parametrize("data_s", [-100.0, None])
def test_old_or_no_data_holds_everything_and_says_so(data_s: float | None) -> None:
    """What was asked for stays, by whoever: by the tick before, or by somebody's hand."""
    memory, (first,) = guard(Settings(), [DENSE], Memory(), seen(0, 2), {"dense": Wish(4, "much")})
    assert first.wanted == 4
    for count in (Count(2, 4), Count(6, 6), Count(3, 9, floor=2)):
        observation = dataclasses.replace(seen(5, 2), data_s=data_s, counts={"dense": count})
        memory, (held,) = guard(Settings(), [DENSE], memory, observation, {"dense": Wish(1, "little")})
        assert held.wanted == count.present
        assert held.reason.startswith("held")


def test_what_somebody_else_asked_for_is_gone_on_from() -> None:
    """Six by hand where two were wanted: no step back to two, but down by the guard's own steps and delays."""
    memory, _ = guard(Settings(), [DENSE], Memory(), seen(0, 2), {"dense": Wish(2, "as it is")})
    counts = []
    for tick in range(1, 30):
        memory, (decision,) = guard(Settings(), [DENSE], memory, seen(5.0 * tick, 6), {"dense": Wish(2, "as it is")})
        counts.append(decision.wanted)
    assert counts[:12] == [6] * 12 and counts[12] == 3


def test_an_autoscalers_floor_is_moved_and_what_it_adds_is_not_ours() -> None:
    settings, replicas = Settings(downscale_delay_s=0), [dataclasses.replace(DENSE, unit="replica")]
    for count, units, wanted in ((Count(5, 5, floor=2), 4.0, 4), (Count(5, 5, floor=4), 1.5, 2), (Count(5, 5, floor=4), 4.0, 4)):
        observation = dataclasses.replace(seen(0, 5), counts={"dense": count})
        _, (decision,) = guard(settings, replicas, Memory(), observation, {"dense": Wish(units, "load")})
        assert decision.wanted == wanted


def test_a_step_is_a_multiple_of_what_serves_not_of_what_is_on_its_way() -> None:
    observation = dataclasses.replace(seen(0, 3), counts={"dense": Count(2, 7)})
    _, (decision,) = guard(Settings(), [DENSE], Memory(), observation, {"dense": Wish(19, "much")})
    assert decision.wanted == 8


def test_without_an_opinion_or_a_count_it_is_held() -> None:
    assert wanted_counts(judge([None, float("nan")], 3)) == [3, 3]
    _, (unknown,) = guard(Settings(), [DENSE], Memory(), seen(0, None), {"dense": Wish(4, "much")})
    assert unknown.wanted is None


def test_a_gap_in_the_data_begins_the_wait_again() -> None:
    assert wanted_counts(judge([1.0] * 11 + [None] + [1.0] * 5, 4))[-1] == 4


def test_what_runs_outside_its_bounds_is_brought_back() -> None:
    assert wanted_counts(judge([30.0], 25)) == [20]
    assert wanted_counts(judge([1.0], 2, target=dataclasses.replace(DENSE, minimum=3))) == [3]


WAITING = Series(requests=80.0, busy=0.8, waiting=0.0, pending=3.0)


def test_where_requests_wait_for_instances_of_one_server_the_step_is_the_longest_there_is() -> None:
    """Triton takes the next step only when none wait any more (decision 0012), whatever the policy saw so far."""
    (decision,) = judge([1.4], 1, series=WAITING)
    assert decision.wanted == DENSE.maximum
    assert "the most, since requests wait" in decision.reason
    (as_replicas,) = judge([1.4], 1, series=WAITING, target=dataclasses.replace(DENSE, unit="replica"))
    assert as_replicas.wanted == 2
    assert wanted_counts(judge([1.4], 1)) == [2]
    assert wanted_counts(judge([1.0], 1, series=WAITING)) == [1], "nothing more is wished for"
    assert wanted_counts(judge([1.4], 1, Settings(upscale_delay_s=30.0), WAITING)) == [1], "the user's delay holds"


def test_the_longest_step_fits_into_the_cores() -> None:
    observation = Observation(
        0.0, 0.0, "shop", {"shop_dense": WAITING, "shop_embedding": IDLE}, dict.fromkeys(("dense", "embedding"), Count.steady(1))
    )
    wishes = {"dense": Wish(1.4, "a wish"), "embedding": Wish(0.5, "a wish")}
    _, decisions = guard(Settings(cores=6.0), [DENSE, EMBEDDING], Memory(), observation, wishes)
    assert wanted_counts(list(decisions)) == [5, 1]
