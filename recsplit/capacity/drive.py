"""A workload sent through simulated pools at any rate: what the search and the papers' questions are asked of."""

from collections.abc import Sequence

import numpy as np

from recsplit.capacity import arrivals as arrival_laws
from recsplit.capacity import sizes as size_laws
from recsplit.capacity.arrivals import Arrivals
from recsplit.capacity.search import Measure, Trial, percentile_ms
from recsplit.capacity.simulate import Cores, Pool, Simulated, simulate, split
from recsplit.capacity.sizes import Sizes
from recsplit.capacity.workload import LatencyBound
from recsplit.errors import InputError

#: The first queries find every server idle; so many of a hundred are left out.
WARMUP_PERCENT = 5
#: Sizes drawn to tell how much work a query is.
SAMPLE = 10_000


def run(
    pools: Sequence[Pool],
    sizes: Sizes,
    arrivals: Arrivals,
    seconds: float,
    *,
    split_rows: int | None = None,
    cores: Cores | None = None,
    seed: int = 0,
) -> Simulated:
    """Simulate `seconds` of arrivals at their own rate. Raises InputError as `simulate` does, and where nothing arrives."""
    rng = np.random.default_rng(seed)
    arrivals_s = arrival_laws.draw(arrivals, seconds, rng)
    if not len(arrivals_s):
        raise InputError(f"no query arrives in {seconds:g} s", hint="simulate for longer, or at a larger rate")
    drawn = size_laws.draw(sizes, len(arrivals_s), rng)
    return simulate(pools, arrivals_s, drawn, split_rows=split_rows, cores=cores, seed=int(rng.integers(2**31)))


def measure(
    pools: Sequence[Pool],
    sizes: Sizes,
    arrivals: Arrivals,
    bound: LatencyBound,
    *,
    queries: int = 100_000,
    split_rows: int | None = None,
    cores: Cores | None = None,
    seed: int = 0,
) -> Measure:
    """The simulator as recsplit.capacity.search takes it: every call draws about `queries` arrivals of its own, warm-up left out."""
    seeds = np.random.SeedSequence(seed)

    def one(rate: float) -> Trial:
        law = arrival_laws.at_rate(arrivals, rate)
        drawn = int(seeds.spawn(1)[0].generate_state(1)[0])
        simulated = run(pools, sizes, law, queries / rate, split_rows=split_rows, cores=cores, seed=drawn)
        kept = simulated.latency_ms[len(simulated.latency_ms) * WARMUP_PERCENT // 100 :]
        return Trial(rate, percentile_ms(kept, bound.percentile), len(kept))

    return one


def capacity(pools: Sequence[Pool], sizes: Sizes, *, split_rows: int | None = None, cores: Cores | None = None) -> float:
    """Queries per second that keep the busiest pool, or the cores, busy all the time, were every request a batch of its own.

    A pool that batches can do better. Where its servers differ, each serves as much as it can.
    """
    drawn = size_laws.draw(sizes, SAMPLE, np.random.default_rng(0))
    first, rows = split(drawn, split_rows)
    per_query = len(rows) / (len(first) - 1)
    rates, work_ms = [], 0.0
    for pool in pools:
        means = [float(service.table_ms(int(rows.max()))[rows].mean()) for service in pool.servers]
        rates.append(sum(1e3 / mean for mean in means) / per_query)
        work_ms += pool.cores * per_query * float(np.mean(means))
    if cores is not None and work_ms > 0:
        rates.append(1e3 * cores.count / cores.slowdown / work_ms)
    return min(rates)
