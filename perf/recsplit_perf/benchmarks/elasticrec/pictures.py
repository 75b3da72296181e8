"""The benchmark's pictures, in the manner of the paper's figures 12 to 15 and 19."""

from collections.abc import Mapping, Sequence

import numpy as np

from recsplit.partition.algorithms import ALGORITHMS
from recsplit_perf.benchmarks.elasticrec import gains as objectives
from recsplit_perf.benchmarks.elasticrec import paper
from recsplit_perf.benchmarks.elasticrec.micro import Bar
from recsplit_perf.benchmarks.elasticrec.ramp import Way, load
from recsplit_perf.benchmarks.elasticrec.result import Measured, Result
from recsplit_perf.report import fleet
from recsplit_perf.report.figures import AMBER, INDIGO, TEAL

#: Paper's bars are outlines beside ours.
_COLORS = (AMBER, AMBER, TEAL, TEAL)
_WHOLE, _SHARDS = ("model-wise, paper", "model-wise"), ("shards, paper", "shards")
_PALE = (_WHOLE[0], _SHARDS[0])


def bars(result: Result) -> tuple[str, ...]:
    """Figures 13 to 18: memory, utility and servers, CPU-only and CPU-GPU."""
    pictures = []
    for kind in (paper.CPU, paper.GPU):
        pairs = [(case, answer) for case, answer in zip(paper.CASES, result.answers, strict=True) if case.kind == kind]
        groups = [case.model.name.upper() for case, _ in pairs]
        memory = [
            (case.bars.whole_gb, answer.whole.memory_bytes / 1e9, case.bars.shards_gb, answer.shards.memory_bytes / 1e9)
            for case, answer in pairs
        ]
        utility = [
            (
                case.bars.whole_utility,
                100 * (answer.whole.utility or 0),
                case.bars.utility_ratio * case.bars.whole_utility,
                100 * (answer.shards.utility or 0),
            )
            for case, answer in pairs
        ]
        servers = [
            (case.bars.whole_servers, answer.whole.packing.servers, case.bars.shards_servers, answer.shards.packing.servers)
            for case, answer in pairs
        ]
        for title, unit, values in (
            ("Memory", "GB", memory),
            ("Memory utility", "% of rows read, mean of containers", utility),
            ("Servers", "servers", servers),
        ):
            pictures.append(_four(f"{title}, {kind}", unit, groups, values))
    return tuple(pictures)


def _four(title: str, unit: str, groups: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    series = dict(zip((*_WHOLE, *_SHARDS), map(list, zip(*values, strict=True)), strict=True))
    return fleet.bars(title, unit, groups, series, colors=_COLORS, pale=_PALE)


def replicas(result: Result) -> str:
    """Figures 14 and 17: replicas of a table's shards, with their utility above."""
    groups: list[str] = []
    series: dict[str, list[float | None]] = {"paper": [], "here": []}
    notes: dict[str, list[str]] = {"paper": [], "here": []}
    for case, answer in zip(paper.CASES, result.answers, strict=True):
        for place in range(max(len(case.bars.shard_replicas), len(answer.one_table))):
            groups.append(f"S{place + 1}" + (f"\n{case.name}" if place == 1 else ""))
            theirs = place < len(case.bars.shard_replicas)
            ours = place < len(answer.one_table)
            series["paper"].append(case.bars.shard_replicas[place] if theirs else None)
            series["here"].append(answer.one_table[place].replicas if ours else None)
            notes["paper"].append(f"{case.bars.shard_utility[place]:.0f}" if theirs else "")
            notes["here"].append(f"{100 * answer.utilities[place]:.0f}" if ours else "")
    title = "Replicas of a table's shards, hottest first; above, their utility in %"
    return fleet.bars(title, "replicas", groups, series, notes=notes, colors=(TEAL, TEAL), pale=("paper",), wide=True)


def micro(all_bars: Sequence[Bar], titles: Mapping[str, str]) -> tuple[str, ...]:
    """Figure 12, panel by panel."""
    pictures = []
    for panel, title in titles.items():
        bars = [bar for bar in all_bars if bar.panel == panel]
        series: dict[str, list[float | None]] = {}
        if panel != "d":
            series[_WHOLE[0]] = [bar.paper_whole_gb for bar in bars]
            series[_WHOLE[1]] = [bar.whole_gb for bar in bars]
        series[_SHARDS[0]] = [bar.paper_shards_gb for bar in bars]
        series[_SHARDS[1]] = [bar.shards_gb for bar in bars]
        colors = _COLORS if panel != "d" else _COLORS[2:]
        pictures.append(fleet.bars(f"{panel}: {title}", "GB", [bar.setting for bar in bars], series, colors=colors, pale=_PALE))
    return tuple(pictures)


def ramp(ways: Sequence[Way]) -> tuple[str, ...]:
    """Figure 19: memory, and queries over the bound, over time."""
    rates = load().values.astype(np.float64)
    behind = (np.arange(len(rates)) / 60, rates)
    shown = ways[:2]
    minutes = shown[0].time_s / 60
    memory = {way.name: way.memory_gb for way in shown}
    late = {way.name: way.missed for way in shown}
    return (
        fleet.over_time("Memory allocated", "GB", minutes, memory, behind),
        fleet.over_time("Queries over 400 ms", "share of the last 15 s", minutes, late, behind, share=True),
    )


def measured(profiles: Sequence[Measured]) -> tuple[str, ...]:
    """Ratios with the measured profile, one picture a profile."""
    pictures = []
    for one in profiles:
        groups = [f"{answer.question.items:,} items,\nwhole: {answer.question.whole_cores:g} cores" for answer in one.answers]
        series: dict[str, list[float | None]] = {
            "memory": [answer.memory_ratio for answer in one.answers],
            "utility": [answer.utility_ratio for answer in one.answers],
            "servers": [answer.servers_ratio for answer in one.answers],
        }
        title = f"Model-wise over shards (utility: the inverse), {one.model}"
        pictures.append(fleet.bars(title, "ratio", groups, series, colors=(TEAL, INDIGO, AMBER)))
    return tuple(pictures)


def gains(relative: Mapping[tuple[str, str, str], float], asked: Sequence[str], title: str) -> str:
    """Mean cost over the paper's algorithm. What costs several times as much is left to the table."""
    named = [name for name in ALGORITHMS if name not in ("one", "tables", "layers")]
    series: dict[str, list[float | None]] = {}
    for objective in (objectives.MEMORY, objectives.PRICE, objectives.BOUND):
        means = [float(np.mean([relative[question, objective, name] for question in asked])) for name in named]
        series[objective] = [None if np.isnan(value) else value for value in means]
    return fleet.bars(title, "cost over the paper's, mean", named, series, colors=(TEAL, INDIGO, AMBER), line=1.0, wide=True)
