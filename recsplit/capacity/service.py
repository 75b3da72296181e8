"""Service times: how long a server is busy with a batch of so many rows, as a law to draw from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.events import LEAST_MS
from recsplit.capacity.profile import Curve, Fit


@dataclass(frozen=True)
class Service:
    """time = middle(rows) + spread, LEAST_MS at the least; or exponential with mean middle(rows) if `memoryless`.

    `middle_ms[i]` holds at `rows[i]` (rising); between two points it is interpolated, outside the line through the nearest two
    goes on (constant where there is one point only). The spread is 0 without `spreads_ms`, else drawn from `spreads_ms[i]` of the point
    nearest in rows. It is added and not multiplied: where the middle is next to nothing, a ratio to it is without bound.
    """

    rows: tuple[int, ...]
    middle_ms: tuple[float, ...]
    spreads_ms: tuple[tuple[float, ...], ...] = ()
    memoryless: bool = False

    def table_ms(self, largest: int) -> NDArray[np.float64]:
        """Middle times of 0, 1, .. `largest` rows, float64 [largest + 1]."""
        x, y = np.asarray(self.rows, dtype=np.float64), np.asarray(self.middle_ms)
        row_counts = np.arange(largest + 1, dtype=np.float64)
        if len(x) == 1:
            return np.full(largest + 1, max(y[0], LEAST_MS))
        right = np.clip(np.searchsorted(x, row_counts), 1, len(x) - 1)
        slope = (y[right] - y[right - 1]) / (x[right] - x[right - 1])
        times_ms: NDArray[np.float64] = np.maximum(y[right - 1] + slope * (row_counts - x[right - 1]), LEAST_MS)
        return times_ms

    def nearest(self, largest: int) -> NDArray[np.int64]:
        """Which point is nearest to 0, 1, .. `largest` rows, int64 [largest + 1]."""
        x = np.asarray(self.rows, dtype=np.float64)
        nearest_points: NDArray[np.int64] = np.abs(np.arange(largest + 1)[:, None] - x[None, :]).argmin(axis=1)
        return nearest_points


def affine(a_ms: float, b_ms: float) -> Service:
    """a_ms + b_ms * rows, always."""
    return Service((0, 1), (a_ms, a_ms + b_ms))


def fitted(fit: Fit) -> Service:
    """The fitted line, always."""
    return affine(fit.a_ms, fit.b_ms)


def exponential(mean_ms: float) -> Service:
    """Exponential, whatever the rows: what queueing theory has answers for."""
    return Service((1,), (mean_ms,), memoryless=True)


def measured(curve: Curve) -> Service:
    """A measured curve: its medians, and how single samples lay about them. No line is assumed."""
    median_ms = curve.median_ms
    spreads_ms = tuple(tuple(sample - middle for sample in samples) for samples, middle in zip(curve.samples_ms, median_ms, strict=True))
    return Service(curve.x, median_ms, spreads_ms)
