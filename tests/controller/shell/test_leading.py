"""A controller that loses its lease does nothing, and wishes nothing when it has it again. Leases here say what a test tells them to."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from recsplit_controller.forecast import named
from recsplit_controller.shell.journal import Journal, sessions
from recsplit_controller.shell.leading import Leading
from recsplit_controller.shell.loop import Loop
from recsplit_controller.shell.metrics import Meters
from recsplit_controller.values.decision import Action, Outcome
from recsplit_controller.values.observation import Count, Observation, Series
from recsplit_controller.values.settings import Settings, Target

TARGETS = [Target("shop_dense", "shop_dense", "dense")]


class Told:
    """A lease that answers in turn, the last answer again and again."""

    def __init__(self, *answers: str | None) -> None:
        self._answers = list(answers)

    def hold(self) -> str | None:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


class Still:
    """An observer and actuator of a model that does nothing."""

    def observe(self, at_s: float) -> Observation:
        return Observation(at_s, at_s, "shop", {"shop_dense": Series(requests=0.0, busy=0.0)})

    def counts(self) -> Mapping[str, Count]:
        return {"shop_dense": Count.steady(1)}

    def begin(self, action: Action) -> None:
        raise AssertionError(action)

    def outcomes(self) -> Sequence[Outcome]:
        return ()

    def ill(self) -> Mapping[str, str]:
        return {}

    def close(self) -> None:
        pass


def test_a_lost_lease_is_a_failure_and_one_that_is_waited_for_is_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    meters = Meters(Settings(), TARGETS)
    may = Leading(Told("b holds it", "b holds it", None, None, "the cluster is away", None), meters)
    assert [may() for _ in range(6)] == [False, False, True, True, False, True]
    assert 'recsplit_controller_failures_total{reason="lease"} 1.0' in generate_latest(meters.registry).decode()
    assert [record.message for record in caplog.records] == [
        "waiting for the lease",
        "this controller acts",
        "the lease was lost",
        "this controller acts",
    ]


def test_it_begins_anew_when_it_has_the_lease_again(tmp_path: Path) -> None:
    settings, still = Settings(interval_s=0.001), Still()
    meters = Meters(settings, TARGETS)
    with Journal(tmp_path / "journal", settings, TARGETS) as journal:
        leading = Leading(Told(None, None, "b holds it", None), meters)
        loop = Loop(settings, named(settings.forecaster), TARGETS, still, still, journal, [meters], may=leading)
        loop.run(threading.Event(), ticks=4)
    first, second = sessions(tmp_path / "journal")
    assert (len(first.records), len(second.records)) == (2, 1)
    assert first.memory.held == second.memory.held == {}
    assert "shop_dense" in second.memory.rates, "what came in before is known still"
