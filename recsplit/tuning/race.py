"""A few settings on a real server, in rounds, so that what others do meanwhile meets all alike; what is certainly slower than the best
drops out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic

from recsplit.capacity.search import Throughput, Trial, crossing, interval
from recsplit.capacity.workload import LatencyBound
from recsplit.errors import InputError
from recsplit.tuning.joint import Chosen, Tried

#: Rounds that the first of the settings, and what may be the best, take part in.
CONFIRMED = 2


@dataclass(frozen=True)
class Raced(Generic[Chosen]):
    """Every setting's throughput over all of its rounds, in the order given, and how many rounds there were."""

    tried: tuple[Tried[Chosen], ...]
    rounds: int

    @property
    def best(self) -> Tried[Chosen]:
        """The largest rate; of equals the first."""
        return max(self.tried, key=lambda tried: tried.throughput.rate)

    def better_than(self, present: Chosen) -> Tried[Chosen] | None:
        """The best, where it is certainly better than `present`, which took part: its whole interval lies above the other's."""
        mine = next(tried for tried in self.tried if tried.setting == present)
        return self.best if self.best.throughput.low > mine.throughput.high else None


def race(
    settings: Sequence[Chosen],
    measure: Callable[[Chosen, int], Throughput],
    bound: LatencyBound,
    *,
    rounds: int,
) -> Raced[Chosen]:
    """Measure `settings` round by round, until one is certainly the best or `rounds` are done. `measure` takes a setting and the round.

    One search may have been lucky: what may be the best has a second one, beside the first of the settings, which never drops out. Raises
    InputError without settings or rounds.
    """
    if not settings or rounds < 1:
        raise InputError("nothing takes part in the race", hint="give one setting and one round or more")
    seen: dict[Chosen, Throughput] = {}
    left = list(settings)
    number = 0
    while number < rounds and (number < CONFIRMED or len(left) > 1):
        for setting in left:
            now = measure(setting, number)
            seen[setting] = now if number == 0 else together(seen[setting], now, bound)
        number += 1
        best = max((seen[setting] for setting in left), key=lambda throughput: throughput.rate)
        left = [setting for setting in left if seen[setting].high >= best.low or (setting == settings[0] and number < CONFIRMED)]
    return Raced(tuple(Tried(setting, throughput) for setting, throughput in seen.items()), number)


def together(before: Throughput, now: Throughput, bound: LatencyBound) -> Throughput:
    """What the trials of two searches say, where both found the bound; else what the later one says, with the trials of both."""
    trials: tuple[Trial, ...] = (*before.trials, *now.trials)
    if before.verdict != "found" or now.verdict != "found":
        return replace(now, trials=trials)
    rate, (low, high) = crossing(trials, bound), interval(trials, bound)
    return Throughput(rate, min(low, rate), max(high, rate), "found", trials)
