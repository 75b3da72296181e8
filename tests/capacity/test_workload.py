"""Workload files: what is read, and what is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from recsplit.capacity import arrivals, ids, sizes, workload
from recsplit.errors import InputError

SCENARIOS = Path(__file__).parents[2] / "perf" / "scenarios"

GOOD = """
name = "evening"
seed = 1
[latency]
bound_ms = 25.0
percentile = 95
[sizes]
law = "lognormal"
mu = 5.1
sigma = 0.2
[arrivals]
process = "poisson"
rate = 200.0
[ids]
law = "two-level"
hot_share = 0.9
"""


def read(folder: Path, text: str) -> workload.Workload:
    path = folder / "evening.toml"
    path.write_text(text)
    return workload.read(path)


def test_a_workload_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD) == workload.Workload(
        "evening", workload.LatencyBound(25.0, 95.0), sizes.Lognormal(5.1, 0.2), arrivals.Poisson(200.0), ids.TwoLevel(0.9), seed=1
    )


def test_whole_numbers_are_numbers_and_ids_are_uniform_where_nothing_is_said(tmp_path: Path) -> None:
    parsed_workload = read(tmp_path, GOOD.replace("200.0", "200").split("[ids]")[0])
    assert isinstance(parsed_workload.arrivals.rate, float)
    assert parsed_workload.ids == ids.Uniform()


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_scenarios_are_valid_and_named_after_their_file(path: Path) -> None:
    scenario = workload.read(path)
    assert scenario.name == path.stem
    assert scenario.describe()["latency"]["bound_ms"] > 0


def test_files_that_a_workload_names_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "sizes.txt").write_text("3\n5\n\n8\n")
    with gzip.open(tmp_path / "trace.gz", "wt") as file:
        file.write("0\n10\n20\n")
    np.savez(tmp_path / "rows.npz", rows=np.array([[5, 6], [7, 8]]))
    parsed_workload = read(
        tmp_path,
        'name = "files"\n[latency]\nbound_ms = 5\n[sizes]\nlaw = "file"\npath = "sizes.txt"\n'
        '[arrivals]\nprocess = "trace"\npath = "trace.gz"\n[ids]\nlaw = "trace"\npath = "rows.npz"\n',
    )
    assert isinstance(parsed_workload.sizes, sizes.FromFile) and parsed_workload.sizes.values.tolist() == [3, 5, 8]
    assert isinstance(parsed_workload.arrivals, arrivals.Trace) and arrivals.rate(parsed_workload.arrivals) == 10
    assert isinstance(parsed_workload.ids, ids.Trace) and parsed_workload.ids.values.tolist() == [5, 6, 7, 8]
    assert parsed_workload.describe()["sizes"] == {"law": "file", "path": "sizes.txt", "count": 3, "sum": 16}


BAD = {
    "no TOML": (GOOD, "not toml [", "is not TOML", "toml.io"),
    "no name": ('name = "evening"', "", "'name' is missing", "name, latency, sizes, arrivals, ids, seed"),
    "name is a number": ('"evening"', "3", "name is 3: expected a text", ""),
    "seed is a text": ("seed = 1", 'seed = "one"', 'seed is "one": expected a whole number', ""),
    "seed is negative": ("seed = 1", "seed = -1", "seed is -1: expected 0 or more", ""),
    "seed is a truth": ("seed = 1", "seed = true", "seed is true: expected a whole number", ""),
    "unknown table": ("[latency]", "[colour]\n[latency]", "unknown key 'colour'", "sizes"),
    "no latency": ("[latency]\nbound_ms = 25.0\npercentile = 95", "", "'latency' is missing", ""),
    "no sizes": ('[sizes]\nlaw = "lognormal"\nmu = 5.1\nsigma = 0.2', "", "'sizes' is missing", ""),
    "latency is a number": ("[latency]\nbound_ms = 25.0\npercentile = 95", "latency = 3", "latency] is 3: expected a table", "bound_ms"),
    "a key misspelt": ("bound_ms = 25.0", "bound = 25.0", "[latency]: unknown key 'bound'", "did you mean 'bound_ms'?"),
    "a bound of zero": ("25.0", "0", "[latency]: bound_ms is 0: expected more than 0", ""),
    "a bound without end": ("25.0", "inf", "bound_ms is inf", ""),
    "a percentile over 100": ("percentile = 95", "percentile = 101", "percentile is 101: expected more than 0 and at most 99.99", ""),
    "no law": ('law = "lognormal"\n', "", "[sizes]: 'law' is missing", "fixed, normal, lognormal"),
    "unknown law": ('"lognormal"', '"cauchy"', '[sizes]: law is "cauchy"', "heavy-tail, file"),
    "law is a number": ('"lognormal"', "7", "[sizes]: law is 7", "law is one of"),
    "a law's key is missing": ("sigma = 0.2", "", "[sizes]: 'sigma' is missing", "it takes mu, sigma, most"),
    "a key of another law": ("sigma = 0.2", "sigma = 0.2\nhigh = 3", "[sizes]: unknown key 'high'", "mu, sigma, most"),
    "sigma is a text": ("sigma = 0.2", 'sigma = "wide"', '[sizes]: sigma is "wide": expected a number', "mu, sigma"),
    "sigma is negative": ("sigma = 0.2", "sigma = -0.2", "[sizes]: sigma is -0.2: expected 0 or more", ""),
    "mu is not a number": ("mu = 5.1", "mu = nan", "[sizes]: mu is nan", ""),
    "a size is half": ('law = "lognormal"\nmu = 5.1\nsigma = 0.2', 'law = "fixed"\nsize = 2.5', "size is 2.5: expected a whole number", ""),
    "low above high": ('law = "lognormal"\nmu = 5.1\nsigma = 0.2', 'law = "uniform"\nlow = 9\nhigh = 3', "low is 9 and high is 3", ""),
    "no such file": (
        'law = "lognormal"\nmu = 5.1\nsigma = 0.2',
        'law = "file"\npath = "gone"',
        "gone can't be read: No such file",
        "relative",
    ),
    "path is a number": ('law = "lognormal"\nmu = 5.1\nsigma = 0.2', 'law = "file"\npath = 7', "path is 7: expected a text", ""),
    "not a size": (
        'law = "lognormal"\nmu = 5.1\nsigma = 0.2',
        'law = "file"\npath = "evening.toml"',
        "item 1 is no whole number of 1 or more",
        "one a line",
    ),
    "contents given": (
        'law = "lognormal"\nmu = 5.1\nsigma = 0.2',
        'law = "file"\npath = "x"\nvalues = [1]',
        "unknown key 'values'",
        "path",
    ),
    "unknown process": ('"poisson"', '"pareto"', '[arrivals]: process is "pareto"', "poisson-gap, bursts, diurnal, trace"),
    "a rate of zero": ("rate = 200.0", "rate = 0", "[arrivals]: rate is 0: expected more than 0", ""),
    "too large a burst": (
        'process = "poisson"',
        'process = "bursts"\nburst = 9\non_s = 1\noff_s = 1',
        "[arrivals]: burst is 9: with on_s = 1 and off_s = 1 at most 2 keeps the mean",
        "rate, burst, on_s, off_s",
    ),
    "amplitude over 1": ('process = "poisson"', 'process = "diurnal"\namplitude = 1.5', "amplitude is 1.5", ""),
    "a trace that is no gzip": ('"poisson"\nrate = 200.0', '"trace"\npath = "bad.gz"', "bad.gz can't be read", ""),
    "a trace of zeros": ('"poisson"\nrate = 200.0', '"trace"\npath = "zeros"', "zeros holds zeros only", ""),
    "a trace of nothing": ('"poisson"\nrate = 200.0', '"trace"\npath = "empty"', "empty is empty", ""),
    "a share over 1": ("hot_share = 0.9", "hot_share = 90", "[ids]: hot_share is 90: expected 0 or more and at most 1", ""),
    "ids is a text": ('[ids]\nlaw = "two-level"\nhot_share = 0.9', "ids = 7", "[ids] is 7: expected a table", ""),
    "rows that are no numbers": ('"two-level"\nhot_share = 0.9', '"trace"\npath = "half.npy"', "half.npy is no access trace: float64", ""),
    "rows that are no numpy": ('"two-level"\nhot_share = 0.9', '"trace"\npath = "evening.toml"', "evening.toml can't be read", ".npy"),
    "rows in two arrays": ('"two-level"\nhot_share = 0.9', '"trace"\npath = "two.npz"', "two.npz holds 2 arrays: a, b", "one array"),
}


@pytest.mark.parametrize(("old", "new", "message", "hint"), BAD.values(), ids=BAD.keys())
def test_a_bad_workload_is_refused_with_its_place_and_what_is_possible(tmp_path: Path, old: str, new: str, message: str, hint: str) -> None:
    (tmp_path / "bad.gz").write_text("1\n2\n")
    (tmp_path / "zeros").write_text("0\n0\n")
    (tmp_path / "empty").write_text("")
    np.save(tmp_path / "half.npy", np.array([0.5]))
    np.savez(tmp_path / "two.npz", a=np.array([1]), b=np.array([2]))
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if new in ("ids = 7", "latency = 3"):  # a plain key stands before the tables
        text = new + "\n" + GOOD.replace(old, "", 1)
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert str(tmp_path) in str(caught.value)
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.hint


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.toml can't be read: No such file"):
        workload.read(tmp_path / "gone.toml")
