"""Figure 19: half an hour of load that rises and falls, through autoscalers, whole and in shards.

The tables are alike and are asked by every query at once, so one table's shards are simulated and counted for all of them: with the
paper's constant service times the others would do the same at the same moments.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity import arrivals
from recsplit.capacity.autoscale import Followed, Scaled, ScalingRule, follow
from recsplit.capacity.service import Service
from recsplit.capacity.simulate import Pool
from recsplit.partition.accounting import replicas
from recsplit_perf.benchmarks.elasticrec import paper
from recsplit_perf.benchmarks.elasticrec.cases import Answer, Question

Floats = NDArray[np.float64]
Signal = Literal["qps", "latency"]

#: Not in the paper: a container starts in so many seconds, and its rows come over 10 Gbit/s.
START_S, LOAD_BYTES_PER_S = 10.0, 1.25e9
#: Nor is this: of what one container sustains, so much is what an autoscaler on queries a second aims at. At 1, which is what the paper's
#: text says, a queue that has built up while a container started never goes: arrivals don't show it.
HEADROOM = 0.8
#: Read: 11 worker nodes; a whole or a dense model takes a socket.
MOST = 22
#: Of an autoscaler in the half hour.
SYNCS = 60 * paper.FIGURE_19[-1][0] // 15


@dataclass(frozen=True, eq=False)
class Way:
    """One way of serving under the load, sampled at `time_s`: GB allocated; queries of that interval over the bound, in parts; p95, ms."""

    name: str
    time_s: Floats
    memory_gb: Floats
    missed: Floats
    p95_ms: Floats
    replicas: Mapping[str, list[int]]
    start_s: Mapping[str, float]
    missed_share: float

    @property
    def peak_gb(self) -> float:
        """The most that was allocated."""
        return float(self.memory_gb.max())

    @property
    def minutes_missed(self) -> int:
        """Minutes in which more than 1 % of the queries were over the bound."""
        return sum(bool(self.missed[first : first + 4].mean() > 0.01) for first in range(0, len(self.missed), 4))

    @property
    def gb_hours(self) -> float:
        """Allocated memory over time."""
        return float(self.memory_gb.mean() * (self.time_s[-1] + self.time_s[1]) / 3600)


@dataclass(frozen=True, eq=False)
class Kind:
    """A pool with what each of its containers takes; one stands for `copies`."""

    scaled: Scaled
    size_bytes: float
    copies: int = 1


def load() -> arrivals.Trace:
    """The rate of figure 19 in every second of the half hour; Poisson within."""
    seconds = np.arange(60 * paper.FIGURE_19[-1][0]) / 60
    minutes, at = np.array(paper.FIGURE_19, dtype=np.float64).T
    rates = np.interp(seconds, minutes, at)
    return arrivals.Trace("figure 19", np.round(rates).astype(np.int64))


def plays(answer: Answer) -> dict[str, list[Kind]]:
    """What is played: the paper's rules, then queries a second for all, then the paper's text to the letter."""
    asked = answer.question
    return {
        "model-wise": whole(asked),
        "shards": sharded(asked, answer),
        "model-wise, on queries/s": whole(asked, signal="qps"),
        "shards, on queries/s": sharded(asked, answer, signal="qps"),
        "shards, at all that one sustains": sharded(asked, answer, signal="qps", headroom=1.0),
    }


def whole(asked: Question, *, signal: Signal = "latency", headroom: float = HEADROOM) -> list[Kind]:
    """The whole model as one pool."""
    size = asked.tables * asked.rows * asked.row_bytes + asked.dense_bytes + asked.overhead_bytes
    return [_kind("whole", asked.whole_qps, size, _rule(signal, asked.whole_qps * headroom))]


def sharded(asked: Question, answer: Answer, *, signal: Signal = "latency", headroom: float = HEADROOM) -> list[Kind]:
    """A table's shards side by side, then the dense model. Shards are scaled on queries a second, as in the paper."""
    kinds = []
    for number, shard in enumerate(answer.one_table, start=1):
        qps = 1e3 / asked.gather.ms(shard.gathers_per_query)
        size = shard.size_bytes + asked.overhead_bytes
        kinds.append(_kind(f"shard {number}", qps, size, ScalingRule("qps", qps * headroom), copies=asked.tables))
    before = tuple(kind.scaled.pool.name for kind in kinds)
    rule = _rule(signal, asked.dense_qps * headroom)
    return [*kinds, _kind("dense", asked.dense_qps, asked.dense_size_bytes, rule, after=before)]


def _rule(signal: Signal, target_qps: float) -> ScalingRule:
    """For a whole or a dense model: the paper's latency rule, or queries a second as for shards."""
    if signal == "qps":
        return ScalingRule("qps", target_qps, most=MOST)
    return ScalingRule("latency", paper.DENSE_SHARE_OF_BOUND * paper.BOUND_MS, most=MOST)


def _kind(name: str, qps: float, size_bytes: float, rule: ScalingRule, *, after: tuple[str, ...] = (), copies: int = 1) -> Kind:
    """A pool that begins with what the first minutes need."""
    servers = replicas(paper.FIGURE_19[0][1], HEADROOM * qps)
    pool = Pool(name, (Service((1,), (1e3 / qps,)),) * servers, after=after)
    return Kind(Scaled(pool, rule, START_S + size_bytes / LOAD_BYTES_PER_S), size_bytes, copies)


def run(name: str, kinds: Sequence[Kind], *, seed: int = 19, advance: Callable[[int], None] | None = None) -> Way:
    """The half hour through these pools."""
    law = load()
    seconds = float(len(law.values))
    times = arrivals.draw(law, seconds, np.random.default_rng(seed))
    timeline = follow([kind.scaled for kind in kinds], times, np.ones(len(times), dtype=np.int64), seconds=seconds, advance=advance)
    return _way(name, kinds, times, timeline)


def _way(name: str, kinds: Sequence[Kind], arrivals_s: Floats, timeline: Followed) -> Way:
    edges = np.append(timeline.time_s, np.inf)
    slot = np.searchsorted(edges, arrivals_s, side="right") - 1
    latency = timeline.simulated.latency_ms
    memory = np.sum([kind.copies * kind.size_bytes * timeline.replicas[kind.scaled.pool.name] for kind in kinds], axis=0)
    parts = [latency[slot == index] for index in range(len(timeline.time_s))]
    return Way(
        name,
        timeline.time_s,
        memory / 1e9,
        np.array([float((part > paper.BOUND_MS).mean()) if len(part) else 0.0 for part in parts]),
        np.array([float(np.percentile(part, 95)) if len(part) else 0.0 for part in parts]),
        {kind.scaled.pool.name: timeline.replicas[kind.scaled.pool.name].tolist() for kind in kinds},
        {kind.scaled.pool.name: kind.scaled.start_s for kind in kinds},
        float((latency > paper.BOUND_MS).mean()),
    )
