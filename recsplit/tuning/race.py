"""A few settings on a real server, in rounds, so that what others do meanwhile meets all alike; what is certainly slower than the best
drops out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic

from recsplit.capacity.search import Throughput, crossing, interval
from recsplit.capacity.workload import LatencyBound
from recsplit.errors import InputError
from recsplit.tuning.joint import Chosen, Tried

#: Rounds that the first of the settings, and what may be the best, take part in.
CONFIRMED = 2


@dataclass(frozen=True)
class Raced(Generic[Chosen]):
    """Every setting's throughput over all of its rounds, in the order given, and each round's by itself."""

    tried: tuple[Tried[Chosen], ...]
    rounds: Mapping[Chosen, tuple[Throughput, ...]]

    @property
    def best(self) -> Tried[Chosen]:
        """The largest rate of those that took part in every round; of equals the first.

        What dropped out did so beside a better one. What the machine did in later rounds it didn't meet, and isn't compared.
        """
        most = max(map(len, self.rounds.values()))
        return max((tried for tried in self.tried if len(self.rounds[tried.setting]) == most), key=lambda tried: tried.throughput.rate)

    def better_than(self, present: Chosen) -> Tried[Chosen] | None:
        """The best, where it is certainly better than `present`, which took part in every round: its whole interval lies above the other's,
        and it was better in each round."""
        mine, best = next(tried for tried in self.tried if tried.setting == present), self.best
        pairs = zip(self.rounds[best.setting], self.rounds[present], strict=True)
        certain = best.throughput.low > mine.throughput.high and all(here.rate > there.rate for here, there in pairs)
        return best if certain else None


def race(
    settings: Sequence[Chosen],
    measure: Callable[[Chosen, int], Throughput],
    bound: LatencyBound,
    *,
    rounds: int,
) -> Raced[Chosen]:
    """Measure `settings` round by round, until one is certainly the best or `rounds` are done. `measure` takes a setting and the round.

    One search may have been lucky: what may be the best has a second one, beside the first of the settings, which never drops out before
    the others do. Raises InputError without settings or rounds.
    """
    if not settings or rounds < 1:
        raise InputError("nothing takes part in the race", hint="give one setting and one round or more")
    seen: dict[Chosen, list[Throughput]] = {setting: [] for setting in settings}
    now: dict[Chosen, Throughput] = {}
    left = list(seen)
    number = 0
    while number < rounds:
        for setting in left:
            seen[setting].append(measure(setting, number))
            now[setting] = overall(seen[setting], bound)
        number += 1
        best = max(left, key=lambda setting: now[setting].rate)
        others = [setting for setting in left if setting != best and now[setting].high >= now[best].low]
        if number >= CONFIRMED and not others:
            break
        left = [setting for setting in left if setting in (best, settings[0], *others)]
    tried = tuple(Tried(setting, throughput) for setting, throughput in now.items())
    return Raced(tried, {setting: tuple(throughputs) for setting, throughputs in seen.items()})


def overall(throughputs: Sequence[Throughput], bound: LatencyBound) -> Throughput:
    """What the trials of several searches say together, where all found the bound; else what the last one says, with the trials of all."""
    trials = tuple(trial for throughput in throughputs for trial in throughput.trials)
    if len(throughputs) == 1 or any(throughput.verdict != "found" for throughput in throughputs):
        return replace(throughputs[-1], trials=trials)
    rate, (low, high) = crossing(trials, bound), interval(trials, bound)
    return Throughput(rate, min(low, rate), max(high, rate), "found", trials)
