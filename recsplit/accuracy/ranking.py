"""How good scores are on labelled rows, and how sure a change of that is: AUC, log loss, NDCG."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DRAWS = 200
_PERCENTILES = (2.5, 97.5)
#: Places of a ranking that count.
TOP = 10
#: A probability no nearer to 0 or 1 is taken: the loss of one that is wrong and certain has no bound.
_NEAREST = 1e-7

Scores = NDArray[np.float64]
Labels = NDArray[np.bool_]


@dataclass(frozen=True)
class Measure:
    """One measure of the source and of the rounded source on the same rows.

    [low, high]: a 95 % interval of the rounded source's; [change_low, change_high]: of the change, which is surer than either, for both are
    on the same rows. By bootstrap: percentiles over resampled sets, of rows or, for a measure of queries, of queries.
    """

    name: str
    exact: float
    rounded: float
    low: float
    high: float
    change_low: float
    change_high: float

    @property
    def change(self) -> float:
        """Rounded less source."""
        return self.rounded - self.exact


@dataclass(frozen=True)
class Quality:
    """On so many rows: the area under the ROC curve, the log loss, and, where rows belong to queries, NDCG@10."""

    rows: int
    auc: Measure
    logloss: Measure
    ndcg: Measure | None

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Those that there are."""
        return (self.auc, self.logloss) if self.ndcg is None else (self.auc, self.logloss, self.ndcg)


def quality(labels: Labels, exact: Scores, rounded: Scores, queries: NDArray[Any] | None = None) -> Quality:
    """All measures of both. `queries` [rows]: which query a row belongs to.

    Scores are probabilities where all of the source's lie in [0, 1], else logits.
    """
    likelihoods = (_likelihoods(labels, scores, logits=not _are_probabilities(exact)) for scores in (exact, rounded))
    losses = [-np.log(each) for each in likelihoods]
    areas, both = [], []
    for rows in _resampled(labels):
        areas.append((auc(labels[rows], exact[rows]), auc(labels[rows], rounded[rows])))
        both.append((losses[0][rows].mean(), losses[1][rows].mean()))
    ndcg_measure = None
    if queries is not None:
        gains = [by_query(labels, scores, queries) for scores in (exact, rounded)]
        ndcg_measure = _measure(f"NDCG@{TOP}", (gains[0].mean(), gains[1].mean()), _means(gains))
    return Quality(
        len(labels),
        _measure("AUC", (auc(labels, exact), auc(labels, rounded)), areas),
        _measure("logloss", (losses[0].mean(), losses[1].mean()), both),
        ndcg_measure,
    )


def auc(labels: Labels, of: Scores) -> float:
    """The probability that a row of label 1 has a higher score than one of label 0, a tie counting half (Mann-Whitney's U)."""
    _, group, counts = np.unique(of, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]
    positives = int(labels.sum())
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives)))


def by_query(labels: Labels, of: Scores, queries: NDArray[Any]) -> Scores:
    """NDCG@10 of each query with a row of label 1, [queries]: gains of 1, discounts 1 / log2(place + 1) (Jarvelin and Kekalainen, 2002).

    Rows of one score share the labels that they have in the mean, so that no order among them counts.
    """
    discounts = 1 / np.log2(np.arange(2, TOP + 2))
    _, group = np.unique(queries, return_inverse=True)
    order = np.lexsort((-of, group.reshape(-1)))
    gains = []
    for rows in np.split(order, np.flatnonzero(np.diff(group.reshape(-1)[order])) + 1):
        if not labels[rows].any():
            continue
        _, tied = np.unique(-of[rows], return_inverse=True)
        shared = (np.bincount(tied, weights=labels[rows]) / np.bincount(tied))[tied][:TOP]
        best = discounts[: min(TOP, int(labels[rows].sum()))].sum()
        gains.append(float((shared * discounts[: len(shared)]).sum() / best))
    return np.array(gains)


def _are_probabilities(scores: Scores) -> bool:
    return bool(((scores >= 0) & (scores <= 1)).all())


def _likelihoods(labels: Labels, scores: Scores, *, logits: bool) -> Scores:
    """The probability that was given to each row's label."""
    positive = 1 / (1 + np.exp(-np.clip(scores, -50, 50))) if logits else scores
    likelihoods: Scores = np.clip(np.where(labels, positive, 1 - positive), _NEAREST, 1 - _NEAREST)
    return likelihoods


def _resampled(labels: Labels) -> Iterator[NDArray[np.int64]]:
    """Rows of sets as large, with labels of both kinds; one at a time, for the rows may be many."""
    random = np.random.default_rng(0)
    for _ in range(_DRAWS):
        rows = random.integers(0, len(labels), len(labels))
        if labels[rows].any() and not labels[rows].all():
            yield rows


def _means(of: list[Scores]) -> list[tuple[float, float]]:
    random = np.random.default_rng(0)
    draws = [random.integers(0, len(of[0]), len(of[0])) for _ in range(_DRAWS)]
    return [(of[0][rows].mean(), of[1][rows].mean()) for rows in draws]


def _measure(name: str, both: tuple[float, float], resampled: list[tuple[float, float]]) -> Measure:
    pairs = np.array(resampled)
    low, high = np.percentile(pairs[:, 1], _PERCENTILES)
    change_low, change_high = np.percentile(pairs[:, 1] - pairs[:, 0], _PERCENTILES)
    return Measure(name, float(both[0]), float(both[1]), float(low), float(high), float(change_low), float(change_high))
