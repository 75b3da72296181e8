"""The policy variants: which of a group's targets run, in the controller and on simulated servers."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit.errors import InputError
from recsplit_controller.core.decide import decide
from recsplit_controller.core.flow import Flow
from recsplit_controller.core.load import Context
from recsplit_controller.core.memory import Memory
from recsplit_controller.core.policies import policy_of
from recsplit_controller.core.policies.variants import variants
from recsplit_controller.core.queueing import least_units, most_arrivals
from recsplit_controller.forecast import named
from recsplit_controller.forecast.forecaster import Floats
from recsplit_controller.simulated.plant import Part
from recsplit_controller.simulated.play import Played, controlled, play
from recsplit_controller.simulated.station import Units
from recsplit_controller.values.decision import Decision
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import GroupBounds, Settings, Target

pytest.importorskip("scipy")
BOUND_MS = 400.0
EXACT = Target("exact", "shop_exact", "front", "replica", 0, 12, max_qps=10.0, group="shop", accuracy=0.80)
SMALL = Target("small", "shop_small", "front", "replica", 0, 12, max_qps=50.0, group="shop", accuracy=0.78)
GROUP = (EXACT, SMALL)
ASKED = Settings(policy="variants", forecaster="last_max", bound_ms=BOUND_MS, groups={"shop": GroupBounds(cores=12)}, cores_cost=0.01)


def context(rate: float, exact: Count, small: Count, asked: Settings = ASKED, targets: tuple[Target, ...] = GROUP) -> Context:
    total = (exact.serving or 0) + (small.serving or 0)
    models = {
        target.model: Series(requests=rate * (count.serving or 0) / total, busy=0.1, waiting=0.0, pending=0.0)
        for target, count in zip(targets, (exact, small), strict=True)
    }
    seen = Observation(100.0, 99.0, "shop", models, {"exact": exact, "small": small})
    return Context(asked, targets, seen, {"group shop": Flow(rate, rate, queued=False)})


def test_the_most_accurate_runs_alone_where_it_can_and_others_take_what_it_cannot() -> None:
    light = variants(context(30, Count.steady(4), Count.steady(0)))
    assert (light["exact"].weight, light["small"].weight) == (1.0, 0.0)
    assert light["exact"].units == least_units(30, 0.1, (0.65 * BOUND_MS - 100) / 1000, 0.95) and light["small"].units == 0
    heavy = variants(context(200, Count.steady(4), Count.steady(0)))
    assert 0 < (heavy["exact"].weight or 0) < 1 and heavy["small"].units >= 1
    assert heavy["exact"].units + heavy["small"].units <= 12
    assert (heavy["exact"].weight or 0) + (heavy["small"].weight or 0) == pytest.approx(1)


def test_what_no_choice_carries_is_said_and_as_much_as_can_be_runs() -> None:
    wishes = variants(context(5000, Count.steady(4), Count.steady(0)))
    assert (wishes["exact"].units, wishes["small"].units) == (0, 12)
    assert "no choice carries it on 12 cores" in wishes["small"].reason


def test_a_worker_that_must_be_there_but_is_sent_nothing_costs_no_core() -> None:
    group = tuple(dataclasses.replace(target, unit="worker", minimum=1) for target in GROUP)
    asked = dataclasses.replace(ASKED, groups={"shop": GroupBounds(cores=2)})
    wishes = variants(context(60, Count(1, 1, weight=0.0), Count(1, 1, weight=1.0), asked, group))
    assert (wishes["exact"].units, wishes["small"].units) == (0, 2), "two cores of the small one are all that carries it"


def test_without_a_bound_a_share_of_what_a_unit_sustains_is_planned_with() -> None:
    free = dataclasses.replace(ASKED, bound_ms=None)
    assert variants(context(40, Count.steady(1), Count.steady(0), free))["exact"].units == 5


def test_what_is_not_known_of_the_load_is_no_opinion() -> None:
    unseen = context(30, Count.steady(4), Count.steady(1))
    models = {**unseen.observation.models, "shop_small": Series()}
    assert variants(dataclasses.replace(unseen, observation=dataclasses.replace(unseen.observation, models=models))) == {}
    assert variants(dataclasses.replace(unseen, flows={})) == {}


@pytest.mark.parametrize("lacks", ["group", "accuracy", "max_qps"])
def test_targets_that_lack_what_it_needs_are_refused(lacks: str) -> None:
    with pytest.raises(InputError, match=f"needs {lacks} of 'small'"):
        policy_of(ASKED, (EXACT, dataclasses.replace(SMALL, minimum=1, **{lacks: None})))  # type: ignore[arg-type]


@given(st.integers(1, 40), st.floats(0.001, 1), st.floats(0.001, 2), st.sampled_from([0.5, 0.95, 0.99]))
def test_most_arrivals_is_the_other_way_round_of_least_units(units: int, service_s: float, wait_s: float, share: float) -> None:
    most = most_arrivals(units, service_s, wait_s, share)
    assert most <= units / service_s
    if most > 1e-6:
        assert least_units(most * 0.999, service_s, wait_s, share) <= units
    if least_units(most * 1.001 + 1e-9, service_s, wait_s, share) <= units:
        assert most * 1.001 >= 0.999 * units / service_s, "or they are as good as full"


def judged(exact: Count, small: Count, rate: float, *, ticks: int) -> dict[str, Decision]:
    """What is decided at the last of so many ticks of 5 s at which nothing moved."""
    memory, decisions = Memory(), tuple[Decision, ...]()
    for tick in range(ticks):
        seen = dataclasses.replace(context(rate, exact, small).observation, at_s=5.0 * tick, data_s=5.0 * tick)
        memory, decisions = decide(ASKED, named("last_max"), GROUP, memory, seen)
    return {decision.target: decision for decision in decisions}


def test_what_others_carry_is_given_up_without_a_delay_and_what_nobody_carries_is_not() -> None:
    """At 200/s the small ones serve and have their share: the exact that were there before go at once, though fewer of them were wished for
    just now."""
    wished = variants(context(200, Count.steady(12), Count.steady(0)))
    small, share = int(wished["small"].units), wished["small"].weight or 0.0
    turned = Count(12, 12, weight=1 - share), Count(small, small, weight=share)
    before = judged(Count(12, 12, weight=1.0), Count(0, small, weight=0.0), 200, ticks=14)
    assert before["exact"].wanted == 12
    assert (judged(*turned, 200, ticks=14)["exact"].wanted or 0) < 12
    fewer = judged(Count(12, 12, weight=1.0), Count(0, 0, weight=0.0), 30, ticks=3)
    assert fewer["exact"].wanted == 12 and "fewer after 60 s" in fewer["exact"].reason
    assert (judged(Count(12, 12, weight=1.0), Count(0, 0, weight=0.0), 30, ticks=14)["exact"].wanted or 0) < 12


def played(rates: Floats, asked: Settings = ASKED, *, exact: int = 5, seed: int = 0) -> Played:
    parts = [
        Part(EXACT, Units(0.1, start_s=10, blocks=False, resize_s=1.0), exact, 1.0),
        Part(SMALL, Units(0.02, start_s=10, blocks=False, resize_s=1.0), 0, 0.0),
    ]
    return play(rates, parts, controlled(asked, named("last_max"), GROUP), bound_ms=BOUND_MS, seed=seed)


def test_a_burst_is_carried_by_the_small_one_and_given_back() -> None:
    rates = np.concatenate([np.full(180, 30.0), np.full(300, 250.0), np.full(420, 30.0)])
    run = played(rates)
    assert run.queries == pytest.approx(rates.sum()) and sum(run.served_by.values()) <= run.queries
    share = run.served_by["exact"] / sum(run.served_by.values())
    assert 0.1 < share < 0.9, "both had their part"
    during, after = run.by_target["small"][60], run.by_target["small"][-1]
    assert during > 0 and after == 0, "it is gone when the burst is"
    assert run.by_target["exact"][-1] + run.by_target["small"][-1] <= 7
    assert run.miss_share < 0.08


@given(rate=st.floats(5, 400), seed=st.integers(0, 50))
@settings(max_examples=5)
def test_a_constant_load_settles(rate: float, seed: int) -> None:
    """After five minutes the two counts move in no more than a few ticks of the next ten."""
    run = played(np.full(900, rate), seed=seed)
    late = np.stack([run.by_target["exact"][60:], run.by_target["small"][60:]])
    assert int((np.diff(late, axis=1) != 0).any(axis=0).sum()) <= 12
    assert run.missed[-1] - run.missed[60] <= 0.02 * rate * 600
