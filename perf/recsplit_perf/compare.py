"""Two results of `recsplit perf run` side by side: ratios with intervals, and what else differs between them.

Intervals come from a circular block bootstrap (Politis and Romano, 1992): queries that follow each other share a queue,
so their latencies are no independent samples, and whole stretches of time are resampled instead.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.search import percentile_ms
from recsplit.disk import archive, bounded
from recsplit.errors import InputError
from recsplit.plan import strict_json
from recsplit_perf.traffic.runs import MOST_BYTES, require_samples

PERCENTILES = {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0}
#: Latencies sorted in all, for one result: bounds the time that an interval takes.
_SORTED = 20_000_000
_RESAMPLES = (100, 1000)
_WINDOWS = 50  # the throughput is resampled from this many windows of time
_CONFIDENCE = (2.5, 97.5)
#: What makes two results hard to compare, by the name it has in a warning.
_ORIGIN = ("model", "version", "workload", "rate", "batch", "concurrency", "machine", "versions")
_VOLATILE = "load_average"  # of the machine; differs always


@dataclass(frozen=True, eq=False)
class Result:
    """One file. `latency_ms` and `sent_s` (in order of time) are None where it holds no samples; inf: a failed query."""

    path: Path
    origin: Mapping[str, Any]
    numbers: Mapping[str, float | None]
    seconds: float
    sent_s: NDArray[np.float64] | None = None
    latency_ms: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Ratio:
    """One number of both results, B over A, and the 95 % interval of that; None where it can't be told."""

    name: str
    a: float | None
    b: float | None
    ratio: float | None
    low: float | None
    high: float | None


def read(path: Path) -> Result:
    """A result: the .npz of `perf run -o`, or the JSON of `perf run --json`. Raises InputError."""
    hint = "give a file of `recsplit perf run`: its -o FILE, or what --json printed"
    try:
        if path.suffix == ".npz":
            return _samples(path, hint)
        summary = strict_json.parse(bounded.read_text(path, bounded.RECORD_BYTES, hint=hint), origin=str(path), again=hint)
        rate = summary.get("answered_per_s", summary.get("requests_per_s"))
        numbers = {**{name: summary[name] for name in PERCENTILES}, "answered_per_s": rate}
        numbers = {name: strict_json.read(float | None, number, f"{path}: {name}", hint) for name, number in numbers.items()}
        return Result(path, summary, numbers, strict_json.read(float, summary["seconds"], f"{path}: seconds", hint))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no result of a measurement: {type(error).__name__}: {str(error)[:80]}", hint=hint) from error


def ratios(a: Result, b: Result, seed: int = 0) -> list[Ratio]:
    """p50, p95, p99 and throughput of B over those of A, with intervals where both files hold samples."""
    rng = np.random.default_rng(seed)
    spreads = [_resampled(result, rng) if result.latency_ms is not None else {} for result in (a, b)]
    all_ratios = []
    for name in (*PERCENTILES, "answered_per_s"):
        low = high = None
        if all(name in spread for spread in spreads):
            count = min(len(spread[name]) for spread in spreads)
            with np.errstate(invalid="ignore", divide="ignore"):
                both = spreads[1][name][:count] / spreads[0][name][:count]
            if np.isfinite(both).all():
                low, high = (float(value) for value in np.percentile(both, _CONFIDENCE))
        all_ratios.append(Ratio(name, a.numbers[name], b.numbers[name], _ratio(a.numbers[name], b.numbers[name]), low, high))
    return all_ratios


def differences(a: Result, b: Result) -> list[str]:
    """What differs between the two measurements besides the numbers compared, one sentence each."""
    sentences = []
    for key in _ORIGIN:
        one, other = a.origin.get(key), b.origin.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            names = [name for name in {**one, **other} if name != _VOLATILE and one.get(name) != other.get(name)]
            sentences += [f"{key} differs in {name}: {_said(one.get(name))} and {_said(other.get(name))}" for name in names]
        elif one != other:
            sentences.append(f"{key} differs: {_said(one)} and {_said(other)}")
    return sentences


def block_length(latency_ms: NDArray[np.float64]) -> int:
    """How many queries in a row to resample together: twice as many as the latencies' ranks stay correlated over, at most a tenth."""
    count = len(latency_ms)
    ranks = np.argsort(np.argsort(latency_ms, kind="stable")).astype(np.float64)
    ranks -= ranks.mean()
    spectrum = np.abs(np.fft.rfft(ranks, 2 * count)) ** 2
    correlation = np.fft.irfft(spectrum)[:count]
    if correlation[0] <= 0:
        return 1
    small = np.flatnonzero(correlation / correlation[0] < 2 / math.sqrt(count))
    return int(np.clip(2 * small[0] if len(small) else count, 1, max(count // 10, 1)))


def _samples(path: Path, hint: str) -> Result:
    names = ("about", "sent_s", "latency_ms")
    arrays = archive.arrays(path, "is no result of a measurement", MOST_BYTES, names=names, hint=hint)
    about = strict_json.parse(str(arrays["about"]), origin=f"{path}: about", again=hint)
    sent_s, latency_ms = arrays["sent_s"], arrays["latency_ms"]
    require_samples({"sent_s": sent_s, "latency_ms": latency_ms}, about["seconds"])
    order = np.argsort(sent_s, kind="stable")
    sent_s, latency_ms = sent_s[order], latency_ms[order]
    origin = {**about, **about["provenance"]}
    ended_s = (sent_s + latency_ms / 1000)[np.isfinite(latency_ms)]
    lasted_s = max(about["seconds"], float(ended_s.max(initial=0)))
    numbers = {name: percentile_ms(latency_ms, percent) for name, percent in PERCENTILES.items()}
    return Result(path, origin, {**numbers, "answered_per_s": len(ended_s) / lasted_s}, lasted_s, sent_s, latency_ms)


def _resampled(result: Result, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Each number of a result as resampling scatters it."""
    assert result.latency_ms is not None and result.sent_s is not None
    latency_ms, count = result.latency_ms, len(result.latency_ms)
    resamples = int(np.clip(_SORTED // count, *_RESAMPLES))
    length = block_length(latency_ms)
    places = np.arange(length)
    scattered: dict[str, list[float]] = {name: [] for name in PERCENTILES}
    for _ in range(resamples):
        starts = rng.integers(0, count, -(-count // length))
        sample = np.sort(latency_ms[((starts[:, None] + places).reshape(-1)[:count]) % count])
        for name, percent in PERCENTILES.items():
            scattered[name].append(float(sample[max(math.ceil(count * percent / 100), 1) - 1]))
    ended_s = (result.sent_s + latency_ms / 1000)[np.isfinite(latency_ms)]
    windows, _ = np.histogram(ended_s, bins=_WINDOWS, range=(0, result.seconds))
    rates = windows[rng.integers(0, _WINDOWS, (resamples, _WINDOWS))].sum(axis=1) / result.seconds
    return {**{name: np.array(values) for name, values in scattered.items()}, "answered_per_s": rates}


def _ratio(a: float | None, b: float | None) -> float | None:
    quotient = b / a if a and b is not None else math.nan
    return quotient if math.isfinite(quotient) else None


def _said(value: object) -> str:
    return json.dumps(value)
