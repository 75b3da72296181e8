"""Back-tests: traces are read strictly, errors are what they say, a perfect forecast misses nothing, and a trained LSTM learns."""

import gzip
import math
from pathlib import Path

import numpy as np
import pytest

from recsplit.errors import InputError
from recsplit_controller.forecast import lstm, named, trace, training
from recsplit_controller.forecast.forecaster import Floats
from recsplit_controller.simulated import backtest
from recsplit_controller.simulated.station import Units
from recsplit_controller.values.settings import Settings, Target

TARGET = Target("dense", "dense", "dense", maximum=40)


def bursts(periods: int, every: int = 10) -> Floats:
    """Seconds at 50 queries each, and each `every`-th minute at 200."""
    return np.repeat(np.where(np.arange(periods) % every == every - 1, 200.0, 50.0), 60)


def a_test(rates: Floats, first: int, start_s: float = 1.0) -> backtest.Test:
    return backtest.Test(rates, first, Settings(busy_share=0.7), Units(start_s=start_s), TARGET, bound_ms=200.0)


def test_a_trace_is_read_from_text_gzip_and_a_column(tmp_path: Path) -> None:
    plain, packed, table = tmp_path / "t.txt", tmp_path / "t.txt.gz", tmp_path / "t.csv"
    plain.write_text("3 4.5\n\n0\n")
    packed.write_bytes(gzip.compress(b"3\n4.5\n0\n"))
    table.write_text("at,requests\n0,3\n1,4.5\n2,0\n")
    for path, column in ((plain, None), (packed, None), (table, "requests")):
        assert trace.read(path, column).tolist() == [3, 4.5, 0]


@pytest.mark.parametrize(
    ("name", "content", "column", "said"),
    [
        ("t.txt", b"3\n-1\n", None, "number 2 is no number"),
        ("t.txt", b"3\nnan\n", None, "number 2 is no number"),
        ("t.txt", b"at,requests\n1,2\n", None, "number 1"),
        ("t.txt", b"3\n", None, "1 seconds"),
        ("t.txt", b"\xff\xfe", None, "can't be read"),
        ("t.gz", b"3\n4\n", None, "can't be read"),
        ("t.csv", b"at,requests\n1,2\n2,3\n", "queries", "no column 'queries'"),
        ("t.csv", b"at,requests\n1,2\n2\n", "requests", "line 3"),
        ("missing", None, None, "can't be read"),
    ],
)
def test_a_trace_that_is_none_is_refused_in_words(tmp_path: Path, name: str, content: bytes | None, column: str | None, said: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        trace.read(path, column)
    assert said in str(caught.value) and caught.value.hint


def test_maxima_are_of_means_over_the_window() -> None:
    rates = np.zeros(180)
    rates[70], rates[130:140] = 100, 20
    assert backtest.maxima(rates, 60, 10).tolist() == [0, 10, 20]
    assert backtest.maxima(rates, 60, 1).tolist() == [0, 100, 20]


def test_errors_say_what_was_missing_and_what_was_too_much() -> None:
    errors = backtest.errors(np.array([100.0, 100.0, 100.0, 50.0]), np.array([160.0, 120.0, 80.0, 0.0]))
    assert errors == backtest.Errors(3, error=100 / 3, short=80 / 3, over=20 / 3, short_share=2 / 3, far_short_share=1 / 3)


def test_who_knows_what_comes_misses_nothing_and_who_looks_back_misses_each_burst() -> None:
    test = a_test(bursts(60), first=20)
    oracle = test.by_plan(test.maxima()[test.first :])
    score = test.score("last_max")
    assert oracle.queries == score.alone.queries == test.rates[20 * 60 :].sum()
    assert oracle.miss_share < 0.02, "only while the units of a burst's first second start"
    assert score.alone.miss_share > 0.3
    assert score.controlled.miss_share < score.alone.miss_share / 4, "the controller looks at the present as well"


def test_a_controller_that_knows_the_season_is_ready_when_the_burst_comes() -> None:
    day = 1440
    rates = np.full((day + 60) * 60, 20.0)
    for burst in (30, day + 30):
        rates[burst * 60 : (burst + 2) * 60] = 200
    test = a_test(rates, first=day, start_s=10.0)
    last, seasonal = (test.by_controller(name) for name in ("last_max", "seasonal"))
    assert seasonal.misses < last.misses / 4


def test_an_lstm_learns_what_no_rule_knows_and_comes_back_from_its_file(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    maxima = backtest.maxima(bursts(1000, every=4), 60, 10)
    one, other = (training.train(maxima, rounds=1, seed=1) for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in lstm.NAMES)
    weights = training.train(maxima, rounds=25, seed=1)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(training.packed(weights))
    last, learnt = (backtest.errors(named(name).over(maxima)[20:], maxima[21:]) for name in ("last_max", f"lstm:{file}"))
    assert learnt.error < last.error / 4


def test_too_short_a_trace_is_not_trained_on() -> None:
    pytest.importorskip("torch")
    with pytest.raises(InputError, match="too few"):
        training.train(np.ones(20))


def test_the_end_of_a_trace_is_forecast_by_several_beside_an_oracle() -> None:
    test = backtest.end_of(bursts(20), 0.25, Settings(busy_share=0.7), Units(), bound_ms=200.0)
    assert test.first == 15 and len(test.known()) == 15 and test.came().tolist() == test.maxima()[15:].tolist()
    assert test.target.maximum == math.ceil(2 * 200 * test.units.service_s / 0.7)
    seconds: list[int] = []
    ranking = backtest.compare(test, ["last_max", "ewm"], seconds.append)
    assert [score.forecaster for score in ranking.scores] == ["last_max", "ewm"]
    assert ranking.oracle.misses == test.by_plan(test.came()).misses
    assert sum(seconds) == backtest.seconds_of(test, 2) == 5 * 5 * 60
