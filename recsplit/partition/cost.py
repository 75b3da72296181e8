"""The cost of a partition: one objective, by which every algorithm is judged.

ElasticRec's Algorithm 1: a shard costs its replicas times (its rows + what a server needs besides them), and needs as many replicas as the
target traffic asks of servers that each answer QPS(x) = 1 / (a + b x) queries a second, x the rows that a query reads from the shard.
Beyond the paper, each where it is set: whole replicas, prices of memory, cores and network, a latency bound that holds for the slowest of
all shards of a query, and rows kept in the front server.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.profile import Fit
from recsplit.errors import InputError
from recsplit.partition.heat import Heat
from recsplit.plan.plan import Location

Numbers = NDArray[np.float64]
#: One shard's, or those of many at once.
Number = float | Numbers

#: Latency of one call by the rows it reads, dim 32, on the paper's machine: ElasticRec figure 9, digitised.
PAPER_FIT = Fit(a_ms=10.0, b_ms=1.524, r2=1.0)
#: What a server needs besides its rows, where the paper's figures come out (shared/facts/seeds.md 1d).
PAPER_MIN_BYTES = 300_000_000

#: Bytes of a call besides ids, offsets and vectors: two gRPC messages with names, shapes and headers.
CALL_BYTES = 500
_ID_BYTES = 4
#: A replica that may get fewer queries a second than this is none.
_LEAST_QPS = 1e-6


@dataclass(frozen=True)
class Prices:
    """What things cost: memory by the GB and hour, a core by the hour, a GB sent between servers. `cores`: those of one replica."""

    gb_hour: float
    core_hour: float
    gb_sent: float
    cores: float = 1.0


@dataclass(frozen=True)
class CallBound:
    """`percentile` percent of the queries must have the answers of all their shards within `bound_ms`.

    `calls` is how many shards a query calls. Each call's latency must then be within the bound but for (1 - percentile) / calls of
    the queries: by the union bound, however the shards' delays depend on each other.
    """

    bound_ms: float
    percentile: float = 95.0
    calls: int = 1


@dataclass(frozen=True)
class Front:
    """The front server, which holds the dense model: milliseconds of one replica for a query, and for each row that is read there, without
    any call; what a replica takes without rows, and how many bytes of rows it has room for."""

    dense_ms: float
    row_ms: float
    size_bytes: int
    most_bytes: float = math.inf


@dataclass(frozen=True)
class CostSettings:
    """What a partition is for, and what things cost. `fit`: milliseconds of one replica for a call, by the rows it reads.

    `min_bytes`: what a server takes besides its rows. `whole_replicas`: round replicas up, as Kubernetes must; else the paper's fractions.
    `max_shards`: of one table. Without `prices` the cost is bytes of allocated memory. `front` is needed to keep rows there.
    """

    target_qps: float
    fit: Fit = PAPER_FIT
    min_bytes: int = PAPER_MIN_BYTES
    whole_replicas: bool = True
    max_shards: int = 8
    prices: Prices | None = None
    bound: CallBound | None = None
    front: Front | None = None

    def __post_init__(self) -> None:
        positive = {"target_qps": self.target_qps, "max_shards": self.max_shards}
        for name, value in positive.items():
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value:g}: expected more than 0", hint="--qps 100, --max-shards 8")
        if self.fit.a_ms < 0 or self.fit.b_ms < 0 or self.fit.a_ms + self.fit.b_ms <= 0 or not math.isfinite(self.fit.a_ms + self.fit.b_ms):
            raise InputError(
                f"a call of {self.fit.a_ms:g} + {self.fit.b_ms:g} ms a row can't be", hint="both are 0 or more, and not both are 0"
            )
        if self.min_bytes < 0:
            raise InputError(
                f"min_bytes is {self.min_bytes}: expected 0 or more", hint="what a server takes besides its rows: --min-mb 300"
            )

    @property
    def unit(self) -> str:
        """The unit of every cost."""
        return "bytes" if self.prices is None else "USD/hour"


@dataclass(frozen=True)
class Piece:
    """A shard while it is looked for: parts (table, first, last), a table by its place among the heats, and candidate cuts by index."""

    parts: tuple[tuple[int, int, int], ...]
    location: Location = "own"


@dataclass(frozen=True, eq=False)
class ShardLoad:
    """What one query asks of shards, and what these hold; numbers, or arrays of one shape for many shards at once.

    `gathers`: rows read. `answer_bytes`: of the vectors, with an offset for each, that go over the network. `size_bytes`: the rows'.
    """

    gathers: Number
    answer_bytes: Number
    size_bytes: Number

    def __add__(self, other: "ShardLoad") -> "ShardLoad":
        """Both in one shard."""
        return ShardLoad(self.gathers + other.gathers, self.answer_bytes + other.answer_bytes, self.size_bytes + other.size_bytes)


NOTHING = ShardLoad(0.0, 0.0, 0.0)


def most_qps(settings: CostSettings, gathers: Number) -> Numbers:
    """Queries a second that one replica may get, each reading so many rows: 1 / (a + b x), less where the bound asks for it; 0: it can't.

    Under a bound a replica is taken for a queue with Poisson arrivals and one service time s. Its waiting time exceeds w with a
    probability of at most exp(-theta w), theta the root of rate (exp(theta s) - 1) = theta (Kingman 1964, for all w). Solved for the rate.
    """
    service_ms = settings.fit.a_ms + settings.fit.b_ms * np.asarray(gathers, dtype=np.float64)
    if settings.bound is None:
        return 1000.0 / np.maximum(service_ms, 1e-9)
    late = (1 - settings.bound.percentile / 100) / settings.bound.calls
    spare_ms = settings.bound.bound_ms - service_ms
    with np.errstate(over="ignore"):
        theta = math.log(1 / late) / np.maximum(spare_ms, 1e-9)
        rate = 1000.0 * theta / np.expm1(np.minimum(theta * np.maximum(service_ms, 1e-9), 700.0))
    return np.where((spare_ms > 0) & (rate > _LEAST_QPS), rate, 0.0)


def replicas(settings: CostSettings, gathers: Number) -> Numbers:
    """Replicas of shards that a query reads so many rows from: whole, and one at least, or fractions; infinite where no number will do."""
    qps = most_qps(settings, gathers)
    needed = np.divide(settings.target_qps, qps, out=np.full(qps.shape, np.inf), where=qps > 0)
    return _servers(settings, needed)


def of(settings: CostSettings, load: ShardLoad) -> Numbers:
    """The cost of shards on servers of their own."""
    count = replicas(settings, load.gathers)
    allocated = load.size_bytes + settings.min_bytes
    with np.errstate(invalid="ignore"):  # infinitely many replicas of nothing
        price = held(settings, count, allocated)
    if settings.prices is not None:
        sent_bytes = CALL_BYTES + _ID_BYTES * load.gathers + load.answer_bytes
        price = price + settings.target_qps * 3600 / 1e9 * sent_bytes * settings.prices.gb_sent
    return np.where(np.isfinite(count), price, np.inf)


def front_replicas(settings: CostSettings, gathers: Number = 0.0) -> Numbers:
    """Front servers, each query reading so many rows in them. Raises InputError without `front`."""
    front = _front(settings)
    needed = settings.target_qps * (front.dense_ms + front.row_ms * gathers) / 1000
    return _servers(settings, np.asarray(needed, dtype=np.float64))


def of_front(settings: CostSettings, load: ShardLoad = NOTHING) -> Numbers:
    """The cost of the front servers with these rows in each. Raises InputError without `front`."""
    return np.asarray(held(settings, front_replicas(settings, load.gathers), _front(settings).size_bytes + load.size_bytes))


def held(settings: CostSettings, count: Number, size_bytes: Number) -> Number:
    """The cost of so many servers of that size, without what they send."""
    if settings.prices is None:
        return count * size_bytes
    return count * (size_bytes / 1e9 * settings.prices.gb_hour + settings.prices.cores * settings.prices.core_hour)


def load(heats: Sequence[Heat], piece: Piece) -> ShardLoad:
    """What one query asks of a shard."""
    total = NOTHING
    for table, first, last in piece.parts:
        heat = heats[table]
        total += ShardLoad(
            heat.gathers[last] - heat.gathers[first],
            answer_bytes(heat),
            float((heat.cuts[last] - heat.cuts[first]) * heat.row_bytes),
        )
    return total


def loads(heats: Sequence[Heat], pieces: Sequence[Piece]) -> ShardLoad:
    """What one query asks of each of many shards, [pieces]."""
    alone = [load(heats, piece) for piece in pieces]
    return ShardLoad(
        np.array([one.gathers for one in alone], dtype=np.float64),
        np.array([one.answer_bytes for one in alone], dtype=np.float64),
        np.array([one.size_bytes for one in alone], dtype=np.float64),
    )


def answer_bytes(heat: Heat) -> float:
    """Bytes that a shard with any rows of a table answers to one query, and the offsets of its bags in the question."""
    return heat.vectors * (heat.vector_bytes + _ID_BYTES)


def total(settings: CostSettings, heats: Sequence[Heat], pieces: Sequence[Piece]) -> float:
    """The objective: what the whole partition costs; with `front`, the front servers too. Infinite where the bound can't be kept."""
    settings = with_calls(settings, pieces)
    shards_cost = float(of(settings, loads(heats, [piece for piece in pieces if piece.location == "own"])).sum())
    kept = [piece for piece in pieces if piece.location == "front"]
    if settings.front is None and not kept:
        return shards_cost
    inside = sum((load(heats, piece) for piece in kept), NOTHING)
    return shards_cost + float(of_front(settings, inside))


def with_calls(settings: CostSettings, pieces: Sequence[Piece]) -> CostSettings:
    """The same settings, the bound's calls those of this partition."""
    if settings.bound is None:
        return settings
    calls = max(sum(piece.location == "own" for piece in pieces), 1)
    return replace(settings, bound=replace(settings.bound, calls=calls))


def _servers(settings: CostSettings, needed: Numbers) -> Numbers:
    """Whole servers, and one at least, where the settings say so."""
    return np.maximum(np.ceil(needed - 1e-9), 1.0) if settings.whole_replicas else needed


def _front(settings: CostSettings) -> Front:
    if settings.front is None:
        raise InputError("nothing is known of the front server", hint="--profile FILE, or --dense-ms and --dense-mb")
    return settings.front
