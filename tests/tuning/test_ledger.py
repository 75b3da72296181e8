"""What a tuning keeps, and how it goes on."""

import dataclasses
import json
from pathlib import Path

import pytest

from recsplit.capacity.search import Throughput, Trial
from recsplit.errors import InputError
from recsplit.tuning.ledger import LEDGER_FILE, Ledger, read_ledger
from recsplit.tuning.setting import Setting
from recsplit.tuning.tune import candidates, raced, reasons, simulated
from tests.tuning.asked import ABOUT, ALWAYS, BOUND, NEVER, PRESENT, SPACE, about
from tests.tuning.test_joint import rate

LIVE = Throughput(90.0, 85.0, 95.0, "found", (Trial(80.0, 15.0, 400), Trial(100.0, float("inf"), 500, False)))


def test_what_is_added_is_read_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, ABOUT, resume=False)
    for stage, throughput in (("simulated", about(50.0)), ("simulated", NEVER), ("simulated", ALWAYS), ("live", LIVE)):
        ledger.add(stage, PRESENT, throughput)  # type: ignore[arg-type]
    again = Ledger(tmp_path, ABOUT, resume=True)
    assert again.lines == ledger.lines
    assert [line.throughput.rate for line in again.lines] == [50.0, 0.0, 80.0, 90.0]
    assert again.lines[-1].throughput == LIVE, "a server's trials are kept"


def test_a_line_that_a_kill_cut_short_is_left_out_and_written_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, ABOUT, resume=False)
    ledger.add("simulated", PRESENT, about(50.0))
    path = tmp_path / LEDGER_FILE
    path.write_text(path.read_text() + '{"stage": "simul')
    again = Ledger(tmp_path, ABOUT, resume=True)
    assert len(again.lines) == 1
    again.add("simulated", PRESENT, about(60.0))
    assert len(read_ledger(path)[1]) == 2


@pytest.mark.parametrize("change", [{"build": "b2"}, {"cores": 3}, {"workload": {}}])
def test_another_tuning_is_not_gone_on_with(tmp_path: Path, change: dict[str, object]) -> None:
    Ledger(tmp_path, ABOUT, resume=False).add("simulated", PRESENT, about(50.0))
    with pytest.raises(InputError, match="another"):
        Ledger(tmp_path, dataclasses.replace(ABOUT, **change), resume=True)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="another") as error:
        Ledger(tmp_path, ABOUT, resume=False)
    assert "--resume" in str(error.value.hint)


@pytest.mark.parametrize("text", ["", "{}\n", "[]\n", "no json\n", '{"schema": 2}\n'])
def test_what_is_no_ledger_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / LEDGER_FILE).write_text(text)
    with pytest.raises(InputError):
        Ledger(tmp_path, ABOUT, resume=True)


def test_a_line_of_nonsense_is_named(tmp_path: Path) -> None:
    Ledger(tmp_path, ABOUT, resume=False).add("simulated", PRESENT, about(50.0))
    path = tmp_path / LEDGER_FILE
    path.write_text(path.read_text() + json.dumps({"stage": "simulated"}) + "\n")
    with pytest.raises(InputError, match="line 3"):
        Ledger(tmp_path, ABOUT, resume=True)


class Answers:
    """Answers for settings until it has given so many, and then is interrupted."""

    def __init__(self) -> None:
        self.asked: list[Setting] = []
        self.most = 0

    def __call__(self, setting: Setting) -> Throughput:
        if len(self.asked) >= self.most:
            raise KeyboardInterrupt
        self.asked.append(setting)
        return about(rate(setting))


@pytest.mark.parametrize("most", [0, 1, 4, 9])
def test_an_interrupted_tuning_asks_nothing_twice(tmp_path: Path, most: int) -> None:
    """After any number of answers: the choice is that of one that was never stopped, and no answer is asked for again."""
    pytest.importorskip("optuna")
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = simulated(SPACE, PRESENT, lambda setting: about(rate(setting)), Ledger(tmp_path / "whole", ABOUT, resume=False), trials=10)
    answers = Answers()
    answers.most = most
    with pytest.raises(KeyboardInterrupt):
        simulated(SPACE, PRESENT, answers, Ledger(tmp_path / "stopped", ABOUT, resume=False), trials=10)
    assert len(answers.asked) == most
    answers.most = 10_000
    again = simulated(SPACE, PRESENT, answers, Ledger(tmp_path / "stopped", ABOUT, resume=True), trials=10)
    assert [(one.setting, one.throughput.rate) for one in again.tried] == [(one.setting, one.throughput.rate) for one in whole.tried]
    assert [step.value for step in again.climb.steps] == [step.value for step in whole.climb.steps]
    assert len(answers.asked) == len(set(answers.asked))


def test_a_race_goes_on_where_it_was(tmp_path: Path) -> None:
    other = dataclasses.replace(PRESENT, max_batch_size=32)
    ledger = Ledger(tmp_path, ABOUT, resume=False)
    ledger.add("live", PRESENT, about(100.0, 0.1))
    asked = []

    def measure(setting: object, number: int) -> Throughput:
        asked.append((setting, number))
        return about(101.0, 0.1)

    raced([PRESENT, other], measure, BOUND, ledger, rounds=1)
    assert asked == [(other, 0)]


def test_candidates_are_the_present_one_and_the_best_of_each_form(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    said = simulated(SPACE, PRESENT, lambda setting: about(rate(setting)), Ledger(tmp_path, ABOUT, resume=False), trials=30)
    chosen = candidates(said, PRESENT, 3)
    assert chosen[0] == PRESENT and len(chosen) == len(set(chosen)) == 4
    assert said.best.setting in chosen
    assert {setting.form for setting in chosen[1:]} == {"ensemble", "fused"}


def test_reasons_turn_one_knob_back_at_a_time() -> None:
    chosen = dataclasses.replace(PRESENT, embedding_instances=2, max_batch_size=32)
    why = reasons(PRESENT, chosen, lambda setting: about(rate(setting)))
    assert [(one.knob, one.present, one.chosen) for one in why] == [("embedding_instances", 1, 2), ("max_batch_size", 64, 32)]
    assert why[0].turned_back == about(rate(dataclasses.replace(PRESENT, max_batch_size=32)))
    assert reasons(PRESENT, PRESENT, lambda _: NEVER) == []
