"""Id skew: which rows of a table are read how often.

A law speaks of ranks, 0 the hottest. Ranks are spread over the table by a fixed multiplicative hash, a bijection, so that
hot rows are no neighbours and no page of the table is hot as a whole; the same rows are hot in every draw.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.strict_toml import CONTENTS, Checked, within
from recsplit.errors import InputError

Ids = NDArray[np.int64]

#: Products of ranks and multiplier stay below 2**63 up to here.
MOST_ROWS = 3_000_000_000
_GOLDEN = (math.sqrt(5) - 1) / 2
_FEW = 64  # up to this rank a harmonic sum is added up, from there on Euler-Maclaurin is exact to 1e-12
_STRETCH = 1 << 20  # ranks whose counts are made at once


@dataclass(frozen=True)
class Uniform(Checked):
    """Every row alike."""

    law: ClassVar[str] = "uniform"


@dataclass(frozen=True)
class Zipf(Checked):
    """The row of rank k (0, 1, ...) is read in proportion to (k + 1)**-alpha."""

    alpha: float = field(metadata=within(0, 10))
    law: ClassVar[str] = "zipf"


@dataclass(frozen=True)
class TwoLevel(Checked):
    """`hot_share` of the accesses fall in the hottest `hot_rows` of the rows, alike within both levels (ElasticRec's locality P)."""

    hot_share: float = field(metadata=within(0, 1))
    hot_rows: float = field(default=0.1, metadata=within(0, 1, above=True))
    law: ClassVar[str] = "two-level"


@dataclass(frozen=True, eq=False)
class Trace(Checked):
    """A stretch of an access trace, from a random place on, begun anew where it ends; rows beyond a table's end count on from its first.

    `values`: row numbers, int64, all 0 or more.
    """

    path: str
    values: Ids = field(repr=False, metadata=CONTENTS)
    law: ClassVar[str] = "trace"


Skew = Uniform | Zipf | TwoLevel | Trace
LAWS: dict[str, type[Skew]] = {law.law: law for law in (Uniform, Zipf, TwoLevel, Trace)}


def draw(law: Skew, rows: int, count: int, rng: np.random.Generator) -> Ids:
    """`count` row numbers of a table of `rows` rows, int64 [count], in [0, rows). Raises InputError for more than MOST_ROWS rows."""
    if not 0 < rows <= MOST_ROWS:
        raise InputError(f"a table has {rows} rows: ids are drawn for 1 to {MOST_ROWS}")
    match law:
        case Uniform():
            return rng.integers(0, rows, count)
        case Trace():
            start = int(rng.integers(0, len(law.values)))
            return np.resize(np.roll(law.values, -start), count) % rows
        case TwoLevel(hot_share, hot_rows):
            hot = _hot(hot_rows, rows)
            is_hot = (rng.random(count) < hot_share) | (hot == rows)
            ranks = np.where(is_hot, rng.integers(0, hot, count), rng.integers(min(hot, rows - 1), rows, count))
            return at_rank(ranks, rows)
        case Zipf(alpha):
            return at_rank(_zipf(alpha, rows, count, rng), rows)


def counts(law: Skew, rows: int, count: int, rng: np.random.Generator) -> Iterator[tuple[Ids, Ids]]:
    """How often each row is among `count` drawn ones, without drawing them: (row numbers, times), int64 [n], some ranks at a time.

    As `draw` has them, but for the order: multinomial, first over stretches of ranks, then within each. Raises InputError as `draw` does.
    """
    if isinstance(law, Trace):
        drawn_rows, times = np.unique(draw(law, rows, count, rng), return_counts=True)
        yield drawn_rows, times.astype(np.int64)
        return
    if not 0 < rows <= MOST_ROWS:
        raise InputError(f"a table has {rows} rows: ids are drawn for 1 to {MOST_ROWS}")
    edges = np.append(np.arange(0, rows, _STRETCH), rows)
    parts = np.maximum(np.diff([share(law, rows, int(edge)) for edge in edges]), 0.0)
    for first, last, times in zip(edges[:-1], edges[1:], rng.multinomial(count, parts / parts.sum()), strict=True):
        ranks = np.arange(first, last, dtype=np.int64)
        likely = _likely(law, rows, ranks)
        yield (ranks if isinstance(law, Uniform) else at_rank(ranks, rows)), rng.multinomial(times, likely / likely.sum()).astype(np.int64)


def _likely(law: Uniform | TwoLevel | Zipf, rows: int, ranks: Ids) -> NDArray[np.float64]:
    """Probabilities of these ranks, up to a factor."""
    match law:
        case Uniform():
            return np.ones(len(ranks))
        case TwoLevel(hot_share, hot_rows):
            hot = _hot(hot_rows, rows)
            return np.where(ranks < hot, hot_share / hot, (1 - hot_share) / max(rows - hot, 1)) if hot < rows else np.ones(len(ranks))
        case Zipf(alpha):
            return (ranks + 1.0) ** -alpha


def share(law: Skew, rows: int, hottest: int) -> float:
    """What part of the accesses falls in the `hottest` rows of a table of `rows` rows."""
    match law:
        case Uniform():
            return hottest / rows
        case TwoLevel(hot_share, hot_rows):
            hot = _hot(hot_rows, rows)
            cold = (1 - hot_share) * max(hottest - hot, 0) / (rows - hot) if hot < rows else 0.0
            return (hot_share if hot < rows else 1.0) * min(hottest, hot) / hot + cold
        case Zipf(alpha):
            return _harmonic(alpha, hottest) / _harmonic(alpha, rows)
        case Trace():
            counts = np.sort(np.unique(law.values % rows, return_counts=True)[1])[::-1]
            return float(counts[:hottest].sum() / counts.sum())


def at_rank(ranks: Ids, rows: int) -> Ids:
    """The rows that hold these ranks, int64 of the same shape: rank times a number near rows * 0.618 that shares no factor with rows."""
    multiplier = max(round(rows * _GOLDEN), 1)
    while math.gcd(multiplier, rows) != 1:
        multiplier += 1
    return (ranks * multiplier + rows // 2) % rows


def _hot(hot_rows: float, rows: int) -> int:
    return max(round(hot_rows * rows), 1)


def _harmonic(alpha: float, count: int) -> float:
    """The sum of k**-alpha for k = 1 .. count."""
    head = float((np.arange(1, min(count, _FEW) + 1, dtype=np.float64) ** -alpha).sum())
    if count <= _FEW:
        return head
    low, high = float(_FEW), float(count)
    integral, _ = _integral(alpha)
    between = float(integral(np.array(high)) - integral(np.array(low)))
    ends: float = (high**-alpha - low**-alpha) / 2 - alpha * (high ** (-alpha - 1) - low ** (-alpha - 1)) / 12
    return head + between + ends


def _zipf(alpha: float, rows: int, count: int, rng: np.random.Generator) -> Ids:
    """Ranks by rejection-inversion (Hoermann and Derflinger 1996): exact, with no array of the table's size."""
    integral, inverse = _integral(alpha)
    # The area from 0.5 to rows + 0.5 below x**-alpha, but rank 1's part cut down to its own height, 1.
    low, high = integral(np.array(1.5)) - 1.0, integral(np.array(rows + 0.5))
    ranks = np.zeros(0, dtype=np.int64)
    while len(ranks) < count:
        area = rng.uniform(float(low), float(high), count - len(ranks))
        k = np.clip(np.rint(inverse(area)), 1, rows)
        kept = area >= integral(k + 0.5) - k**-alpha
        ranks = np.concatenate([ranks, k[kept].astype(np.int64) - 1])
    return ranks


Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _integral(alpha: float) -> tuple[Function, Function]:
    """The integral of x**-alpha and its inverse, also where alpha is 1 or next to it."""
    beta = 1.0 - alpha
    if abs(beta) < 1e-9:
        return np.log, np.exp
    return (lambda x: np.expm1(beta * np.log(x)) / beta), (lambda y: np.exp(np.log1p(np.maximum(beta * y, -1 + 1e-15)) / beta))
