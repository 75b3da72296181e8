"""What each mean ratio is when one input of the paper is exchanged for another: which of them keeps it from the abstract's."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recsplit.capacity.ids import Zipf
from recsplit.partition import cost
from recsplit_perf.benchmarks.elasticrec import paper
from recsplit_perf.benchmarks.elasticrec.cases import Answer, answer, cut, faster, mean, question

#: Zipf's exponent that puts 90 % of the reads in the hottest tenth of 20 million rows (shared facts, 1c).
ALPHA = 1.035
_SPEEDS = np.geomspace(0.5, 8, 81)


@dataclass(frozen=True)
class Step:
    """One way of reckoning a mean ratio: its value for each case of the paper, and their mean."""

    ratio: Literal["memory", "utility", "servers"]
    inputs: str
    values: tuple[float, ...]
    abstract: float

    @property
    def mean(self) -> float:
        """The arithmetic mean, as the abstract means it."""
        return mean(self.values)


@dataclass(frozen=True)
class Speed:
    """How much faster than in figure 9 shards would have to gather for the paper's memory, and how much faster figure 5 says."""

    case: str
    figure_5: float
    needed: float | None


def plotted(case: paper.Case) -> int:
    """Whole containers that figures 13 and 14, 16 and 17 together show."""
    return case.copies * case.bars.whole_replicas


def steps() -> list[Step]:
    """All of them, the reckoning from the published rates first."""
    bars = [case.bars for case in paper.CASES]
    memory = [
        ("rates of figures 5 and 9", _all(lambda case: _answer(case).memory_ratio)),
        ("containers of the whole model as plotted", _all(lambda case: _answer(case, whole=plotted(case)).memory_ratio)),
        ("the paper's own bars", tuple(bar.whole_gb / bar.shards_gb for bar in bars)),
    ]
    utility = [
        (f"two-level law, {paper.ITEMS} items a query", _all(lambda case: _answer(case).utility_ratio)),
        ("two-level law, 1 item a query", _all(lambda case: _answer(case, items=1).utility_ratio)),
        (f"Zipf {ALPHA}, {paper.ITEMS} items a query", _all(lambda case: _answer(case, zipf=True).utility_ratio)),
        ("the paper's own bars, each replica counting once", tuple(bar.utility_ratio for bar in bars)),
        ("the paper's own bars, each shard counting once", tuple(mean(bar.shard_utility) / bar.whole_utility for bar in bars)),
    ]
    fitting = fitting_cores()
    servers = [
        ("shards reserve no cores, only memory", _all(lambda case: _answer(case).servers_ratio)),
        ("one core a shard's container", _all(lambda case: _answer(case, cores=1.0).servers_ratio)),
        (f"{fitting:.2f} cores a shard's container", _all(lambda case: _answer(case, cores=fitting).servers_ratio)),
        ("no cores; containers of the whole model as plotted", _all(lambda case: _answer(case, whole=plotted(case)).servers_ratio)),
        ("the paper's own bars", tuple(bar.whole_servers / bar.shards_servers for bar in bars)),
    ]
    return [
        *(Step("memory", text, values, paper.MEMORY_RATIO) for text, values in memory),
        *(Step("utility", text, values, paper.UTILITY_RATIO) for text, values in utility),
        *(Step("servers", text, values, paper.SERVERS_RATIO) for text, values in servers),
    ]


def fitting_cores() -> float:
    """The most cores a shard's container may reserve for the mean ratio of servers to reach the abstract's."""
    tried = [round(0.05 * step, 2) for step in range(20)]
    return max(cores for cores in tried if mean([_answer(case, cores=cores).servers_ratio for case in paper.CASES]) >= paper.SERVERS_RATIO)


def speeds() -> list[Speed]:
    """For each case, the least speed at which the shards take no more memory than the paper's bar; None where none tried does."""
    needed_speeds = []
    for case in paper.CASES:
        tables = case.model.table_count
        asked = dataclasses.replace(question(case), tables=1)  # they are alike
        dense_bytes = answer(asked).dense_replicas * asked.dense_size_bytes
        bar_bytes = (case.bars.shards_gb * 1e9 - dense_bytes) / tables + dense_bytes
        tried = (dataclasses.replace(asked, gather=faster(cost.PAPER_FIT, float(speed))) for speed in _SPEEDS)
        fitting = (changed for changed in tried if answer(changed).shards.memory_bytes <= bar_bytes)
        needed = next(fitting, None)
        needed_speeds.append(Speed(case.name, case.speed, None if needed is None else cost.PAPER_FIT.a_ms / needed.gather.a_ms))
    return needed_speeds


def _answer(case: paper.Case, *, whole: int | None = None, zipf: bool = False, cores: float = 0.0, items: int = paper.ITEMS) -> Answer:
    asked = question(case, law=Zipf(ALPHA) if zipf else None)
    partition = cut(asked)  # depends neither on cores nor on items, and is kept
    return answer(dataclasses.replace(asked, shard_cores=cores, items=items), partition, whole_replicas=whole)


def _all(ratio: Callable[[paper.Case], float]) -> tuple[float, ...]:
    return tuple(ratio(case) for case in paper.CASES)
