"""Comparing two results: ratios, intervals, warnings."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from recsplit.errors import InputError
from recsplit_perf import compare
from recsplit_perf.traffic import runs
from tests.perf.workloads import run_with


def saved(folder: Path, name: str, latency_ms: object, **changes: object) -> compare.Result:
    runs.save(run_with(latency_ms, **changes), folder / f"{name}.npz")
    return compare.read(folder / f"{name}.npz")


def test_a_factor_between_two_runs_is_found_inside_its_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a = saved(tmp_path, "a", rng.lognormal(1, 0.5, 4000))
    b = saved(tmp_path, "b", 1.3 * rng.lognormal(1, 0.5, 4000))
    for ratio in compare.ratios(a, b)[:3]:
        assert ratio.low is not None and ratio.high is not None and ratio.ratio is not None
        assert ratio.low < 1.3 < ratio.high
        assert ratio.low < ratio.ratio < ratio.high
        assert ratio.high - ratio.low < 0.4
    throughput = compare.ratios(a, b)[3]
    assert throughput.ratio == pytest.approx(1, abs=0.01)


def test_latencies_that_hang_together_widen_the_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    slow = np.repeat(rng.lognormal(1, 0.5, 40), 100)  # 40 stretches of 100 alike: no more than 40 samples
    alone = rng.permutation(slow)
    assert compare.block_length(alone) < 20 < compare.block_length(slow)
    widths = []
    for name, latencies in (("slow", slow), ("alone", alone)):
        ratio = compare.ratios(saved(tmp_path, name, latencies), saved(tmp_path, name, latencies))[0]
        assert ratio.low is not None and ratio.high is not None
        widths.append(ratio.high - ratio.low)
    assert widths[0] > 3 * widths[1]


def test_a_percentile_that_failures_made_endless_has_no_ratio(tmp_path: Path) -> None:
    a, b = saved(tmp_path, "a", [5.0] * 100), saved(tmp_path, "b", [5.0] * 90 + [np.inf] * 10)
    p50, p95, _, _ = compare.ratios(a, b)
    assert p50.ratio == 1
    assert (p95.ratio, p95.low) == (None, None)


def test_numbers_without_samples_have_ratios_without_intervals(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(run_with([5.0] * 100).summary()))
    (tmp_path / "b.json").write_text(json.dumps(run_with([10.0] * 100).summary()))
    for ratio in compare.ratios(compare.read(tmp_path / "a.json"), compare.read(tmp_path / "b.json"))[:3]:
        assert (ratio.ratio, ratio.low, ratio.high) == (2, None, None)


def test_what_else_differs_is_told(tmp_path: Path) -> None:
    a = saved(tmp_path, "a", [5.0] * 100)
    other = {"machine": {"cpu": "slide rule", "load_average": [3]}, "versions": {"numpy": "9"}}
    b = saved(tmp_path, "b", [5.0] * 100, provenance=other, version=2, rate=50.0)
    assert compare.differences(a, a) == []
    assert compare.differences(a, b) == [
        "version differs: 1 and 2",
        "rate differs: 100.0 and 50.0",
        'machine differs in cpu: "abacus" and "slide rule"',
        'versions differs in numpy: null and "9"',
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", '{"p50_ms": 1}'])
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="is no result of a measurement" if text else "is not JSON"):
        compare.read(tmp_path / "a.json")
    (tmp_path / "a.npz").write_text(text)
    with pytest.raises(InputError, match="is no result of a measurement"):
        compare.read(tmp_path / "a.npz")
    with pytest.raises(InputError, match="No such file"):
        compare.read(tmp_path / "gone.json")


SAMPLES = {
    "of other lengths": (np.arange(5.0), np.arange(4.0)),
    "none": (np.zeros(0), np.zeros(0)),
    "a table": (np.zeros((2, 2)), np.zeros((2, 2))),
    "no numbers": (np.arange(5.0), np.full(5, np.nan)),
    "endless times": (np.full(5, np.inf), np.arange(5.0)),
    "texts": (np.array(["a"]), np.array(["b"])),
    "one number": (np.array(1.0), np.array(1.0)),
    "complex": (np.arange(3) + 1j, np.arange(3) + 1j),
}


@pytest.mark.parametrize("seconds", [1.0, 0, -1, "1", None, math.inf])
@pytest.mark.parametrize("case", [*SAMPLES, "good"])
def test_samples_that_are_none_are_refused_by_both_readers(tmp_path: Path, case: str, seconds: object) -> None:
    run = run_with([5.0] * 5)
    runs.save(run, tmp_path / "run.npz")
    arrays = dict(np.load(tmp_path / "run.npz"))
    arrays["about"] = np.array(json.dumps({**json.loads(str(arrays["about"])), "seconds": seconds}))
    if case in SAMPLES:
        arrays["sent_s"], arrays["latency_ms"] = SAMPLES[case]
    np.savez(tmp_path / "run.npz", **arrays)
    if case == "good" and seconds == 1.0:
        assert compare.read(tmp_path / "run.npz").numbers["p50_ms"] == runs.read(tmp_path / "run.npz").summary()["p50_ms"] == 5
        return
    with pytest.raises(InputError):
        compare.read(tmp_path / "run.npz")
    with pytest.raises(InputError):
        runs.read(tmp_path / "run.npz")


def test_numbers_that_are_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**run_with([5.0] * 100).summary(), "p95_ms": "5"}))
    with pytest.raises(InputError, match="p95_ms"):
        compare.read(tmp_path / "a.json")
