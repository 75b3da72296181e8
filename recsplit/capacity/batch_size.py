"""Which part of a query should one core take? DeepRecSys's question, by simulation.

Servers of one core each stand behind one queue; a query of s items is cut into requests of at most `batch`. Small requests spread
a query over cores and end sooner; large ones pay the fixed part of the latency less often. The best batch is the one with the largest
latency-bounded throughput. DeepRecSys (section 2b of its scheduler) climbs; twelve batches are few enough to try them all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recsplit.capacity import drive
from recsplit.capacity import sizes as size_laws
from recsplit.capacity.arrivals import Arrivals
from recsplit.capacity.search import Throughput, search
from recsplit.capacity.service import Service
from recsplit.capacity.simulate import Pool, split
from recsplit.capacity.sizes import Sizes
from recsplit.capacity.workload import LatencyBound

BATCHES = tuple(2**n for n in range(11))
#: DeepRecSys's static baseline cuts its largest query evenly over all cores.
LARGEST_QUERY = 1000
#: Sizes drawn to tell how many requests a query becomes.
SAMPLE = 10_000
#: A trial's queries, however many requests that makes: fewer have no steady p95.
FEWEST_QUERIES = 5_000
#: Where requests of few items leave trials with few queries, the interval would take more trials than such a batch is worth.
MOST_TRIALS = 20


@dataclass(frozen=True)
class Tried:
    """One batch and its latency-bounded throughput, queries per second."""

    batch: int
    throughput: Throughput


@dataclass(frozen=True)
class BatchSizes:
    """Every batch tried, in rising order; the static batch is among them."""

    tried: tuple[Tried, ...]
    static_batch: int

    @property
    def best(self) -> Tried:
        """The batch with the largest throughput; of equals the smallest."""
        return max(self.tried, key=lambda tried: tried.throughput.rate)

    @property
    def static(self) -> Tried:
        """The static batch, ceil(1000 / servers)."""
        return next(tried for tried in self.tried if tried.batch == self.static_batch)

    @property
    def gain(self) -> float:
        """The best batch's throughput over the static one's; infinite where that one meets the bound at no rate."""
        return self.best.throughput.rate / self.static.throughput.rate if self.static.throughput.rate > 0 else math.inf


def static_batch(servers: int) -> int:
    """The baseline's batch: its largest query, cut evenly over all servers."""
    return math.ceil(LARGEST_QUERY / servers)


def by_batch(
    service: Service,
    servers: int,
    sizes: Sizes,
    arrivals: Arrivals,
    bound: LatencyBound,
    *,
    requests: int = 200_000,
    precision: float = 0.03,
    seed: int = 0,
) -> Callable[[int], Throughput]:
    """What `servers` one-core servers do with requests of at most a batch: their latency-bounded throughput, by that batch.

    Of `arrivals` the shape is used, and the rate is searched. `requests`: about how many each trial simulates. What is returned raises
    InputError as `simulate` does.
    """
    pools = [Pool("cores", (service,) * servers)]
    sample = size_laws.draw(sizes, SAMPLE, np.random.default_rng(seed))

    def throughput(batch: int) -> Throughput:
        most = drive.capacity(pools, sizes, split_rows=batch)
        count = max(requests * SAMPLE // len(split(sample, batch)[1]), FEWEST_QUERIES)
        measure = drive.measure(pools, sizes, arrivals, bound, queries=count, split_rows=batch, seed=seed)
        # No rate above `most` can be answered; where even an idle server is too slow, a hundredth of that shows it.
        return search(measure, bound, first=0.7 * most, least=0.01 * most, most=2 * most, precision=precision, max_trials=MOST_TRIALS)

    return throughput


def batch_sizes(
    service: Service,
    servers: int,
    sizes: Sizes,
    arrivals: Arrivals,
    bound: LatencyBound,
    *,
    batches: Sequence[int] = BATCHES,
    requests: int = 200_000,
    precision: float = 0.03,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> BatchSizes:
    """Try `batches` and the static one as `by_batch` does. `advance` is called with 1 when a batch is done. Raises InputError as
    `simulate` does."""
    static = static_batch(servers)
    throughput = by_batch(service, servers, sizes, arrivals, bound, requests=requests, precision=precision, seed=seed)
    tried = []
    for batch in sorted({*batches, static}):
        tried.append(Tried(batch, throughput(batch)))
        advance(1)
    return BatchSizes(tuple(tried), static)
