"""The area under the ROC curve, and how sure a change of it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DRAWS = 200

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Quality:
    """The area under the ROC curve of the source and of the rounded source on the same rows, and a 95 % interval of the change.

    The interval is a bootstrap of rows in pairs: percentiles of the change over resampled sets.
    """

    rows: int
    auc: float
    rounded_auc: float
    change_low: float
    change_high: float

    @property
    def change(self) -> float:
        """Rounded less source."""
        return self.rounded_auc - self.auc


def quality(labels: NDArray[np.bool_], exact: Scores, rounded: Scores) -> Quality:
    """Both areas, and how sure their difference is."""
    random = np.random.default_rng(0)
    changes = []
    for _ in range(_DRAWS):
        rows = random.integers(0, len(labels), len(labels))
        if labels[rows].any() and not labels[rows].all():
            changes.append(auc(labels[rows], rounded[rows]) - auc(labels[rows], exact[rows]))
    low, high = np.percentile(changes, [2.5, 97.5])
    return Quality(len(labels), auc(labels, exact), auc(labels, rounded), float(low), float(high))


def auc(labels: NDArray[np.bool_], of: Scores) -> float:
    """The probability that a row of label 1 has a higher score than one of label 0, a tie counting half (Mann-Whitney's U)."""
    _, group, counts = np.unique(of, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]
    positives = int(labels.sum())
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives)))
