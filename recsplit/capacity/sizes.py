"""Query sizes: how many items one query asks to be ranked.

The production trace of DeepRecSys was never published. Its repository ships lognormal(5.1, 0.2), which has no heavy
tail; KAIROS and RIBBON each wrote a mixture in its place. All of them are here, as their code has them.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.strict_toml import CONTENTS, Checked, within
from recsplit.errors import InputError

#: The largest query of DeepRecSys's load generator (max_mini_batch_size).
MOST = 1024
#: No law may draw more items than this for one query.
LIMIT = 1_000_000


@dataclass(frozen=True)
class Fixed(Checked):
    """Every query has the same size."""

    size: int = field(metadata=within(1, LIMIT))
    law: ClassVar[str] = "fixed"


@dataclass(frozen=True)
class Normal(Checked):
    """Normal, rounded and clipped to [1, most]; DeepRecSys's scripts have (165, 16) and (256, 32)."""

    mean: float = field(metadata=within(1, LIMIT))
    std: float = field(metadata=within(0))
    most: int = field(default=MOST, metadata=within(1, LIMIT))
    law: ClassVar[str] = "normal"


@dataclass(frozen=True)
class Lognormal(Checked):
    """Lognormal, rounded and clipped to [1, most]; DeepRecSys ships (5.1, 0.2): median 164, p99 261."""

    mu: float = field(metadata=within(0, 13))
    sigma: float = field(metadata=within(0, 10))
    most: int = field(default=MOST, metadata=within(1, LIMIT))
    law: ClassVar[str] = "lognormal"


@dataclass(frozen=True)
class Uniform(Checked):
    """Every size from `low` to `high` alike; MLPerf's DLRM benchmark has 100 to 700."""

    low: int = field(default=100, metadata=within(1, LIMIT))
    high: int = field(default=700, metadata=within(1, LIMIT))
    law: ClassVar[str] = "uniform"

    def check(self) -> None:
        """Raise InputError unless low <= high."""
        if self.low > self.high:
            raise InputError(f"low is {self.low} and high is {self.high}: expected low to be at most high")


@dataclass(frozen=True)
class Kairos(Checked):
    """KAIROS's stand-in for the production trace (helper.random_samp): 8 of 99 small, 22 in 200-600, 5 in 600-1000, else 100-200."""

    law: ClassVar[str] = "kairos"


@dataclass(frozen=True)
class Ribbon(Checked):
    """RIBBON's stand-in for the production trace (functions.random_samp): 2 of 99 small, 10 in 250-500, else lognormal(5.1, 0.2)."""

    law: ClassVar[str] = "ribbon"


@dataclass(frozen=True)
class HeavyTail(Checked):
    """lognormal(4.6, 1) up to 1000: the largest quarter of the queries holds about 60 % of all items."""

    mu: float = field(default=4.6, metadata=within(0, 13))
    sigma: float = field(default=1.0, metadata=within(0, 10))
    most: int = field(default=1000, metadata=within(1, LIMIT))
    law: ClassVar[str] = "heavy-tail"


@dataclass(frozen=True, eq=False)
class FromFile(Checked):
    """Sizes resampled, with replacement, from a file of one size a line. `values`: int64, one or more, all 1 or more."""

    path: str
    values: NDArray[np.int64] = field(repr=False, metadata=CONTENTS)
    law: ClassVar[str] = "file"


Sizes = Fixed | Normal | Lognormal | Uniform | Kairos | Ribbon | HeavyTail | FromFile
LAWS: dict[str, type[Sizes]] = {law.law: law for law in (Fixed, Normal, Lognormal, Uniform, Kairos, Ribbon, HeavyTail, FromFile)}


def draw(law: Sizes, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` query sizes in items, int64 [count], each 1 or more."""
    match law:
        case Fixed(size):
            return np.full(count, size, dtype=np.int64)
        case Normal(mean, std, most):
            return _clip(rng.normal(mean, std, count), most)
        case Lognormal(mu, sigma, most) | HeavyTail(mu, sigma, most):
            return _clip(rng.lognormal(mu, sigma, count), most)
        case Uniform(low, high):
            return rng.integers(low, high + 1, count)
        case Kairos():
            return _kairos(count, rng)
        case Ribbon():
            return _ribbon(count, rng)
        case FromFile():
            return rng.choice(law.values, count)


def _clip(drawn: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    return np.clip(np.rint(drawn), 1, most).astype(np.int64)


def _kairos(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    part = rng.integers(1, 100, count)  # 1 to 99, as theirs
    base = rng.lognormal(5.1, 0.2, count).astype(np.int64)
    base = np.where((base < 100) | (base > 200), rng.integers(190, 200, count), base)
    tail = np.where(part <= 30, rng.integers(200, 600, count), rng.integers(600, 1000, count))
    return np.where(part <= 8, rng.integers(1, 100, count), np.where(part <= 35, tail, base))


def _ribbon(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    part = rng.integers(1, 100, count)
    base = rng.lognormal(5.1, 0.2, count).astype(np.int64)
    base = np.where(base > 500, rng.integers(400, 500, count), base)
    return np.where(part <= 2, rng.integers(1, 100, count), np.where(part <= 12, rng.integers(250, 500, count), base))
