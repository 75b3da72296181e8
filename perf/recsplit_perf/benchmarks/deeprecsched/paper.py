"""The paper's setting: forty one-core engines behind one queue; queries are cut into requests of at most a batch, which stay apart."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recsplit.capacity import drive
from recsplit.capacity import sizes as size_laws
from recsplit.capacity.arrivals import Poisson
from recsplit.capacity.batch_size import LARGEST_QUERY
from recsplit.capacity.profile import Curve
from recsplit.capacity.search import Throughput, search
from recsplit.capacity.service import Service, measured
from recsplit.capacity.simulate import Pool, split
from recsplit.capacity.sizes import HeavyTail, Kairos, Lognormal, Sizes
from recsplit.capacity.workload import LatencyBound
from recsplit.tuning.climb import Climb, climb
from recsplit_perf.benchmarks.deeprecsched.curves import BATCHES

CORES = 40
#: DeepRecSys's own setting, what KAIROS made of its trace, and a heavier tail; the first is the one that its repository ships.
SIZES: dict[str, Sizes] = {"lognormal": Lognormal(5.1, 0.2), "KAIROS": Kairos(), "heavy tail": HeavyTail()}
#: Of a model's own bound.
BOUNDS = (0.5, 1.0, 1.5)
#: Requests of a trial, about; and queries of one, at the least.
REQUESTS, QUERIES = 200_000, 5_000


@dataclass(frozen=True)
class Scheduled:
    """One model under one law of sizes and one bound: the climb from a batch of one, and the static batch."""

    sizes: str
    bound_share: float
    climb: Climb
    static: Throughput

    @property
    def gain(self) -> float | None:
        """The climb's best over the static batch; None where that one meets the bound at no rate."""
        return self.climb.best.throughput.rate / self.static.rate if self.static.rate > 0 else None


def scheduled(curve: Curve, bound_ms: float) -> list[Scheduled]:
    """DeepRecSched under every law and bound."""
    outcomes = []
    for name, sizes in SIZES.items():
        for share in BOUNDS:
            evaluate = evaluator(measured(curve), sizes, LatencyBound(share * bound_ms, 95))
            static = evaluate(math.ceil(LARGEST_QUERY / CORES))
            outcomes.append(Scheduled(name, share, climb(BATCHES, evaluate), static))
    return outcomes


def evaluator(service: Service, sizes: Sizes, bound: LatencyBound) -> Callable[[int], Throughput]:
    """The latency-bounded throughput by batch."""
    pools = [Pool("cores", (service,) * CORES)]
    sample = size_laws.draw(sizes, drive.SAMPLE, np.random.default_rng(0))

    def evaluate(batch: int) -> Throughput:
        most = drive.capacity(pools, sizes, split_rows=batch)
        queries = max(REQUESTS * len(sample) // len(split(sample, batch)[1]), QUERIES)
        measure = drive.measure(pools, sizes, Poisson(1.0), bound, queries=queries, split_rows=batch, seed=1)
        return search(measure, bound, first=0.7 * most, least=0.01 * most, most=2 * most, precision=0.03, max_trials=16)

    return evaluate
