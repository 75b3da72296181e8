"""From wanted to asked for: one action a target, failures with pauses, what hangs isn't repeated, healing first."""

import itertools

from recsplit_controller.core.reconcile import FIRST_PAUSE_S, SETTLE_S, State, reconcile
from recsplit_controller.values.decision import Action, Decision, Outcome


def decision(observed: int | None, wanted_count: int | None, at_s: float = 0.0, threads: int | None = None) -> Decision:
    return Decision("dense", at_s, observed, None, wanted_count, "because", threads=threads)


def test_what_differs_is_asked_for_once_while_it_is_under_way() -> None:
    state, (action,) = reconcile(State(), [decision(1, 4)], [], {}, 0.0)
    assert (action.kind, action.count, action.reason) == ("scale", 4, "because")
    for at_s in (5.0, 1000.0, 100_000.0):
        state, actions = reconcile(state, [decision(1, 6)], [], {}, at_s)
        assert actions == ()
    assert state.progress["dense"].asked_s == 0.0


def test_what_is_as_wanted_or_unknown_asks_for_nothing() -> None:
    for seen, wanted_count in ((2, 2), (None, 2), (2, None)):
        assert reconcile(State(), [decision(seen, wanted_count)], [], {}, 0.0)[1] == ()


def test_a_failure_is_tried_again_after_growing_pauses_and_with_a_smaller_step() -> None:
    state, at_s, asked = State(), 0.0, []
    for _ in range(2000):
        state, actions = reconcile(state, [decision(1, 5)], [], {}, at_s)
        if actions:
            asked.append((at_s, actions[0].count))
            state, _ = reconcile(state, [], [Outcome(actions[0], "no memory", 0.1)], {}, at_s)
        at_s += 1.0
    assert [count for _, count in asked[:4]] == [5, 3, 2, 2]
    pauses = [after - before for (before, _), (after, _) in itertools.pairwise(asked)]
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses[-1] == 300.0
    assert state.progress["dense"].error == "no memory"


def test_a_success_ends_the_pauses() -> None:
    state, (action,) = reconcile(State(), [decision(1, 5)], [], {}, 0.0)
    state, _ = reconcile(state, [], [Outcome(action, "no memory", 0.1)], {}, 0.0)
    state, (smaller,) = reconcile(state, [decision(1, 5)], [], {}, 5.0)
    state, actions = reconcile(state, [decision(3, 5)], [Outcome(smaller, None, 0.1)], {}, 10.0)
    assert [action.count for action in actions] == [5]
    assert state.progress["dense"].error is None


def test_what_was_done_is_given_time_to_be_seen_and_then_asked_for_again() -> None:
    state, (action,) = reconcile(State(), [decision(1, 4)], [], {}, 0.0)
    state, actions = reconcile(state, [decision(1, 4)], [Outcome(action, None, 0.1)], {}, 5.0)
    assert actions == ()
    assert len(reconcile(state, [decision(1, 4)], [], {}, SETTLE_S)[1]) == 1


def test_a_server_that_came_back_with_the_old_count_is_brought_to_what_is_wanted() -> None:
    state, (action,) = reconcile(State(), [decision(1, 4)], [], {}, 0.0)
    state, _ = reconcile(state, [decision(4, 4)], [Outcome(action, None, 0.1)], {}, 5.0)
    _, actions = reconcile(state, [decision(1, 4, 100.0)], [], {}, 100.0)
    assert [again.count for again in actions] == [4]


def test_dead_units_are_healed_before_the_count_is_changed() -> None:
    state, (action,) = reconcile(State(), [decision(2, 4)], [], {"dense": "a stub died"}, 0.0)
    assert (action.kind, action.count, action.reason) == ("heal", 2, "a stub died")
    _, (then,) = reconcile(state, [decision(2, 4)], [Outcome(action, None, 1.0)], {"dense": "a stub died"}, 5.0)
    assert then.kind == "scale", "what was just healed may still look ill"


def test_an_outcome_of_nothing_that_was_asked_is_survived() -> None:
    stray = Outcome(Action("scale", "other", 2, 0.0, "before a restart"), None, 0.1)
    state, actions = reconcile(State(), [decision(1, 1)], [stray], {}, 0.0)
    assert actions == ()
    assert set(state.progress) == {"other", "dense"}


def test_other_threads_are_asked_for_even_where_the_count_is_right() -> None:
    state, (action,) = reconcile(State(), [decision(1, 2)], [], {}, 0.0)
    state, _ = reconcile(state, [decision(2, 2)], [Outcome(action, None, 0.1)], {}, 5.0)
    _, (lower,) = reconcile(state, [decision(2, 2, threads=1)], [], {}, 10.0)
    assert (lower.count, lower.threads) == (2, 1)
