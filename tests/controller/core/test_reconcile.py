"""From wanted to asked for: one action a target, failures with pauses, what hangs isn't repeated, healing first."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from recsplit_controller.core.reconcile import FIRST_PAUSE_S, SETTLE_S, State, reconcile
from recsplit_controller.values.decision import Action, Decision, Outcome
from recsplit_controller.values.observation import Count
from recsplit_controller.values.settings import Target

TARGETS = [Target("dense", "shop_dense", "dense", maximum=50)]
REPLICAS = [Target("dense", "shop_dense", "dense", "replica", maximum=50)]


def decision(count: int | Count | None, wanted_count: int | None, at_s: float = 0.0, threads: int | None = None) -> Decision:
    count = count if isinstance(count, Count) else Count.steady(count)
    return Decision("dense", at_s, count, None, wanted_count, "because", threads=threads)


def test_what_differs_is_asked_for_once_while_it_is_under_way() -> None:
    state, (action,) = reconcile(State(), TARGETS, [decision(1, 4)], [], {}, 0.0)
    assert (action.kind, action.count, action.reason) == ("scale", 4, "because")
    for at_s in (5.0, 1000.0, 100_000.0):
        state, actions = reconcile(state, TARGETS, [decision(1, 6)], [], {}, at_s)
        assert actions == ()
    assert state.progress["dense"].asked_s == 0.0


def test_what_is_as_wanted_or_unknown_asks_for_nothing() -> None:
    for seen, wanted_count in ((2, 2), (None, 2), (2, None)):
        assert reconcile(State(), TARGETS, [decision(seen, wanted_count)], [], {}, 0.0)[1] == ()


def test_a_failure_is_tried_again_after_growing_pauses_and_with_a_smaller_step() -> None:
    state, at_s, asked = State(), 0.0, []
    for _ in range(2000):
        state, actions = reconcile(state, TARGETS, [decision(1, 5)], [], {}, at_s)
        if actions:
            asked.append((at_s, actions[0].count))
            state, _ = reconcile(state, TARGETS, [], [Outcome(actions[0], "no memory", 0.1)], {}, at_s)
        at_s += 1.0
    assert [count for _, count in asked[:4]] == [5, 3, 2, 2]
    pauses = [after - before for (before, _), (after, _) in itertools.pairwise(asked)]
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses[-1] == 300.0
    assert state.progress["dense"].error == "no memory"


def test_a_success_ends_the_pauses() -> None:
    state, (action,) = reconcile(State(), TARGETS, [decision(1, 5)], [], {}, 0.0)
    state, _ = reconcile(state, TARGETS, [], [Outcome(action, "no memory", 0.1)], {}, 0.0)
    state, (smaller,) = reconcile(state, TARGETS, [decision(1, 5)], [], {}, 5.0)
    state, actions = reconcile(state, TARGETS, [decision(3, 5)], [Outcome(smaller, None, 0.1)], {}, 10.0)
    assert [action.count for action in actions] == [5]
    assert state.progress["dense"].error is None


def test_what_was_done_is_given_time_to_be_seen_and_then_asked_for_again() -> None:
    state, (action,) = reconcile(State(), TARGETS, [decision(1, 4)], [], {}, 0.0)
    state, actions = reconcile(state, TARGETS, [decision(1, 4)], [Outcome(action, None, 0.1)], {}, 5.0)
    assert actions == ()
    assert len(reconcile(state, TARGETS, [decision(1, 4)], [], {}, SETTLE_S)[1]) == 1


def test_a_server_that_came_back_with_the_old_count_is_brought_to_what_is_wanted() -> None:
    state, (action,) = reconcile(State(), TARGETS, [decision(1, 4)], [], {}, 0.0)
    state, _ = reconcile(state, TARGETS, [decision(4, 4)], [Outcome(action, None, 0.1)], {}, 5.0)
    _, actions = reconcile(state, TARGETS, [decision(1, 4, 100.0)], [], {}, 100.0)
    assert [again.count for again in actions] == [4]


def test_dead_units_are_healed_before_the_count_is_changed() -> None:
    state, (action,) = reconcile(State(), TARGETS, [decision(2, 4)], [], {"dense": "a stub died"}, 0.0)
    assert (action.kind, action.count, action.reason) == ("heal", 2, "a stub died")
    _, (then,) = reconcile(state, TARGETS, [decision(2, 4)], [Outcome(action, None, 1.0)], {"dense": "a stub died"}, 5.0)
    assert then.kind == "scale", "what was just healed may still look ill"


def test_an_outcome_of_nothing_that_was_asked_is_survived() -> None:
    stray = Outcome(Action("scale", "other", 2, 0.0, "before a restart"), None, 0.1)
    state, actions = reconcile(State(), TARGETS, [decision(1, 1)], [stray], {}, 0.0)
    assert actions == ()
    assert set(state.progress) == {"other", "dense"}


def test_other_threads_are_asked_for_even_where_the_count_is_right() -> None:
    state, (action,) = reconcile(State(), TARGETS, [decision(1, 2)], [], {}, 0.0)
    state, _ = reconcile(state, TARGETS, [decision(2, 2)], [Outcome(action, None, 0.1)], {}, 5.0)
    state, (lower,) = reconcile(state, TARGETS, [decision(2, 2, threads=1)], [], {}, 10.0)
    assert (lower.count, lower.threads) == (2, 1)
    state, actions = reconcile(state, TARGETS, [decision(Count(2, 2, threads=1), 2, threads=1)], [Outcome(lower, None, 0.1)], {}, 15.0)
    assert actions == ()
    _, (back,) = reconcile(state, TARGETS, [decision(Count(2, 2, threads=1), 2)], [], {}, 20.0)
    assert (back.count, back.threads) == (2, None)


def test_a_controller_that_starts_asks_for_the_threads_that_it_decided() -> None:
    _, (lower,) = reconcile(State(), TARGETS, [decision(2, 2, threads=1)], [], {}, 0.0)
    assert (lower.count, lower.threads) == (2, 1)


def test_an_autoscalers_floor_is_what_is_compared_and_what_it_adds_stays() -> None:
    """An apply that resets the floor is answered at the next tick; replicas that the autoscaler added itself are no difference."""
    assert reconcile(State(), REPLICAS, [decision(Count(5, 5, floor=3), 3)], [], {}, 0.0)[1] == ()
    _, (raised,) = reconcile(State(), REPLICAS, [decision(Count(5, 5, floor=1), 3)], [], {}, 0.0)
    assert raised.count == 3


def test_what_kubernetes_refuses_is_asked_for_whole_again_and_soon() -> None:
    state, at_s, asked = State(), 0.0, []
    for _ in range(300):
        state, actions = reconcile(state, REPLICAS, [decision(1, 9)], [], {}, at_s)
        if actions:
            asked.append((at_s, actions[0].count))
            state, _ = reconcile(state, REPLICAS, [], [Outcome(actions[0], "409", 0.1)], {}, at_s)
        at_s += 1.0
    assert {count for _, count in asked} == {9}
    assert max(after - before for (before, _), (after, _) in itertools.pairwise(asked)) == 30.0


def test_healing_that_fails_neither_holds_a_count_up_nor_makes_its_steps_smaller() -> None:
    state, at_s, begun = State(), 0.0, []
    for _ in range(400):
        state, actions = reconcile(state, TARGETS, [decision(2, 10)], [], {"dense": "a stub died"}, at_s)
        for action in actions:
            begun.append((at_s, action.kind, action.count))
            error = "no way" if action.kind == "heal" else None
            state, _ = reconcile(state, TARGETS, [], [Outcome(action, error, 0.1)], {"dense": "a stub died"}, at_s)
        at_s += 1.0
    heals = [at for at, kind, _ in begun if kind == "heal"]
    assert [after - before for before, after in itertools.pairwise(heals)][:3] == [30.0, 60.0, 120.0]
    assert next((at, count) for at, kind, count in begun if kind == "scale") == (1.0, 10)


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=40), st.booleans())
def test_what_is_decided_is_in_the_end_what_there_is(ticks: list[tuple[int, bool, bool, bool]], replicas: bool) -> None:
    """Whatever is wanted, refused, slow or dead for a while: when that is over, what is wanted is what runs."""
    targets = REPLICAS if replicas else TARGETS
    state, at_s, runs, wanted = State(), 0.0, 1, 1
    under_way: Action | None = None
    for number in range(len(ticks) + 400):
        wanted, fails, slow, dead = ticks[number] if number < len(ticks) else (wanted, False, False, False)
        outcomes: list[Outcome] = []
        if under_way is not None and not slow:
            outcomes = [Outcome(under_way, "no" if fails else None, 1.0)]
            runs, under_way = runs if fails else under_way.count, None
        count = Count(runs, runs if under_way is None else under_way.count)
        state, actions = reconcile(state, targets, [decision(count, wanted, at_s)], outcomes, {"dense": "dead"} if dead else {}, at_s)
        assert len(actions) <= (under_way is None)
        under_way = actions[0] if actions else under_way
        at_s += 5.0
    assert runs == wanted and under_way is None
