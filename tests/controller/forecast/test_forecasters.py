"""Forecasters: what each says of histories whose answer is plain, and what holds for all of them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save_file

from recsplit.errors import InputError
from recsplit_controller.forecast import FORECASTERS, lstm, named, rules
from recsplit_controller.forecast.forecaster import Floats, Forecaster

RATES = arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1e6))


@given(history=RATES, name=st.sampled_from(sorted(FORECASTERS)))
def test_forecasts_are_rates_and_constant_load_stays_constant(history: Floats, name: str) -> None:
    assert 0 <= FORECASTERS[name](history) < np.inf
    assert FORECASTERS[name](np.full(len(history), 70.0)) == pytest.approx(70)


@given(history=RATES, name=st.sampled_from(sorted(FORECASTERS)), factor=st.floats(0.01, 100))
def test_forecasts_scale_with_the_load(history: Floats, name: str, factor: float) -> None:
    assert FORECASTERS[name](history * factor) == pytest.approx(FORECASTERS[name](history) * factor, abs=1e-6)


@given(
    maxima=arrays(np.float64, st.integers(2, 60), elements=st.floats(0, 1e6)),
    rule=st.sampled_from([*FORECASTERS.values(), rules.seasonal(season=7, seasons=3)]),
)
def test_many_forecasts_at_once_are_those_made_one_by_one(maxima: Floats, rule: Forecaster) -> None:
    assert rule.over(maxima) == pytest.approx([rule(maxima[:end]) for end in range(1, len(maxima))])


def test_ewm_forgets_two_elevenths_a_period_as_pandas_does_with_span_10() -> None:
    weights = [(9 / 11) ** age for age in (3, 2, 1, 0)]
    mean = (1 * weights[0] + 2 * weights[1] + 4 * weights[2] + 8 * weights[3]) / sum(weights)
    assert rules.ewm()(np.array([1.0, 2.0, 4.0, 8.0])) == pytest.approx(mean)


def test_holt_expects_a_rise_to_go_on_and_the_last_maximum_does_not() -> None:
    rising = np.arange(10.0, 110.0, 10.0)
    assert rules.last_max()(rising) == 100
    assert 100 < rules.holt()(rising) < 110


def test_seasonal_sees_the_burst_that_came_every_day() -> None:
    day = np.full(48, 50.0)
    day[20] = 200
    known = np.tile(day, 3)
    rule = rules.seasonal(season=48, seasons=3, slack=1)
    said = rule.over(np.concatenate([known, day]))[-48:]
    assert said[[19, 20, 21]].tolist() == [200, 200, 200]
    assert set(said[:19]) | set(said[22:]) == {50}
    assert rule(known[:30]) == 50  # not a season yet


def test_an_lstm_is_read_from_its_file_and_answers_as_torch_does(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer, head = torch.nn.LSTM(1, 25, batch_first=True), torch.nn.Linear(25, 1)
    parts = {"lstm": layer, "head": head}
    file = tmp_path / "weights.safetensors"
    save_file({f"{part}.{name}": value.detach().numpy() for part in parts for name, value in parts[part].named_parameters()}, file)
    history = np.random.default_rng(0).uniform(10, 90, lstm.PERIODS)
    with torch.no_grad():
        scaled = torch.tensor(history / history.max(), dtype=torch.float32)[None, :, None]
        expected = float(head(layer(scaled)[0][:, -1])) * history.max()
    assert named(f"lstm:{file}")(history) == pytest.approx(max(0.0, expected), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_weights_that_are_none_are_refused_with_a_hint(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "weights.safetensors"
    if content is None:
        save_file({"head.weight": np.zeros((1, 4), dtype=np.float32)}, file)
    else:
        file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        named(f"lstm:{file}")
    assert "--train" in caught.value.hint


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(InputError, match="no forecaster 'oracle'") as caught:
        named("oracle")
    assert "last_max" in caught.value.hint


@given(st.lists(st.floats(0, 1e4), min_size=15, max_size=40), st.integers(1, 5))
def test_further_ahead_the_same_time_of_earlier_seasons_counts(history: list[float], ahead: int) -> None:
    """What it says of a later period is what it says of it when it is next, but for the last rate, which is the one that is known."""
    rule = rules.seasonal(season=7, seasons=2, slack=1)
    said, place = rule(history, ahead), len(history) - 1 + ahead
    earlier = [max(history[place - back - 1 : place - back + 2]) for back in (7, 14) if back <= len(history) - 1]
    assert said == pytest.approx(max(history[-1], float(np.median(earlier))))
