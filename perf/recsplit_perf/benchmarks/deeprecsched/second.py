"""DeepRecSched's second number: from how many rows on a query goes whole to another target. The router's own decision, simulated."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recsplit.capacity import arrivals
from recsplit.capacity import sizes as size_laws
from recsplit.capacity.arrivals import Poisson
from recsplit.capacity.profile import Curve
from recsplit.capacity.search import Throughput, Trial, percentile_ms, search
from recsplit.capacity.service import measured
from recsplit.capacity.sizes import Sizes
from recsplit.capacity.workload import LatencyBound
from recsplit.engine.compilation import make
from recsplit.engine.deciding import Rules
from recsplit.engine.library import Library
from recsplit.engine.routed import Behind, Turn, simulate
from recsplit.tuning.climb import Climb, climb
from recsplit_perf.benchmarks.deeprecsched.paper import CORES

#: Rising as in the paper, which begins with everything on the second target. The last one: no query is so large.
THRESHOLDS = (1, 64, 96, 128, 160, 192, 224, 256, 320, 384, 512, 768, 1025)


#: Of a trial.
QUERIES = 30_000


@dataclass(frozen=True)
class Threshold:
    """The climb over thresholds at a model's own bound, and the share of the queries and of the rows that the best one sends away."""

    climb: Climb
    queries_away: float
    rows_away: float


def threshold(core: Curve, other: Curve, sizes: Sizes, bound: LatencyBound, batch: int) -> Threshold:
    """`other`: of the second target, which takes one query at a time, as the paper's accelerator does. `batch`: of the cores."""
    climbed = climb(THRESHOLDS, evaluator(core, other, sizes, bound, batch), patience=3)
    drawn = size_laws.draw(sizes, 100_000, np.random.default_rng(0))
    away = drawn >= climbed.best.value
    return Threshold(climbed, float(away.mean()), float(drawn[away].sum() / drawn.sum()))


def evaluator(core: Curve, other: Curve, sizes: Sizes, bound: LatencyBound, batch: int) -> Callable[[int], Throughput]:
    """The latency-bounded throughput by threshold."""
    library = Library(make())
    servers = [
        Behind(0, measured(core), core.fit.a_ms, core.fit.b_ms, at_once=CORES),
        Behind(1, measured(other), other.fit.a_ms, other.fit.b_ms),
    ]
    turns = [Turn(1.0, batch), Turn(0.0)]

    def evaluate(large_rows: int) -> Throughput:
        seeds = np.random.SeedSequence(1)

        def measure(rate: float) -> Trial:
            rng = np.random.default_rng(seeds.spawn(1)[0])
            arrivals_s = arrivals.draw(Poisson(rate), QUERIES / rate, rng)
            drawn = size_laws.draw(sizes, len(arrivals_s), rng)
            run = simulate(library, Rules(large_rows, 1), turns, servers, arrivals_s, drawn, seed=int(rng.integers(2**31)))
            kept = run.latency_ms[len(arrivals_s) // 20 :]
            return Trial(rate, percentile_ms(kept, bound.percentile), len(kept))

        mean_ms = float(measured(core).table_ms(1024)[size_laws.draw(sizes, 10_000, np.random.default_rng(0))].mean())
        most = CORES * 1e3 / mean_ms
        return search(measure, bound, first=0.5 * most, least=0.005 * most, most=20 * most, precision=0.02, max_trials=20)

    return evaluate
