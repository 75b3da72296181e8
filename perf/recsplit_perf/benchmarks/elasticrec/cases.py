"""One model at one target rate, served whole and in shards: what each takes."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from recsplit.capacity.ids import Skew, TwoLevel, share
from recsplit.capacity.profile import Fit
from recsplit.partition import algorithms, cost
from recsplit.partition.accounting import Account, Container, Node, account, replicas, series_qps, shards
from recsplit.partition.heat import Heat, from_share
from recsplit.partition.partition_file import Partition, ShardLayout
from recsplit.partition.utility import touched
from recsplit.plan.plan import Table
from recsplit.zoo.catalogue.shapes import Published
from recsplit_perf.benchmarks.elasticrec import paper

#: Shards a table: figures 14 and 17 have no more.
MOST_SHARDS = 4


@dataclass(frozen=True)
class Question:
    """A model of `tables` tables alike, the rates of its parts, and what traffic it is for.

    `gather`: latency of one shard by rows gathered for a query, ms; `front_row_ms`: of a row read in the dense model's container.
    `whole_qps` and `dense_qps`: of one container of the whole and of the dense model. `overhead_bytes`: what a shard's or a whole
    container takes besides rows and weights; `dense_size_bytes`: all that one of the dense model takes. Cores and GPUs are those of
    one container.
    """

    name: str
    tables: int
    rows: int
    row_bytes: int
    gathers: int
    dense_bytes: int
    law: Skew
    gather: Fit
    whole_qps: float
    dense_qps: float
    target_qps: float
    overhead_bytes: int
    dense_size_bytes: int
    node: Node
    front_row_ms: float
    items: int = paper.ITEMS
    whole_cores: float = 0.0
    dense_cores: float = 0.0
    shard_cores: float = 0.0
    gpus: int = 0

    @property
    def breaks(self) -> tuple[int, ...]:
        """Ranks at which the law's frequency jumps."""
        return (round(self.law.hot_rows * self.rows),) if isinstance(self.law, TwoLevel) else ()


@dataclass(frozen=True)
class Answer:
    """What both ways take; replicas of the whole and of the dense model are containers."""

    question: Question
    partition: Partition
    utilities: tuple[float, ...]
    whole_replicas: int
    dense_replicas: int
    whole: Account
    shards: Account

    @property
    def one_table(self) -> tuple[ShardLayout, ...]:
        """The shards of the first table, hottest first, where every shard is of one table."""
        return tuple(shard for shard in self.partition.shards if shard.segments[0].table == "0")

    @property
    def memory_ratio(self) -> float:
        """The whole's allocated memory over the shards'."""
        return self.whole.memory_bytes / self.shards.memory_bytes

    @property
    def utility_ratio(self) -> float:
        """The shards' utility over the whole's."""
        if self.whole.utility is None or self.shards.utility is None:
            raise ValueError("utility is known of containers that hold rows")
        return self.shards.utility / self.whole.utility

    @property
    def servers_ratio(self) -> float:
        """The whole's servers over the shards'."""
        return self.whole.packing.servers / self.shards.packing.servers


def question(case: paper.Case, *, law: Skew | None = None, shard_cores: float = 0.0) -> Question:
    """A case of the paper from its own profile: figure 5's layers one after the other, figure 9's shards."""
    model, (group,) = case.model, case.model.tables
    cpu = case.kind == paper.CPU
    return Question(
        name=case.name,
        tables=group.count,
        rows=group.rows,
        row_bytes=4 * model.dim,
        gathers=group.lookups,
        dense_bytes=4 * model.parameters,
        law=law or locality(model),
        gather=faster(cost.PAPER_FIT, case.speed),
        whole_qps=series_qps(case.dense_qps, case.sparse_qps),
        dense_qps=case.dense_qps,
        target_qps=case.target_qps,
        overhead_bytes=cost.PAPER_MIN_BYTES,
        dense_size_bytes=4 * model.parameters + cost.PAPER_MIN_BYTES,
        node=paper.NODES[case.kind],
        front_row_ms=cost.PAPER_FIT.b_ms / case.speed,
        whole_cores=paper.SOCKET if cpu else 0.0,
        dense_cores=paper.SOCKET if cpu else 0.0,
        shard_cores=shard_cores,
        gpus=0 if cpu else 1,
    )


def faster(gather: Fit, by: float) -> Fit:
    """The same shard on a machine that is so many times as fast."""
    return Fit(gather.a_ms / by, gather.b_ms / by, gather.r2)


def locality(model: Published) -> TwoLevel:
    """The paper's P: so much of the reads in the hottest tenth of the rows, alike within both parts."""
    return TwoLevel(model.hot_share or 0.1)


@functools.lru_cache(maxsize=64)
def _heat(law: Skew, rows: int, row_bytes: int, gathers: int) -> Heat:
    """A query gets one vector of a table."""
    return from_share(
        Table("0", rows, row_bytes // 4, "FP32", "FP32", rows * row_bytes), lambda hottest: share(law, rows, hottest), gathers, 1.0
    )


def heats(asked: Question) -> tuple[Heat, ...]:
    """Of each table, named by number."""
    heat = _heat(asked.law, asked.rows, asked.row_bytes, asked.gathers)
    return tuple(dataclasses.replace(heat, table=str(number)) for number in range(asked.tables))


def settings(asked: Question, *, most: int = MOST_SHARDS) -> cost.CostSettings:
    """The paper's objective, with whole replicas; what is known of the front server with it."""
    front = cost.Front(1e3 / asked.dense_qps, asked.front_row_ms, asked.dense_size_bytes)
    return cost.CostSettings(asked.target_qps, asked.gather, asked.overhead_bytes, max_shards=most, front=front)


@functools.lru_cache(maxsize=256)
def cut(asked: Question, algorithm: str = "whole", most: int = MOST_SHARDS) -> Partition:
    """All tables by one of recsplit's algorithms; "whole" is the paper's with whole replicas."""
    return algorithms.partition(asked.name, heats(asked), settings(asked, most=most), algorithm)


def answer(asked: Question, partition: Partition | None = None, *, whole_replicas: int | None = None) -> Answer:
    """Count both ways. `whole_replicas`: as many whole containers instead of what their rate asks for."""
    partition = partition or cut(asked)
    count = whole_replicas or replicas(asked.target_qps, asked.whole_qps)
    size = asked.tables * asked.rows * asked.row_bytes + asked.dense_bytes + asked.overhead_bytes
    whole = Container("whole", count, size, asked.whole_cores, asked.gpus, _touched(asked, 0, asked.rows))
    utilities = tuple(utility(asked, shard) for shard in partition.shards)
    # Rows in the front server make it larger and, where they take its time, more of it.
    inside = next((shard for shard in partition.shards if shard.location == "front"), None)
    dense = Container(
        "dense",
        inside.replicas if inside else replicas(asked.target_qps, asked.dense_qps),
        asked.dense_size_bytes + (inside.size_bytes if inside else 0),
        asked.dense_cores,
        asked.gpus,
        utilities[0] if inside else None,
    )
    apart = shards(partition, utilities, overhead_bytes=asked.overhead_bytes, cores=asked.shard_cores)
    return Answer(asked, partition, utilities, count, dense.replicas, account([whole], asked.node), account([dense, *apart], asked.node))


def utility(asked: Question, shard: ShardLayout) -> float:
    """The share of a shard's rows that the paper's number of queries touches."""
    rows = [segment.last - segment.first for segment in shard.segments]
    read = [_touched(asked, segment.first, segment.last) for segment in shard.segments]
    return math.fsum(count * part for count, part in zip(rows, read, strict=True)) / sum(rows)


def _touched(asked: Question, first: int, last: int) -> float:
    return _expected(asked.law, asked.rows, paper.UTILITY_QUERIES * asked.items * asked.gathers, first, last, asked.breaks)


@functools.lru_cache(maxsize=4096)
def _expected(law: Skew, rows: int, gathers: int, first: int, last: int, breaks: tuple[int, ...]) -> float:
    return touched(lambda hottest: share(law, rows, hottest), first, last, gathers, breaks=breaks)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean, as the paper's abstract means it."""
    return math.fsum(values) / len(values)
