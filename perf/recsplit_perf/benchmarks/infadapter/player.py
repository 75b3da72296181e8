"""What a rule needs to be played, and what became of the queries under it."""

from collections.abc import Mapping
from dataclasses import dataclass

from recsplit_controller.simulated.plant import Part
from recsplit_controller.simulated.play import Acting, play
from recsplit_perf.benchmarks.infadapter.inputs import ACCURACY, BOUND_MS, Slice


@dataclass(frozen=True)
class Player:
    """A rule, the parts of the plant that it begins with, and how often it acts."""

    name: str
    rule: Acting
    parts: tuple[Part, ...]
    interval_s: int


@dataclass(frozen=True)
class Run:
    """`missed`: the share of the queries that took longer than the bound. `cores`: in use in the mean, those that start and those that
    drain among them. `lost`: accuracy of the most accurate variant less that of the queries that were answered."""

    rule: str
    part_of_trace: str
    queries: int
    missed: float
    cores: float
    lost: float
    served_by: Mapping[str, int]


def run(player: Player, part_of_trace: Slice, *, seed: int = 0) -> Run:
    """Play a slice of the trace under a rule."""
    played = play(
        part_of_trace.rates,
        player.parts,
        player.rule,
        bound_ms=BOUND_MS,
        interval_s=player.interval_s,
        start_s=part_of_trace.start_s,
        seed=seed,
    )
    served = dict.fromkeys(ACCURACY, 0)
    for name, count in played.served_by.items():
        served[name.partition("/")[0]] += count
    accuracy = sum(ACCURACY[name] * count for name, count in served.items()) / max(1, sum(served.values()))
    return Run(
        player.name, part_of_trace.name, played.queries, played.miss_share, played.mean_units, max(ACCURACY.values()) - accuracy, served
    )
