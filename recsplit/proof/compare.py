"""Comparing answers: how far one answer is from another, by the rows' own magnitudes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import RecsplitError
from recsplit.plan.plan import UNKNOWN_IDS
from recsplit.proof.parts import Array


def _magnitudes(data: Array) -> Array:
    """The largest absolute value among the finite numbers of each row, FP64 [rows]."""
    with np.errstate(invalid="ignore"):  # a signalling NaN is NaN
        finite = np.nan_to_num(data.astype(np.float64), posinf=0.0, neginf=0.0)
    largest: Array = np.abs(finite.reshape(len(data) if data.ndim else 1, -1)).max(axis=1, initial=0.0)
    return largest


def median_magnitude(outputs: Sequence[Array]) -> float:
    """The median magnitude of the rows that aren't zero; 0 where there is none, or no floating point."""
    magnitudes = np.concatenate([_magnitudes(data) for data in outputs if data.dtype.kind in "fc"] or [np.zeros(0)])
    return float(np.median(magnitudes[magnitudes > 0])) if (magnitudes > 0).any() else 0.0


def differ(stage: str, case: str, name: str, want: Array, got: Array | None, scale: float) -> tuple[float, float]:
    """The largest absolute difference of output `name`, and the largest relative one as Difference has it; `scale` is the median magnitude.

    Outputs that aren't floating point differ in so many elements. Raises RecsplitError where a shape differs.
    """
    if got is None and name == UNKNOWN_IDS:
        return 0.0, 0.0  # a server that errs on unknown ids need not hand out the marks
    if got is None or got.shape != want.shape:
        shape = None if got is None else got.shape
        raise RecsplitError(
            f"{stage}: output {name!r} has shape {shape} instead of {want.shape} in case {case!r}", hint="rows got lost or mixed"
        )
    if want.size == 0:
        return 0.0, 0.0
    if want.dtype.kind not in "fc":
        wrong = float(np.count_nonzero(want != got))
        return wrong, wrong
    absolute, relative = by_row(want, got, scale)
    return float(absolute.max()), float(relative.max())


def by_row(want: Array, got: Array, scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each row's largest absolute difference, and that divided by the row's magnitude or by `scale`, where that is more; both [rows].

    Elements that are infinite or NaN on both sides are equal, on one side infinitely far apart.
    """
    with np.errstate(invalid="ignore"):
        gap = np.abs(want.astype(np.float64) - got.astype(np.float64))
    finite = np.isfinite(want), np.isfinite(got)
    gap = np.where(finite[0] & finite[1], gap, np.where(finite[0] == finite[1], 0.0, np.inf))
    absolute = gap.reshape(len(want) if want.ndim else 1, -1).max(axis=1, initial=0.0)
    scales = np.maximum(_magnitudes(want), scale)
    return absolute, np.divide(absolute, scales, out=absolute.copy(), where=scales > 0)
