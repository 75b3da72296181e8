"""A run: what open-loop load measured, query by query, with all that a reader must know of it. Saved as .npz."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.search import percentile_ms
from recsplit.disk import archive
from recsplit.disk.files import whole_file
from recsplit.errors import InputError
from recsplit.plan import strict_json

Times = NDArray[np.float64]

#: The generator is too late where its lateness, at the bound's percentile, is more than this part of the bound ...
LATE_SHARE = 0.1
#: ... but never for less than this: about what a busy kernel takes to wake a thread.
LATE_MS = 1.0

#: Of a run's arrays, unpacked: some ten times those of as many queries as one may have.
MOST_BYTES = 1 << 29

ARRAYS = ("sent_s", "late_ms", "latency_ms", "query_rows")


@dataclass(frozen=True, eq=False)
class Run:
    """Open-loop load at one rate. Arrays have one item for each query, in the order in which they were due.

    sent_s: when it was due, in s since the start of the measurement; late_ms: how much later the generator sent it;
    latency_ms: from when it was due to its whole answer, inf where it failed; query_rows: its size. `errors` counts failed
    queries by message. `rate`: the workload's, in queries per second; `seconds`: how long queries were sent.
    """

    provenance: Mapping[str, Any]
    workload: Mapping[str, Any]
    model: str
    version: int
    rate: float
    seconds: float
    sent_s: Times
    late_ms: Times
    latency_ms: Times
    query_rows: NDArray[np.int64]
    errors: Mapping[str, int]
    interrupted: bool = False

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which queries were answered."""
        return np.isfinite(self.latency_ms)

    @property
    def lasted_s(self) -> float:
        """From the start of the measurement to the end of sending, or to the last answer where that is later."""
        ends = (self.sent_s + self.latency_ms / 1000)[self.answered]
        return max(self.seconds, float(ends.max(initial=0.0)))

    @property
    def kept_up(self) -> bool:
        """Whether the latencies tell of the server, not of the generator.

        They don't where the generator sent late by more than LATE_SHARE of the bound, at the bound's percentile, while the
        server, counted from when each query was really sent, kept the bound. A server that misses it even so is the
        bottleneck whatever the generator does: it was offered no more than the rate, and was too slow for less.
        """
        bound_ms, percent = self.workload["latency"]["bound_ms"], self.workload["latency"]["percentile"]
        if percentile_ms(self.late_ms, percent) <= max(LATE_MS, LATE_SHARE * bound_ms):
            return True
        return percentile_ms(self.latency_ms - self.late_ms, percent) > bound_ms

    def summary(self) -> dict[str, Any]:
        """Rates, latencies and the verdict as plain numbers. A percentile is None where too many queries failed for it."""
        answered = self.answered
        p50, p95, p99 = (_plain(percentile_ms(self.latency_ms, percent)) for percent in (50, 95, 99))
        bound_ms = self.workload["latency"]["bound_ms"]
        return {
            "workload": dict(self.workload),
            "rate": self.rate,
            "seconds": round(self.seconds, 3),
            "queries": len(self.latency_ms),
            "failed": int((~answered).sum()),
            "offered_per_s": round(len(self.latency_ms) / self.seconds, 2),
            "answered_per_s": round(int(answered.sum()) / self.lasted_s, 2),
            "rows_per_s": round(int(self.query_rows[answered].sum()) / self.lasted_s, 1),
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "bound_ms": bound_ms,
            "within_bound": round(float((self.latency_ms <= bound_ms).mean()), 4),
            "late_p99_ms": _plain(percentile_ms(self.late_ms, 99)),
            "verdict": "kept up" if self.kept_up else "generator could not keep up",
            "interrupted": self.interrupted,
            "errors": dict(self.errors),
        }


def save(run: Run, path: Path) -> None:
    """Write a run as .npz: its arrays, and everything else as JSON text in `about`. The file appears whole or not at all."""
    about = {name: value for name, value in vars(run).items() if name not in ARRAYS}
    with whole_file(path) as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **{name: getattr(run, name) for name in ARRAYS})


def read(path: Path) -> Run:
    """Read a run. Raises InputError where the file is not one."""
    hint = "give a file that `recsplit perf run --workload ... -o FILE` wrote"
    arrays = archive.arrays(path, "is not a run", MOST_BYTES, names=("about", *ARRAYS), hint=hint)
    about = strict_json.parse(str(arrays.pop("about")), origin=f"{path}: about", again=hint)
    kinds = {name: kind for name, kind in get_type_hints(Run).items() if name not in ARRAYS}
    try:
        if not isinstance(about, dict) or set(about) != set(kinds):
            raise ValueError("its `about` isn't one's")
        values: dict[str, Any] = {name: strict_json.read(kind, about[name], f"{path}: {name}", hint) for name, kind in kinds.items()}
        require_samples(arrays, values["seconds"])
    except ValueError as error:
        raise InputError(f"{path} is not a run: {error}", hint=hint) from error
    return Run(**values | arrays)


def require_samples(arrays: Mapping[str, NDArray[Any]], seconds: object) -> None:
    """Raise ValueError unless each array has one number for each query of the same queries, and `seconds` is a time (only latencies may be
    endless)."""
    if not (isinstance(seconds, int | float) and 0 < seconds < math.inf):
        raise ValueError("`seconds` is no time")
    for name, array in arrays.items():
        if array.ndim != 1 or array.dtype.kind not in "iuf" or not len(array):
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, and has a number for each query")
        if len(array) != len(arrays["sent_s"]):
            raise ValueError(f"{name} has {len(array)} numbers, and sent_s has {len(arrays['sent_s'])}")
        if not (array > -math.inf if name == "latency_ms" else np.isfinite(array)).all():
            raise ValueError(f"{name} holds what is no number")


def _plain(value_ms: float) -> float | None:
    return round(value_ms, 3) if np.isfinite(value_ms) else None
