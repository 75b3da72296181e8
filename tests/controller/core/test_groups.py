"""Targets that stand in for each other are decided together: bounds, tolerance, and an order that leaves enough at every moment."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit_controller.core import policies
from recsplit_controller.core.guard import guard
from recsplit_controller.core.load import Context
from recsplit_controller.core.memory import Held, Memory
from recsplit_controller.core.reconcile import State, reconcile
from recsplit_controller.forecast import named
from recsplit_controller.simulated.plant import Part, Plant
from recsplit_controller.simulated.play import controlled, play
from recsplit_controller.simulated.station import Units
from recsplit_controller.values.decision import Decision, Outcome, Wish
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import GroupBounds, Settings, Target

EXACT = Target("exact", "shop_exact", "front", "replica", 0, 12, cores=2.0, max_qps=10.0, group="shop")
SMALL = Target("small", "shop_small", "front", "replica", 0, 12, max_qps=20.0, group="shop")
VARIANTS = (EXACT, SMALL)
IDLE = Series(requests=1.0, busy=0.0, waiting=0.0, pending=0.0)


def seen(at_s: float, exact: Count, small: Count) -> Observation:
    return Observation(at_s, at_s, "shop", {"shop_exact": IDLE, "shop_small": IDLE}, {"exact": exact, "small": small})


def judge(
    exact: Count, small: Count, wishes: Mapping[str, Wish], asked: Settings | None = None, *, ticks: int = 1, memory: Memory | None = None
) -> dict[str, Decision]:
    """What is decided at the last of so many ticks of 5 s at which nothing moved."""
    memory = memory or Memory()
    decisions: tuple[Decision, ...] = ()
    for tick in range(ticks):
        memory, decisions = guard(asked or Settings(), VARIANTS, memory, seen(5.0 * tick, exact, small), wishes)
    return {decision.target: decision for decision in decisions}


def wishes(exact: float, small: float, weight: float | None = None) -> dict[str, Wish]:
    other = None if weight is None else 1 - weight
    return {"exact": Wish(exact, "a test's", weight), "small": Wish(small, "a test's", other)}


def routed(serving: int, weight: float) -> Count:
    return Count(serving, serving, weight=weight)


def test_what_takes_anothers_place_serves_before_the_other_goes() -> None:
    """80/s: eight exact replicas are to become four small ones. A minute of it is the delay of every step down."""
    begun = judge(routed(8, 1.0), routed(0, 0.0), wishes(0, 4, 0.0), ticks=20)
    assert (begun["exact"].wanted, begun["small"].wanted) == (8, 4)
    assert "doesn't serve yet" in begun["exact"].reason or "sends to it" in begun["exact"].reason
    assert (begun["exact"].weight, begun["small"].weight) == (1.0, 0.0)
    half = judge(routed(8, 1.0), Count(2, 4, weight=0.0), wishes(0, 4, 0.0), ticks=20)
    assert (half["exact"].weight, half["small"].weight) == (0.5, 0.5)
    assert half["exact"].wanted == 8, "the router still sends all to it"
    turned = judge(routed(8, 0.5), Count(2, 4, weight=0.5), wishes(0, 4, 0.0), ticks=20)
    assert turned["exact"].wanted == 4, "what the other half of the requests needs"
    ready = judge(routed(4, 0.0), routed(4, 1.0), wishes(0, 4, 0.0), ticks=20)
    assert (ready["exact"].wanted, ready["small"].wanted) == (0, 4)
    most = judge(routed(8, 0.0), routed(2, 1.0), wishes(0, 2, 0.0), ticks=20)
    assert most["exact"].wanted == 2, "a step down is no more than half of the group: of 120/s"


def test_the_last_of_a_target_goes_where_the_others_carry_all() -> None:
    gone = judge(routed(1, 0.0), routed(4, 1.0), wishes(0, 4, 0.0), ticks=20)
    assert gone["exact"].wanted == 0
    stays = judge(routed(1, 0.0), routed(0, 1.0), wishes(0, 0), ticks=20)
    assert stays["exact"].wanted == 1 and "its group has 1 units or more" in stays["exact"].reason


def test_the_bounds_of_a_group_are_those_of_a_group_of_one_too() -> None:
    alone = dataclasses.replace(SMALL, minimum=0)
    memory, decisions = Memory(), tuple[Decision, ...]()
    for tick in range(20):
        observation = dataclasses.replace(seen(5.0 * tick, Count(), Count.steady(1)))
        memory, decisions = guard(Settings(), [alone], memory, observation, {"small": Wish(0.0, "a test's")})
    assert [decision.wanted for decision in decisions] == [1]


def test_a_small_move_of_the_whole_group_changes_nothing() -> None:
    """One of ten replicas is a tenth of the group, though it is the only one of its target."""
    assert judge(Count.steady(9), Count.steady(1), wishes(9, 1.4))["small"].wanted == 1
    assert judge(Count.steady(9), Count.steady(1), wishes(9, 1.6))["small"].wanted == 2
    narrow = Settings(groups={"shop": GroupBounds(tolerance=0.3)})
    assert judge(Count.steady(9), Count.steady(1), wishes(9, 1.6), narrow)["small"].wanted == 1


def test_a_group_keeps_within_its_cores_and_gives_up_what_needs_its_units_least() -> None:
    tight = Settings(groups={"shop": GroupBounds(cores=10.0)})
    begun = judge(Count.steady(4), Count.steady(2), wishes(4, 8), tight)
    assert (begun["exact"].wanted, begun["small"].wanted) == (4, 4), "both are there until the one that grows serves"
    assert "would not fit into the 10 cores of its group" in begun["small"].reason
    within = judge(Count.steady(4), Count.steady(4), wishes(4, 8), tight, ticks=20)
    assert (within["exact"].wanted, within["small"].wanted) == (3, 4)


def test_a_worker_that_must_be_there_and_is_sent_nothing_takes_no_core_of_its_group() -> None:
    """Two cores, and two variants that Triton has loaded: both cores are for the one that gets the requests."""
    exact, small = (dataclasses.replace(target, unit="worker", minimum=1, cores=1.0) for target in VARIANTS)
    tight = Settings(groups={"shop": GroupBounds(cores=2.0)})
    counts = {"exact": Count(1, 1, weight=0.0), "small": Count(1, 1, weight=1.0)}
    observation = dataclasses.replace(seen(0.0, Count(), Count()), counts=counts)
    _, decisions = guard(tight, [exact, small], Memory(), observation, wishes(0, 2, 0.0))
    assert [decision.wanted for decision in decisions] == [1, 2]


def test_what_is_not_known_of_one_holds_all_and_what_is_absent_needs_no_opinion() -> None:
    held = judge(Count(), Count.steady(2), wishes(1, 9))
    assert (held["small"].wanted, held["exact"].wanted) == (2, None)
    assert "held with its group: of exact something isn't known" in held["small"].reason
    alone = {"small": Wish(9, "a test's")}
    assert judge(Count.steady(0), Count.steady(2), alone)["small"].wanted == 8, "four times what serves"
    assert judge(Count.steady(1), Count.steady(2), alone)["small"].wanted == 2, "what runs and has no opinion is another thing"


def test_nothing_is_taken_from_a_group_while_one_of_it_is_saturated() -> None:
    full = Series(requests=10.0, busy=2.0, waiting=9.0, pending=9.0)
    memory, decisions = Memory(), tuple[Decision, ...]()
    for tick in range(20):
        observation = dataclasses.replace(
            seen(5.0 * tick, Count.steady(4), Count.steady(2)), models={"shop_exact": IDLE, "shop_small": full}
        )
        memory, decisions = guard(Settings(), VARIANTS, memory, observation, wishes(1, 2))
    assert [decision.wanted for decision in decisions] == [4, 2]


def test_threads_that_a_policy_decides_are_asked_for() -> None:
    target = Target("dense", "shop_dense", "dense", cores=4.0)
    observation = Observation(0.0, 0.0, "shop", {"shop_dense": IDLE}, {"dense": Count.steady(2)})
    for asked in (Settings(), Settings(cores=8.0)):
        _, decisions = guard(asked, [target], Memory(), observation, {"dense": Wish(2, "a test's", threads=2)})
        _, (action,) = reconcile(State(), [target], decisions, [], {}, 0.0)
        assert (action.count, action.threads) == (2, 2)
    _, (rendered,) = guard(Settings(), [target], Memory(), observation, {"dense": Wish(2, "a test's", threads=4)})
    assert rendered.threads is None


def test_a_router_is_told_of_all_its_targets_at_once_and_again_where_that_failed() -> None:
    decided = judge(routed(8, 1.0), Count(2, 4, weight=0.0), wishes(0, 4, 0.0)).values()
    state, actions = reconcile(State(), VARIANTS, list(decided), [], {}, 0.0)
    (route,) = [action for action in actions if action.kind == "route"]
    assert (route.target, route.weights, route.count) == ("shop", {"exact": 0.5, "small": 0.5}, 10)
    state, again = reconcile(state, VARIANTS, list(decided), [], {}, 5.0)
    assert not [action for action in again if action.kind == "route"], "one is under way"
    state, _ = reconcile(state, VARIANTS, list(decided), [Outcome(route, "away", 1.0)], {}, 6.0)
    assert not [action for action in reconcile(state, VARIANTS, list(decided), [], {}, 7.0)[1] if action.kind == "route"]
    assert [action for action in reconcile(state, VARIANTS, list(decided), [], {}, 20.0)[1] if action.kind == "route"]


def test_a_group_whose_router_is_not_known_has_no_weights() -> None:
    decided = judge(Count.steady(8), Count.steady(0), wishes(0, 4, 0.0))
    assert [decision.weight for decision in decided.values()] == [None, None]


counts = st.integers(0, 12)
moves = st.lists(st.tuples(counts, counts, st.integers(1, 30)), min_size=1, max_size=6)


@given(moves, st.floats(0, 40), st.integers(1, 12), counts)
@settings(max_examples=150)
def test_whatever_is_wished_what_serves_never_falls_below_what_was_and_what_is_to_be(
    moves: list[tuple[int, int, int]], start_s: float, exact: int, small: int
) -> None:
    """In queries a second; and no target is sent a larger part of what is wished for than its units carry, unless it had that already."""
    asked = Settings(downscale_delay_s=10.0)
    units = Units(start_s=start_s, blocks=False)
    plant = Plant([Part(EXACT, units, exact, 1.0), Part(SMALL, units, small, 0.0)], bound_ms=100.0)
    memory, state, at_s = Memory(), State(), 0.0
    for wished_exact, wished_small, ticks in moves:
        if wished_exact + wished_small == 0:
            continue
        need = 10.0 * wished_exact + 20.0 * wished_small
        wished = wishes(wished_exact, wished_small, 10.0 * wished_exact / need)
        for _ in range(ticks):
            before = plant.counts()
            served = sum((before[target.name].serving or 0) * (target.max_qps or 0) for target in VARIANTS)
            memory, decisions = guard(asked, VARIANTS, memory, dataclasses.replace(seen(at_s, Count(), Count()), counts=before), wished)
            state, actions = reconcile(state, VARIANTS, decisions, plant.outcomes(), {}, at_s)
            for action in actions:
                plant.begin(action)
            after = plant.counts()
            serves = sum((after[target.name].serving or 0) * (target.max_qps or 0) for target in VARIANTS)
            assert serves >= min(served, need) - 1e-6
            for target in VARIANTS:
                share, carried = after[target.name].weight or 0.0, (before[target.name].serving or 0) * (target.max_qps or 0.0)
                fair = carried / served if served else 0.0
                assert share <= max(carried / need, fair, before[target.name].weight or 0.0) + 1e-3
            assert sum((after[target.name].asked or 0) for target in VARIANTS) >= 1
            at_s += 5.0
            plant.advance(np.zeros(0), np.zeros((2, 0)), at_s)


def by_load(context: Context) -> Mapping[str, Wish]:
    """As many exact replicas as 30 cores allow; beyond 60/s small ones carry all of it: a policy of variants, for the test below."""
    rate = max(context.flow(target).now for target in context.targets)
    total = sum(context.observation.of(target.model).requests or 0.0 for target in context.targets)
    rate = max(rate, total) / 0.7
    name = "exact" if rate <= 60 else "small"
    units = {"exact": rate / 10.0, "small": rate / 20.0}
    return {target.name: Wish(units[name] if target.name == name else 0.0, "by load", float(target.name == name)) for target in VARIANTS}


def test_variants_take_each_others_place_while_they_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """30/s by exact replicas, then 90/s, for which small ones take their place, and back: queries are late by the rise alone."""
    monkeypatch.setitem(policies.POLICIES, "by_load", by_load)
    asked = Settings(policy="by_load", forecaster="last_max")
    rates = np.concatenate([np.full(300, 30.0), np.full(900, 90.0), np.full(900, 30.0)])
    parts = [
        Part(EXACT, Units(0.1, 0.3, 20.0, blocks=False), 5, 1.0),
        Part(SMALL, Units(0.05, 0.3, 20.0, blocks=False), 0, 0.0),
    ]
    played = play(rates, parts, controlled(asked, named("last_max"), VARIANTS), bound_ms=500.0)
    exact, small = played.by_target["exact"], played.by_target["small"]
    assert small[55] == 0 and exact[55] > 0
    assert exact[235] == 0 and small[235] >= math.ceil(90 / 20)
    assert small[-1] == 0 and exact[-1] >= 3
    late = np.diff(played.missed)
    assert late[60:80].sum() > 0, "the rise finds 30/s of units"
    assert late[85:].sum() <= 0.001 * played.queries


ONE, OTHER = (dataclasses.replace(SMALL, name=name, model=f"shop_{name}", max_qps=10.0) for name in ("one", "other"))


def pair(
    one: Count, other: Count, wished: Mapping[str, Wish], asked: Settings | None = None, *, ticks: int = 30, series: Series = IDLE
) -> tuple[Decision, Decision]:
    """What is decided of two targets of 10/s a unit, at the last of so many ticks at which nothing moved."""
    memory, decisions = Memory(), tuple[Decision, ...]()
    for tick in range(ticks):
        observation = Observation(5.0 * tick, 5.0 * tick, "shop", {"shop_one": series, "shop_other": series}, {"one": one, "other": other})
        memory, decisions = guard(asked or Settings(), (ONE, OTHER), memory, observation, wished)
    return decisions[0], decisions[1]


def two(one: float, other: float, weight: float | None = None) -> dict[str, Wish]:
    return {"one": Wish(one, "a test's", weight), "other": Wish(other, "a test's", None if weight is None else 1 - weight)}


def test_weights_that_are_rounded_or_no_shares_of_the_units_keep_no_unit_for_ever() -> None:
    assert pair(routed(1, 0.3333), routed(3, 0.6667), two(1, 2, 1 / 3))[1].wanted == 2
    assert pair(routed(4, 0.5), routed(8, 0.5), two(4, 2, 0.5))[1].wanted == 2
    one, other = pair(routed(4, 0.996), routed(1, 0.004), two(4, 0, 1.0))
    assert (one.weight, other.weight) == (1.0, 0.0)
    (route,) = reconcile(State(), (ONE, OTHER), (one, other), [], {}, 0.0)[1]
    assert route.weights == {"one": 1.0, "other": 0.0}, "nothing is not next to nothing"


def test_what_is_absent_is_so_whatever_its_router_says_of_it() -> None:
    one, _ = pair(routed(4, 1.0), routed(0, 0.0), {"one": Wish(8, "a test's")})
    assert one.wanted == 8


def test_units_that_end_already_are_none_to_spare() -> None:
    one, _ = pair(Count.steady(4), Count(4, 2), two(2, 4))
    assert one.wanted == 4


def test_a_groups_cores_count_whole_units_and_leave_nothing_over_that_the_router_holds() -> None:
    wide = dataclasses.replace(ONE, cores=2.0, minimum=4)
    _, decisions = guard(
        Settings(groups={"shop": GroupBounds(cores=10.0)}),
        (wide, OTHER),
        Memory(),
        Observation(0.0, 0.0, "shop", {"shop_one": IDLE, "shop_other": IDLE}, {"one": Count.steady(4), "other": Count.steady(1)}),
        two(1, 12),
    )
    assert [decision.wanted for decision in decisions] == [4, 2]
    asked = Settings(groups={"shop": GroupBounds(cores=10.0)})
    one, other = pair(routed(8, 0.5), routed(8, 0.5), two(8, 8, 0.5), asked)
    assert (one.wanted or 0) + (other.wanted or 0) == 10
    full = Series(requests=90.0, busy=8.0, waiting=9.0, pending=9.0)
    one, other = pair(routed(8, 0.5), routed(8, 0.5), two(8, 8, 0.5), asked, series=full)
    assert (one.wanted, other.wanted) == (8, 8), "nothing is taken from what is saturated, for its group's cores either"


def test_the_router_turns_to_what_serves_where_the_rest_is_dead() -> None:
    one, other = pair(Count(0, 8, weight=1.0), routed(4, 0.0), two(8, 0, 1.0))
    assert (one.weight, other.weight) == (0.0, 1.0)
    one, other = pair(Count(1, 8, weight=1.0), routed(4, 0.0), two(8, 0, 1.0))
    assert (one.weight, other.weight) == (0.3, 0.7), "what it carries of its share, and of the rest as every unit does"


def test_what_a_groups_minimum_lacks_stays_where_it_is() -> None:
    one, other = pair(Count.steady(2), Count.steady(2), two(1, 1), Settings(groups={"shop": GroupBounds(minimum=4)}))
    assert (one.wanted, other.wanted) == (2, 2)


def test_weights_that_are_no_parts_of_anything_are_none() -> None:
    wished = {"one": Wish(4, "a test's", -1.0), "other": Wish(4, "a test's", 2.0)}
    assert [each.weight for each in pair(routed(4, 0.5), routed(4, 0.5), wished)] == [0.0, 1.0]
    for odd in (math.nan, math.inf, 0.0, -1.0):
        wished = {"one": Wish(4, "a test's", odd), "other": Wish(4, "a test's", odd)}
        assert [each.weight for each in pair(routed(4, 0.5), routed(4, 0.5), wished)] == [None, None]


def test_a_count_of_which_only_the_floor_is_known_holds() -> None:
    one, other = pair(Count(4, None, floor=2), Count.steady(2), two(1, 1))
    assert (one.wanted, other.wanted) == (2, 2) and "what runs can't be told" in one.reason
    alone = dataclasses.replace(ONE, group=None, minimum=1)
    observation = Observation(0.0, 0.0, "shop", {"shop_one": IDLE}, {"one": Count(4, None, floor=2)})
    _, (decision,) = guard(Settings(), [alone], Memory(), observation, {"one": Wish(1, "a test's")})
    assert decision.wanted == 2 and "what runs can't be told" in decision.reason


def test_what_is_held_while_a_reload_runs_does_not_undo_it() -> None:
    """Threads are given back, and for a tick nothing is seen, while the count still tells the old ones."""
    target = Target("dense", "shop_dense", "dense", cores=4.0)
    memory = Memory(held={"dense": Held(present=1, threads=2, room_s=-100.0)})
    old, new = Count(1, 1, threads=2), Count(1, 1)
    threads = []
    for tick, (count, wish) in enumerate([(old, True), (old, False), (new, True)]):
        observation = Observation(5.0 * tick, 5.0 * tick, "shop", {"shop_dense": IDLE}, {"dense": count})
        memory, (decision,) = guard(Settings(cores=8.0), [target], memory, observation, {"dense": Wish(1, "a test's")} if wish else {})
        threads.append(decision.threads)
    assert threads == [None, 2, None]
