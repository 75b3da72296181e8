"""Where a router sends a query: shares, parts, the server that is done first, deadlines; and, over random states, what it may never do."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsplit.engine.compilation import make, unavailable
from recsplit.engine.deciding import SERVER, VARIANT, Refusal, Rules, decide
from recsplit.engine.library import Library

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture(scope="module")
def library() -> Library:
    return Library(make())


def variants(*weights: float, split_rows: int = 0) -> NDArray[np.void]:
    return np.array([(weight, 0.0, split_rows) for weight in weights], VARIANT)


def servers(*each: tuple[float, float, int]) -> NDArray[np.void]:
    """(a_ms, b_ms, variant) of idle servers."""
    return np.array([(a_ms, b_ms, 0.0, 0, 1, variant, 1) for a_ms, b_ms, variant in each], SERVER)


def parts_of(answer: NDArray[np.void] | Refusal) -> NDArray[np.void]:
    assert not isinstance(answer, str), answer
    return answer


@pytest.mark.parametrize("weights", [(1.0,), (3.0, 1.0), (0.2, 0.5, 0.3), (5.0, 0.0, 1.0, 1.0), (1e-6, 1.0)])
def test_shares_are_those_of_the_weights_and_even_over_any_stretch(library: Library, weights: tuple[float, ...]) -> None:
    turns = variants(*weights)
    chosen = []
    for _ in range(10_000):
        crew = servers(*[(1.0, 0.0, variant) for variant in range(len(weights))])
        chosen.append(int(parts_of(decide(library, Rules(), turns, crew, 10))["variant"][0]))
    expected = np.array(weights) / sum(weights)
    counts = np.cumsum(np.array(chosen)[:, None] == np.arange(len(weights)), axis=0)
    behind = np.abs(counts - expected * np.arange(1, len(chosen) + 1)[:, None])
    assert behind.max() < len(weights)  # at no moment is a variant more than its number of neighbours behind


def test_parts_are_even_and_in_order(library: Library) -> None:
    for rows, split_rows, expected in [
        (512, 512, [512]),
        (513, 512, [257, 256]),
        (3000, 512, [500] * 6),
        (5, 2, [2, 2, 1]),
        (7, 0, [7]),
        (1, 3, [1]),
    ]:
        parts = parts_of(decide(library, Rules(), variants(1.0, split_rows=split_rows), servers((1, 1, 0)), rows))
        assert parts["rows"].tolist() == expected


def test_a_part_goes_where_it_is_done_first(library: Library) -> None:
    crew = servers((1.0, 0.01, 0), (4.0, 0.001, 0))
    turns = variants(1.0)
    assert parts_of(decide(library, Rules(), turns, crew, 10))["server"].tolist() == [0]  # 1.1 ms, not 4.01
    assert parts_of(decide(library, Rules(), turns, servers((1.0, 0.01, 0), (4.0, 0.001, 0)), 1000))["server"].tolist() == [1]  # 5, not 11
    assert crew["work_ms"].tolist() == [1.1, 0.0] and crew["under_way"].tolist() == [1, 0]
    followers = [int(parts_of(decide(library, Rules(), turns, crew, 10))["server"][0]) for _ in range(6)]
    assert followers == [0, 0, 1, 0, 0, 0]  # waiting for three others beats 4 ms, for four doesn't


def test_a_server_that_computes_several_at_a_time_has_no_queue_until_they_are_there(library: Library) -> None:
    crew = servers((10.0, 0.0, 0))
    crew["at_once"] = 2
    done = [float(parts_of(decide(library, Rules(), variants(1.0), crew, 1))["done_ms"][0]) for _ in range(3)]
    assert done == [10.0, 10.0, 20.0]


def test_large_queries_go_to_a_variant_of_their_own_and_back_where_it_is_late_or_away(library: Library) -> None:
    rules, turns = Rules(100, 1), variants(1.0, 0.0)
    crew = servers((1.0, 1.0, 0), (5.0, 0.0, 1))
    assert parts_of(decide(library, rules, turns, crew, 99))["variant"].tolist() == [0]
    assert parts_of(decide(library, rules, turns, crew, 100))["variant"].tolist() == [1]
    assert turns["credit"].tolist() == [0.0, 0.0]
    crew["well"] = [1, 0]
    assert parts_of(decide(library, rules, turns, crew, 100))["variant"].tolist() == [0]


def test_what_cant_be_done_in_time_is_refused_and_leaves_no_trace(library: Library) -> None:
    crew, turns = servers((1.0, 0.1, 0), (1.0, 0.1, 0)), variants(1.0, split_rows=10)
    before = (crew.tobytes(), turns.tobytes())
    assert decide(library, Rules(), turns, crew, 100, within_ms=5.0) == "late"  # ten parts of 2 ms on two servers
    assert (crew.tobytes(), turns.tobytes()) == before
    assert len(parts_of(decide(library, Rules(), turns, crew, 100, within_ms=10.0))) == 10


def test_a_variant_that_is_late_or_away_is_passed_over_and_not_made_up_for(library: Library) -> None:
    turns = variants(1.0, 1.0)
    crew = servers((1.0, 0.0, 0), (1.0, 0.0, 1))
    crew["well"] = [0, 1]
    for _ in range(50):
        assert parts_of(decide(library, Rules(), turns, crew, 1))["variant"].tolist() == [1]
    crew["well"] = [1, 1]
    again = Counter(int(parts_of(decide(library, Rules(), turns, crew, 1))["variant"][0]) for _ in range(10))
    assert again == {0: 5, 1: 5}
    crew["well"] = 0
    assert decide(library, Rules(), turns, crew, 1) == "nobody"


def test_there_must_be_room_for_the_parts(library: Library) -> None:
    assert decide(library, Rules(), variants(1.0, split_rows=1), servers((1, 1, 0)), 10, room=9) == "too many"


def test_what_no_decision_may_do(library: Library) -> None:
    """All rows go out once, to servers of one variant that are well, each to the one that is done first; the books are kept."""
    rng = np.random.default_rng(0)
    for _ in range(3000):
        turns, crew, rules = _state(rng)
        rows, within_ms = int(rng.integers(1, 2000)), float(rng.exponential(50)) if rng.random() < 0.5 else None
        before, credit = crew.copy(), turns["credit"].copy()
        answer = decide(library, rules, turns, crew, rows, within_ms)
        if isinstance(answer, str):
            assert crew.tobytes() == before.tobytes() and (turns["credit"] == credit).all()
            assert (answer == "nobody") == (not _could_answer(before, turns, rules, rows))
            continue
        assert answer["rows"].sum() == rows and answer["rows"].min() >= 1 and np.ptp(answer["rows"]) <= 1
        assert len(set(answer["variant"].tolist())) == 1
        variant = int(answer["variant"][0])
        assert turns["weight"][variant] > 0 or (rules.large_rows and rows >= rules.large_rows and variant == rules.large_variant)
        for part in answer:
            assert part["done_ms"] == pytest.approx(_first_done(before, variant, int(part["rows"])))
            server = before[part["server"]]
            assert server["well"] and server["variant"] == variant and part["work_ms"] == server["work_ms"]
            server["work_ms"] += part["ms"]
            server["under_way"] += 1
            assert within_ms is None or part["done_ms"] <= within_ms
        assert crew.tobytes() == before.tobytes()
        assert turns["credit"].sum() == pytest.approx(credit.sum(), abs=1e-9)


def _state(rng: np.random.Generator) -> tuple[NDArray[np.void], NDArray[np.void], Rules]:
    count = int(rng.integers(1, 5))
    turns = variants(*np.where(rng.random(count) < 0.2, 0.0, rng.exponential(1, count)))
    turns["split_rows"] = rng.choice([0, 1, 50, 512], count, p=[0.3, 0.1, 0.3, 0.3])
    crew = np.zeros(int(rng.integers(1, 8)), SERVER)
    crew["a_ms"], crew["b_ms"] = rng.exponential(2, len(crew)), rng.exponential(0.05, len(crew))
    crew["under_way"], crew["at_once"] = rng.integers(0, 4, len(crew)), rng.integers(1, 4, len(crew))
    crew["work_ms"] = crew["under_way"] * rng.exponential(5, len(crew))
    crew["variant"], crew["well"] = rng.integers(0, count, len(crew)), rng.random(len(crew)) < 0.8
    large = int(rng.integers(1, 1500)) if rng.random() < 0.3 else 0
    return turns, crew, Rules(large, int(rng.integers(0, count)))


def _first_done(crew: NDArray[np.void], variant: int, rows: int) -> float:
    times: list[Any] = [
        (0.0 if one["under_way"] < one["at_once"] else one["work_ms"] / one["at_once"]) + one["a_ms"] + one["b_ms"] * rows
        for one in crew
        if one["variant"] == variant and one["well"]
    ]
    return float(min(times))


def _could_answer(crew: NDArray[np.void], turns: NDArray[np.void], rules: Rules, rows: int) -> bool:
    able = {int(one["variant"]) for one in crew if one["well"]}
    takes = {number for number, weight in enumerate(turns["weight"]) if weight > 0}
    if rules.large_rows and rows >= rules.large_rows:
        takes.add(rules.large_variant)
    return bool(able & takes)
