"""The loop goes on whatever fails, and what runs stays. Observer and actuator are made up: faults of real ones are in test_faults_*."""

import dataclasses
import logging
import threading
from pathlib import Path

import pytest

from recsplit_controller.forecast import named
from recsplit_controller.shell.journal import Journal
from recsplit_controller.shell.loop import Loop
from recsplit_controller.shell.metrics import Meters
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Observation
from recsplit_controller.values.settings import Settings
from recsplit_controller.values.tick import Tick
from recsplit_perf.benchmarks.control_tick import FakeModels
from tests.waiting import until

SETTINGS = Settings(interval_s=0.02)


class Faulty(FakeModels):
    """Fails in the part that is named; keeps what it was asked for."""

    def __init__(self, part: str = "") -> None:
        super().__init__(2)
        self.part = part
        self.asked: list[Action] = []

    def observe(self, at_s: float) -> Observation:
        if self.part == "observe":
            raise RuntimeError("a fault of the observer")
        if self.part == "decide":
            return dataclasses.replace(super().observe(at_s), data_s="yesterday")  # type: ignore[arg-type]
        return super().observe(at_s)

    def outcomes(self) -> list[Outcome]:
        if self.part == "act":
            raise RuntimeError("a fault of the actuator")
        return list(super().outcomes())

    def begin(self, action: Action) -> None:
        self.asked.append(action)
        if self.part == "begin":
            raise RuntimeError("a fault of the actuator")
        super().begin(action)


def loop(faulty_plant: Faulty, journal: Journal | None = None) -> tuple[Loop, Meters]:
    meters = Meters(SETTINGS, faulty_plant.targets)
    times = iter(range(1_000_000, 2_000_000, 5))
    forecaster = named(SETTINGS.forecaster)
    return Loop(
        SETTINGS, forecaster, faulty_plant.targets, faulty_plant, faulty_plant, journal, [meters], clock=lambda: float(next(times))
    ), meters


def failures(meters: Meters, reason: str) -> float | None:
    return meters.registry.get_sample_value("recsplit_controller_failures_total", {"reason": reason})


@pytest.mark.parametrize("part", ["observe", "decide", "act"])
def test_a_tick_that_fails_changes_nothing_and_the_next_one_goes_on(part: str, caplog: pytest.LogCaptureFixture) -> None:
    faulty_plant = Faulty()
    ticking, meters = loop(faulty_plant)
    ticking.tick()
    memory, state, asked = ticking.memory, ticking.state, len(faulty_plant.asked)
    faulty_plant.part = part
    with caplog.at_level(logging.ERROR):
        assert [ticking.tick() for _ in range(30)] == [None] * 30
    assert (ticking.memory, ticking.state, len(faulty_plant.asked)) == (memory, state, asked)
    assert failures(meters, part) == 30
    assert len(caplog.records) == 1, "the same trouble is told once"
    faulty_plant.part = ""
    assert ticking.tick() is not None


def test_an_action_that_cannot_be_begun_is_tried_again_after_a_pause() -> None:
    faulty_plant = Faulty("begin")
    ticking, _ = loop(faulty_plant)
    records = [ticking.tick() for _ in range(20)]
    first = faulty_plant.asked[0].target
    again = [action.at_s for action in faulty_plant.asked if action.target == first]
    assert 2 <= len(again) < 10
    progress = records[-1].progress[first] if records[-1] else None
    assert progress is not None
    assert progress.failures == len(again)
    assert progress.error == "a fault of the actuator"


def test_a_journal_on_a_full_disk_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    faulty_plant = Faulty()
    with Journal(Path("/dev/full"), SETTINGS, faulty_plant.targets) as journal:
        ticking, meters = loop(faulty_plant, journal)
        assert all(ticking.tick() is not None for _ in range(30))
    assert faulty_plant.asked
    assert failures(meters, "journal") == 30
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "a part of a tick failed, and the loop goes on"
    ]


def test_what_cannot_be_shown_is_done_all_the_same() -> None:
    class Broken(Meters):
        def show(self, record: Tick) -> None:
            raise KeyError("a fault of the metrics")

    faulty_plant = Faulty()
    ticking, _ = loop(faulty_plant)
    broken = Broken(SETTINGS, faulty_plant.targets)
    ticking.shows = [broken]
    assert all(ticking.tick() is not None for _ in range(30))
    assert faulty_plant.asked
    assert failures(broken, "tick") == 30


def test_it_stops_at_once_when_asked_to() -> None:
    faulty_plant = Faulty()
    ticking, _ = loop(faulty_plant)
    ticking.settings = dataclasses.replace(SETTINGS, interval_s=3600.0)
    stop = threading.Event()
    thread = threading.Thread(target=ticking.run, args=(stop,), daemon=True)
    thread.start()
    until(lambda: ticking.memory.held, "the first tick")
    stop.set()
    thread.join()  # it doesn't see the interval out, which is longer than a test may last


def test_problems_are_told_once_for_as_long_as_they_last(caplog: pytest.LogCaptureFixture) -> None:
    faulty_plant = Faulty()
    ticking, _ = loop(faulty_plant)
    seen = faulty_plant.observe
    troubles = [(), ("away",), ("away",), (), ("away",)]

    def observe(at_s: float) -> Observation:
        return dataclasses.replace(seen(at_s), problems=troubles[len(past_ticks)])

    past_ticks: list[None] = []
    faulty_plant.observe = observe  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        for _ in troubles:
            ticking.tick()
            past_ticks.append(None)
    assert [record.message for record in caplog.records] == ["not seen", "not seen"]
