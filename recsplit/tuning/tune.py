"""A tuning from its start to a choice: the simulator first, a real server last. What it asks is passed in; all it hears is kept."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recsplit.capacity.search import Throughput
from recsplit.capacity.workload import LatencyBound
from recsplit.tuning.climb import Climb, climb
from recsplit.tuning.joint import Tried, joint
from recsplit.tuning.ledger import Asked, Ledger
from recsplit.tuning.race import Raced, race
from recsplit.tuning.setting import Setting, Space

#: What each setting is called in tables.
KNOBS = ("form", "embedding_instances", "dense_instances", "threads", "max_batch_size", "queue_delay_us")


@dataclass(frozen=True)
class Simulated:
    """What the simulator said: the climb over batches from the present setting, and the joint search, which holds all of both."""

    climb: Climb
    tried: tuple[Tried[Setting], ...]

    @property
    def best(self) -> Tried[Setting]:
        """The largest rate; of equals the first."""
        return max(self.tried, key=lambda tried: tried.throughput.rate)


@dataclass(frozen=True)
class Reason:
    """A knob that the choice turned, and what the simulator says of the choice with that one turned back."""

    knob: str
    present: str | int
    chosen: str | int
    turned_back: Throughput


def simulated(
    space: Space,
    present: Setting,
    evaluate: Callable[[Setting], Throughput],
    ledger: Ledger,
    *,
    trials: int,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> Simulated:
    """DeepRecSched's climb over batches, smallest first, and then `trials` settings jointly, the climb's best and the present one first."""
    climbed = climb(space.batches, lambda batch: ledger.once("simulated", _with_batch(present, batch), evaluate))
    start = dict.fromkeys((present, _with_batch(present, climbed.best.value)))
    grid = set(space.grid())
    tried = joint(
        space,
        lambda setting: ledger.once("simulated", setting, evaluate),
        start=[setting for setting in start if setting in grid],
        trials=trials,
        seed=seed,
        advance=advance,
    )
    return Simulated(climbed, tuple(tried))


def candidates(said: Simulated, present: Setting, count: int) -> list[Setting]:
    """What a real server is to judge: the present setting, and the `count` best simulated ones, of each form at least one."""
    ranked = sorted(said.tried, key=lambda tried: -tried.throughput.rate)
    firsts = [next(tried for tried in ranked if tried.setting.form == form) for form in dict.fromkeys(one.setting.form for one in ranked)]
    chosen = dict.fromkeys(tried.setting for tried in (*firsts, *ranked) if tried.setting != present)
    by_rank = [tried.setting for tried in ranked]
    kept = sorted(list(chosen)[: max(count, len(firsts))], key=by_rank.index)
    return [present, *kept]


def raced(
    settings: Sequence[Asked],
    measure: Callable[[Asked, int], Throughput],
    bound: LatencyBound,
    ledger: Ledger,
    *,
    rounds: int,
) -> Raced[Asked]:
    """The race of recsplit.tuning.race, whose measurements the ledger keeps: those of an interrupted one are not made again."""
    before = {setting: ledger.all_of("live", setting) for setting in settings}

    def one(setting: Asked, number: int) -> Throughput:
        if number < len(before[setting]):
            return before[setting][number]
        throughput = measure(setting, number)
        ledger.add("live", setting, throughput)
        return throughput

    return race(settings, one, bound, rounds=rounds)


def reasons(present: Setting, chosen: Setting, evaluate: Callable[[Setting], Throughput]) -> list[Reason]:
    """For each knob that `chosen` turned: what it would be worth with that one as it was."""
    turned = []
    for knob in KNOBS:
        was, now = getattr(present, knob), getattr(chosen, knob)
        back = dataclasses.replace(chosen, **{knob: was}).canonical
        if was != now and back != chosen:
            turned.append(Reason(knob, was, now, evaluate(back)))
    return turned


def _with_batch(setting: Setting, batch: int) -> Setting:
    return dataclasses.replace(setting, max_batch_size=batch)
