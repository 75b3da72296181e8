"""What the controller remembers from tick to tick: per target what is wanted, how long a wish is there, and rates.

Frozen and made of numbers and tuples, so that a journal can hold it and a replay can begin with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Wishing:
    """A wish that goes one way without a break: since when, and the least change that was wished in that time."""

    since_s: float
    units: float


@dataclass(frozen=True)
class Held:
    """The guard's memory of a target: a wish for more or for less than `present`, the count that there was; `gained_s`: when it last rose.

    `threads` of its units, None as rendered; `room_s`: since when the cores budget has room for those that it gave up.
    """

    present: int | None = None
    gained_s: float | None = None
    more: Wishing | None = None
    less: Wishing | None = None
    threads: int | None = None
    room_s: float | None = None


@dataclass(frozen=True)
class Rates:
    """A model's rates. `maxima`: requests a second, the largest of each full period, oldest first. `period`, the number of the present
    period, began at `period` * period_s; `largest` is its largest rate so far. `expected`: the forecast made at its beginning. `queue`:
    when how many requests waited for how many instances, over the last seconds."""

    maxima: tuple[float, ...] = ()
    period: int | None = None
    largest: float | None = None
    expected: float | None = None
    queue: tuple[tuple[float, float, int], ...] = ()


@dataclass(frozen=True)
class Arrival:
    """Units of a target that were asked for and don't serve yet. `since_s`: since when units are on their way (None: none are); `serving`:
    how many served then (None once the first have come); `start_s`: how long the last ones took (None: none were seen to come)."""

    serving: int | None = None
    since_s: float | None = None
    start_s: float | None = None


@dataclass(frozen=True)
class Memory:
    """All of it; empty when a controller starts: it then reads what runs. `held` and `arrivals` by target, `rates` by model or group.

    `wished` by group: when what was wished for it in all (core/groups.py's sums), over the last downscale_delay_s.
    """

    held: Mapping[str, Held] = field(default_factory=dict)
    arrivals: Mapping[str, Arrival] = field(default_factory=dict)
    rates: Mapping[str, Rates] = field(default_factory=dict)
    wished: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
