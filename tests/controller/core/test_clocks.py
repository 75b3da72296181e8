"""A clock that is set neither holds a decision up nor makes one: delays begin again, and what grows is seen to grow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit_controller.core.elapsed import begun, within, yet_to_come
from recsplit_controller.core.policies import GROUPED, POLICIES
from recsplit_controller.core.reconcile import LONGEST_PAUSE_S, State, reconcile
from recsplit_controller.values.decision import Decision, Outcome
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Settings, Target
from tests.controller.simulated.simple_group import TICK_S, Plant

#: `variants` chooses among the targets of a group (test_choosing_variants.py).
OF_STEPS = [policy for policy in POLICIES if policy not in GROUPED]

DENSE = Target("dense", "shop_dense", "dense", maximum=20)
EMBEDDING = Target("embedding", "shop_embedding", "embedding")


def counts(policy: str, jump_s: float, jump_tick: int, ticks: int = 120) -> list[int]:
    """The dense model's counts under four times the load from tick 10 to 40, with a clock that is set at a tick."""
    settings = Settings(policy=policy, bound_ms=200.0, window_s=TICK_S)
    plant = Plant(settings, (EMBEDDING, DENSE), {"embedding": 0.005, "dense": 0.05}, {"embedding": 1, "dense": 1})
    after = []
    for tick in range(ticks):
        plant.at_s += jump_s if tick == jump_tick else 0.0
        plant.tick(48.0 if 10 <= tick < 40 else 12.0)
        after.append(plant.counts["dense"])
    return after


@pytest.mark.parametrize("policy", OF_STEPS)
@pytest.mark.parametrize("jump_s", [-120.0, -7200.0, 600.0])
@pytest.mark.parametrize("jump_tick", [9, 11, 41, 47])
def test_what_is_decided_is_as_if_it_had_not_been_set(policy: str, jump_s: float, jump_tick: int) -> None:
    usual, jumped = counts(policy, 0.0, 0), counts(policy, jump_s, jump_tick)
    assert max(jumped[10:16]) >= 3, "growth is followed at once"
    assert jumped[-1] == usual[-1]
    fell, fell_usually = (next(tick for tick in range(41, 120) if each[tick] < each[tick - 1]) for each in (jumped, usual))
    assert fell <= fell_usually + 60 / TICK_S + 1, "a delay that began before may begin again, and is no longer than it is"


@given(st.floats(-1e6, 1e6), st.floats(0, 1e5))
def test_after_a_refusal_it_is_asked_again_within_the_longest_pause_by_any_clock(jump_s: float, begun_s: float) -> None:
    decision = Decision("dense", begun_s, Count.steady(1), None, 4, "because")
    state, (action,) = reconcile(State(), [DENSE], [decision], [], {}, begun_s)
    state, _ = reconcile(state, [DENSE], [], [Outcome(action, "no memory", 0.1)], {}, begun_s)
    at_s = begun_s + jump_s
    for _ in range(round(LONGEST_PAUSE_S / TICK_S) + 2):
        state, actions = reconcile(state, [DENSE], [decision], [], {}, at_s)
        if actions:
            return
        at_s += TICK_S
    raise AssertionError("nothing was asked for again")


def test_times_that_a_clock_has_not_reached_are_none() -> None:
    assert begun(100.0, 40.0) == 40.0 and begun(40.0, 100.0) == 40.0
    assert within(100.0, 120.0, 30.0) and not within(100.0, 130.0, 30.0)
    assert not within(100.0, 40.0, 30.0) and not within(None, 40.0, 30.0)
    assert yet_to_come(50.0, 40.0, 300.0)
    assert not yet_to_come(500.0, 40.0, 300.0) and not yet_to_come(30.0, 40.0, 300.0) and not yet_to_come(None, 40.0, 300.0)
