"""The journal: what is written is read back, torn lines are dropped, and its ticks are decided again as they were."""

import base64
import dataclasses
import json
import math
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsplit.errors import InputError
from recsplit_controller.core.decide import decide
from recsplit_controller.core.memory import Memory, Rates
from recsplit_controller.core.reconcile import State, reconcile
from recsplit_controller.forecast import named
from recsplit_controller.shell.journal import SCHEMA, Header, Journal, latest, sessions, to_line
from recsplit_controller.shell.replay import replay
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Settings, Target
from recsplit_controller.values.tick import Tick

TARGETS = (Target("shop_embedding", "shop_embedding", "embedding"), Target("shop_dense", "shop_dense", "dense"))
SETTINGS = Settings(policy="latency", bound_ms=100.0, cores=6.0)
HELD_2 = {"wanted": 3, "more": None, "less": None, "threads": None, "room_s": None}
PROGRESS_2 = {
    **dict.fromkeys(("threads", "healed_s", "retry_s", "error")),
    "requested": 3,
    "asked_s": 1.0,
    "under_way": False,
    "failures": 0,
}
loads = st.lists(st.tuples(st.none() | st.floats(0, 100), st.floats(0, 50), st.none() | st.integers(1, 8), st.booleans()), max_size=30)


def ticks(given_loads: list[tuple[float | None, float, int | None, bool]], memory: Memory) -> list[tuple[Tick, Memory, State]]:
    """Records of a controller that sees these rates, queues and counts, with what each began with; some of its actions fail."""
    state = State()
    recorded_ticks: list[tuple[Tick, Memory, State]] = []
    under_way: list[Action] = []
    for tick, (rate, queue, count, fails) in enumerate(given_loads):
        at_s = 1000.0 + 7.3 * tick
        one = Series() if rate is None else Series(requests=rate, busy=0.05 * rate, waiting=queue, pending=queue)
        models = {"shop": Series(requests=rate, mean_ms=queue + 50, p95_ms=60 + queue), "shop_embedding": one, "shop_dense": one}
        seen = Observation(
            at_s,
            at_s - 1,
            "shop",
            models,
            {"shop_embedding": Count.steady(count), "shop_dense": Count.steady(2)},
            ("a problem",) if fails else (),
        )
        before = memory, state
        memory, decisions = decide(SETTINGS, named(SETTINGS.forecaster), TARGETS, memory, seen)
        outcomes = tuple(Outcome(action, "no" if fails else None, 0.5) for action in under_way)
        state, actions = reconcile(state, TARGETS, decisions, outcomes, {"shop_dense": "dead"} if fails else {}, at_s)
        under_way = list(actions)
        ill = {"shop_dense": "dead"} if fails else {}
        recorded_ticks.append((Tick(seen, decisions, actions, outcomes, ill, state.progress, 0.01), *before))
    return recorded_ticks


@given(loads)
@settings(max_examples=40)
def test_what_is_written_is_read_back_and_decided_again_the_same(
    tmp_path_factory: pytest.TempPathFactory, given_loads: list[tuple[float | None, float, int | None, bool]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    recorded_ticks = ticks(given_loads, Memory())
    with Journal(path, SETTINGS, TARGETS) as journal:
        for tick in recorded_ticks:
            journal.write(*tick)
    journal_sessions = sessions(path)
    assert len(journal_sessions) == (1 if recorded_ticks else 0)
    for session in journal_sessions:
        assert (session.settings, session.targets) == (SETTINGS, TARGETS)
        assert session.records == tuple(record for record, *_ in recorded_ticks)
        again = replay(session)
        assert (again.ticks, again.differences, again.actions) == (len(recorded_ticks), (), 0)
        assert replay(session) == again


def test_a_decision_that_was_another_is_told(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    recorded_ticks = ticks([(20.0, 0.0, 2, False)] * 3, Memory())
    first = recorded_ticks[1][0].decisions[0]
    other = dataclasses.replace(first, wanted=7, reason="a fault")
    wrong = dataclasses.replace(recorded_ticks[1][0], decisions=(other, *recorded_ticks[1][0].decisions[1:]))
    with Journal(path, SETTINGS, TARGETS) as journal:
        for record in (recorded_ticks[0][0], wrong, recorded_ticks[2][0]):
            journal.write(record, Memory(), State())
    (difference,) = replay(latest(path)).differences
    assert (difference.target, difference.then, difference.then_reason) == ("shop_embedding", 7, "a fault")


def test_other_settings_tell_what_they_would_want(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, SETTINGS, TARGETS) as journal:
        for tick in ticks([(90.0, 0.0, 2, False)] * 3, Memory()):
            journal.write(*tick)
    replayed_session = replay(latest(path), dataclasses.replace(SETTINGS, policy="utilization", busy_share=0.3, cores=None))
    assert {difference.target for difference in replayed_session.differences} == {"shop_embedding", "shop_dense"}
    assert all((difference.now or 0) > (difference.then or 0) for difference in replayed_session.differences)


def test_a_torn_last_line_is_dropped_and_cut_off_when_the_journal_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    recorded_ticks = ticks([(20.0, 0.0, 2, False)] * 4, Memory())
    with Journal(path, SETTINGS, TARGETS) as journal:
        for tick in recorded_ticks[:2]:
            journal.write(*tick)
    whole = path.read_bytes()
    path.write_bytes(whole + to_line(recorded_ticks[2][0]).encode()[:100])
    assert len(latest(path).records) == 2
    with Journal(path, SETTINGS, TARGETS) as journal:
        journal.write(*recorded_ticks[3])
    assert path.read_bytes().startswith(whole)
    assert [len(session.records) for session in sessions(path)] == [2, 1]


def test_a_journal_that_grows_too_large_is_turned_over_and_each_file_can_be_replayed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    recorded_ticks = ticks([(20.0 + tick, 0.0, 2, False) for tick in range(20)], Memory())
    line = len(to_line(recorded_ticks[0][0]))
    with Journal(path, SETTINGS, TARGETS, most_bytes=12 * line) as journal:
        for tick in recorded_ticks:
            journal.write(*tick)
    files = (path.with_name("journal.jsonl.1"), path)
    assert sum(len(latest(file).records) for file in files) == 20
    assert all((replay(latest(file)).differences, replay(latest(file)).actions) == ((), 0) for file in files)


def test_a_journal_that_is_none_is_the_users_mistake(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    header = to_line(Header(SCHEMA, SETTINGS, "", TARGETS, Memory(), State()))
    odd = json.loads(header) | {"targets": [{"name": "x"}]}
    for text, message in (
        ("hello\n", "not JSON"),
        ("\xff\n", "no text in UTF-8"),
        ("[]\n", "expected an object"),
        ("{}\n", "begins with its settings"),
        ('{"schema": 9}\n', "schema 9"),
        (json.dumps(odd) + "\n", "expected the keys"),
        (header + "{}\n", "line 2: expected the keys"),
        (header, "no tick"),
    ):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(InputError, match=message):
            latest(path)
    with pytest.raises(InputError, match="can't be read"):
        latest(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="can't be written"):
        Journal(tmp_path / "absent" / "journal.jsonl", SETTINGS, TARGETS)


def without(value: Any, *keys: str) -> Any:
    """Without these keys anywhere in it."""
    if isinstance(value, dict):
        return {key: without(each, *keys) for key, each in value.items() if key not in keys}
    return [without(each, *keys) for each in value] if isinstance(value, list) else value


def test_a_journal_of_schema_4_is_read_and_decided_again_the_same(tmp_path: Path) -> None:
    """As it was written before targets had an accuracy, and groups a memory of what was wished for."""
    path = tmp_path / "journal.jsonl"
    with Journal(path, SETTINGS, TARGETS) as journal:
        for tick in ticks([(20.0, 0.0, 2, True), (90.0, 40.0, 2, False)], Memory()):
            journal.write(*tick)
    now = latest(path)
    lines = [without(json.loads(line), "accuracy", "cores_cost", "wished") for line in path.read_text().splitlines()]
    lines[0]["schema"] = 4
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert latest(path) == now
    assert (replay(latest(path)).differences, replay(latest(path)).actions) == ((), 0)


def test_a_journal_of_schema_3_is_read_and_decided_again_the_same(tmp_path: Path) -> None:
    """As it was written before targets had groups, and groups routers with weights."""
    path = tmp_path / "journal.jsonl"
    with Journal(path, SETTINGS, TARGETS) as journal:
        for tick in ticks([(20.0, 0.0, 2, True), (20.0, 0.0, None, False), (90.0, 40.0, 2, False)], Memory()):
            journal.write(*tick)
    now = latest(path)
    lines = [
        without(json.loads(line), "weight", "weights", "groups", "group", "accuracy", "cores_cost", "wished")
        for line in path.read_text().splitlines()
    ]
    lines[0]["schema"] = 3
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert latest(path) == now
    assert (replay(latest(path)).differences, replay(latest(path)).actions) == ((), 0)
    path.write_text(json.dumps(lines[0]) + "\n{}\n")
    with pytest.raises(InputError, match="no line of a journal of schema 3"):
        latest(path)


def test_a_journal_of_schema_2_is_read_and_one_of_schema_1(tmp_path: Path) -> None:
    """As it was written before counts that serve and counts that were asked for were told apart."""
    path = tmp_path / "journal.jsonl"
    written = ticks([(20.0, 0.0, 2, True), (20.0, 0.0, None, False)], Memory())
    with Journal(path, SETTINGS, TARGETS) as journal:
        for tick in written:
            journal.write(*tick)
    lines = []
    for line in map(json.loads, path.read_text().splitlines()):
        if "schema" in line:
            line = without(line, "groups", "group", "accuracy", "cores_cost") | {
                "schema": 2,
                "memory": {"held": {"shop_dense": HELD_2}, "rates": {}},
                "state": {"progress": {"shop_dense": PROGRESS_2}},
            }
        else:
            line["observation"]["counts"] = {name: count["serving"] for name, count in line["observation"]["counts"].items()}
            for decision in line["decisions"]:
                decision["observed"] = decision.pop("count")["serving"]
            line = without(line, "weight", "weights")
            line["progress"] = dict.fromkeys(line["progress"], PROGRESS_2)
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n")
    session = latest(path)
    assert session.memory.held["shop_dense"].present == 3
    assert [record.observation.counts for record in session.records] == [tick.observation.counts for tick, *_ in written]
    assert [decision.count for record in session.records for decision in record.decisions] == [
        decision.count for tick, *_ in written for decision in tick.decisions
    ]
    first = without(json.loads(lines[0]), "forecaster") | {"schema": 1}
    first["settings"]["forecaster"] = SETTINGS.forecaster
    path.write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    assert latest(path) == session, "schema 1 differs by the digest of the forecaster's weights alone"
    path.write_text(lines[0] + "\n{}\n")
    with pytest.raises(InputError, match="no line of a journal of schema 2"):
        latest(path)


def test_a_header_larger_than_a_file_may_be_does_not_turn_it_over_at_every_tick(tmp_path: Path) -> None:
    """A week of rates of many models: what is kept of it is what it was, and the file is turned over by its ticks."""
    path = tmp_path / "journal.jsonl"
    week = Rates(maxima=tuple(0.1 * period for period in range(10_081)), period=7)
    memory = Memory(rates={"shop_dense": week})
    recorded_ticks = [(record, memory, state) for record, _, state in ticks([(20.0, 0.0, 2, False)] * 30, Memory())]
    line = len(to_line(recorded_ticks[0][0]))
    with Journal(path, SETTINGS, TARGETS, most_bytes=20 * line) as journal:
        for tick in recorded_ticks:
            journal.write(*tick)
    assert [len(latest(file).records) for file in (path.with_name("journal.jsonl.1"), path)] in ([20, 10], [21, 9], [19, 11])
    assert latest(path).memory == memory
    lines = path.read_text().splitlines()
    odd = json.loads(lines[0])
    for text in ("###", "AAAA", base64.b64encode(array("d", [math.nan])).decode()):
        odd["memory"]["rates"]["shop_dense"]["maxima"] = text
        path.write_text("\n".join([json.dumps(odd), *lines[1:]]) + "\n")
        with pytest.raises(InputError, match="no line of a journal"):
            latest(path)
