"""What the paper's authors measured: capacities by cores, accuracies, load times; and the slices of the trace that are played."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.variants import Size, Variant
from recsplit.errors import InputError
from recsplit_controller.forecast import trace

#: The experiment's (starter.py of the paper's repository): a p99 within 750 ms, on 20 cores.
BOUND_MS, CORES = 750.0, 20
#: Of what a variant sustains within the bound so much is planned with (CAPACITY_COEF).
CAPACITY_SHARE = 0.8
#: What the lines are fitted on; the adapter doesn't take a single core.
FITTED, FEWEST = (1, 2, 4, 8, 16), 2
#: ImageNet top-1, and seconds until a deployment serves (p95), of ResNet-18 to -152.
ACCURACY = {"18": 0.69758, "34": 0.73314, "50": 0.7613, "101": 0.77374, "152": 0.78312}
LOAD_S = {"18": 6.44, "34": 6.79, "50": 6.82, "101": 7.77, "152": 8.52}
DAY_S = 86_400
#: By name: from which second of the trace for how many. The first two are the paper's.
SLICES = {
    "burst": (15 * DAY_S + 82 * 60, 21 * 60),
    "fall": (16 * DAY_S + 95 * 60, 25 * 60),
    "highest": (0, 21 * 60),  # where the trace's largest minute is in the middle; `slices` finds it
    "steady": (18 * DAY_S + 12 * 3600, 21 * 60),
}
CAPACITY_FILE, TRACE_FILE = "capacity.csv", "twitter-2021-08-requests-per-second.txt.gz"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """Of a variant: it sustains slope * cores + intercept queries a second within the bound; R2 over all measured cores."""

    name: str
    slope: float
    intercept: float
    r2: float

    @property
    def service_s(self) -> float:
        """Of a query on one core."""
        return 1 / self.slope

    def variant(self) -> Variant:
        """As the paper's adapter sizes it."""
        carried = {cores: math.floor(CAPACITY_SHARE * (self.slope * cores + self.intercept)) for cores in range(FEWEST, CORES + 1)}
        sizes = tuple(Size(float(cores), float(qps), (cores,)) for cores, qps in carried.items() if qps > 0)
        return Variant(self.name, ACCURACY[self.name], sizes, LOAD_S[self.name])


@dataclass(frozen=True)
class Slice:
    """A part of the trace: requests in each second, float64 [seconds], of it and of the day before."""

    name: str
    start_s: int
    rates: Floats
    before: Floats


def lines(folder: Path) -> tuple[Line, ...]:
    """The regressions of the authors' measurements. Raises InputError where the file isn't there or isn't theirs."""
    path = folder / CAPACITY_FILE
    try:
        with path.open(encoding="utf-8") as file:
            rows = [(row["ARCH"], int(row["CPU"]), float(row["capacity"])) for row in csv.DictReader(file) if row["SLA"] == f"{BOUND_MS:g}"]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}", hint="the capacities of InfAdapter's authors") from error
    fitted = []
    for name in ACCURACY:
        points = {cores: qps for arch, cores, qps in rows if arch == name}
        if not set(FITTED) <= points.keys():
            raise InputError(f"{path} has not all cores {FITTED} of ResNet-{name}", hint="the capacities of InfAdapter's authors")
        slope, intercept = np.polyfit(FITTED, [points[cores] for cores in FITTED], 1)
        measured = np.array(list(points.values()))
        misfit = measured - (slope * np.array(list(points)) + intercept)
        fitted.append(Line(name, float(slope), float(intercept), 1 - float(misfit.var() / measured.var())))
    return tuple(fitted)


def slices(folder: Path, names: Sequence[str] = tuple(SLICES)) -> tuple[Slice, ...]:
    """The parts of the trace. Raises InputError where it isn't there."""
    rates = trace.read(folder / TRACE_FILE)
    parts = []
    for name in names:
        start_s, seconds = SLICES[name]
        if name == "highest":
            minutes = rates[15 * DAY_S : len(rates) // 60 * 60].reshape(-1, 60).mean(axis=1)  # after what a forecaster may be trained on
            start_s = 15 * DAY_S + 60 * int(minutes.argmax()) - seconds // 120 * 60
        parts.append(Slice(name, start_s, rates[start_s : start_s + seconds], rates[start_s - DAY_S : start_s]))
    return tuple(parts)


def maxima(rates: Floats) -> list[float]:
    """The largest second of each whole minute."""
    return [float(value) for value in rates[: len(rates) // 60 * 60].reshape(-1, 60).max(axis=1)]
