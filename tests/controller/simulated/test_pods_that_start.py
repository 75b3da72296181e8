"""Pods that take a minute or two to serve: what is on its way is not asked for again (K3 of a real API server's findings)."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit_controller.core.policies import GROUPED, POLICIES
from recsplit_controller.forecast import named
from recsplit_controller.simulated.plant import Part, Plant
from recsplit_controller.simulated.play import Played, controlled, play
from recsplit_controller.simulated.station import Units
from recsplit_controller.values.decision import Action
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Role, Settings, Target

SERVICE_S, BEFORE, AFTER, BOUND_MS = 0.04, 40.0, 100.0, 200.0
#: So many keep each busy for 60 % of the time at 100/s.
NEEDED = math.ceil(AFTER * SERVICE_S / Settings().busy_share)
CASES: list[tuple[str, Role]] = [("utilization", "dense"), ("latency", "dense"), ("elasticrec", "dense"), ("elasticrec", "shard")]


def stepped(policy: str, role: Role, start_s: float, spread: float = 0.5, seed: int = 0) -> Played:
    """40/s, and after two minutes 100/s for a quarter of an hour, on pods that serve `start_s` after they were asked for."""
    asked = Settings(policy=policy, forecaster="last_max", bound_ms=BOUND_MS)
    target = Target("dense", "shop_dense", role, "replica", 1, 40)
    part = Part(target, Units(SERVICE_S, spread, start_s, blocks=False), 3)
    rates = np.concatenate([np.full(120, BEFORE), np.full(900, AFTER)])
    return play(rates, [part], controlled(asked, named("last_max"), (target,)), bound_ms=BOUND_MS, seed=seed)


@pytest.mark.parametrize(("policy", "role"), CASES)
@pytest.mark.parametrize("start_s", [1.0, 10.0, 60.0, 120.0])
def test_no_more_than_a_third_too_many_are_asked_for(policy: str, role: Role, start_s: float) -> None:
    played = stepped(policy, role, start_s)
    assert played.units.max() <= 1.3 * NEEDED
    assert played.units[-1] >= AFTER * SERVICE_S, "and enough in the end"


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "role"), CASES)
@given(start_s=st.floats(0, 200), spread=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 100))
@settings(max_examples=25)
def test_nor_of_any_other_pods(policy: str, role: Role, start_s: float, spread: float, seed: int) -> None:
    assert stepped(policy, role, start_s, spread, seed).units.max() <= 1.5 * NEEDED


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 90)), min_size=1, max_size=12), st.floats(0, 60))
def test_units_that_start_are_asked_for_and_do_not_serve(steps: list[tuple[int, int]], start_s: float) -> None:
    """The contract of every actuator, of the simulated one: serving never exceeds asked while units come, and becomes it in time."""
    target = Target("dense", "shop_dense", "dense", "replica", 1, 40)
    plant = Plant([Part(target, Units(start_s=start_s, blocks=False))], bound_ms=BOUND_MS)
    at_s = 0.0
    for count, seconds in steps:
        plant.begin(Action("scale", "dense", count, at_s, "a test's"))
        known = plant.counts()["dense"]
        assert known.asked == count and known.serving is not None and known.serving <= count
        at_s += seconds
        plant.advance(np.zeros(0), np.zeros((2, 0)), at_s)
        known = plant.counts()["dense"]
        assert known == Count(known.serving, count)
        if seconds >= start_s:
            assert known.serving == count


def test_every_policy_is_tried() -> None:
    assert {policy for policy, _ in CASES} == set(POLICIES) - GROUPED
