"""DeepRecSys's batch sizes on published curves, and a pool under both kinds of arrivals."""

import numpy as np
import pytest

from recsplit.capacity import drive
from recsplit.capacity.arrivals import Poisson, PoissonGap
from recsplit.capacity.batch_size import BatchSizes, batch_sizes
from recsplit.capacity.search import search
from recsplit.capacity.service import affine, exponential
from recsplit.capacity.simulate import Cores, Pool
from recsplit.capacity.sizes import Fixed, Kairos, Lognormal, Ribbon, Sizes
from recsplit.capacity.workload import LatencyBound
from recsplit.errors import InputError


def batch_sizes_of(a_ms: float, b_ms: float, sizes: Sizes, bound_ms: float, batches: tuple[int, ...]) -> BatchSizes:
    return batch_sizes(affine(a_ms, b_ms), 40, sizes, Poisson(1.0), LatencyBound(bound_ms, 95), batches=batches, requests=100_000)


# The three checks of DeepRecSys's published curves; the gains are those of an independent simulation.
def test_a_server_with_a_large_fixed_cost_wants_large_batches() -> None:
    d1 = batch_sizes_of(2.42, 0.0435, Lognormal(5.1, 0.2), 25, (64, 128, 256, 512))
    assert (d1.best.batch >= 256, d1.static_batch) == (True, 25)
    assert d1.gain == pytest.approx(2.61, rel=0.05)


def test_a_server_with_a_smaller_fixed_cost_gains_less() -> None:
    assert batch_sizes_of(1.40, 0.0750, Lognormal(5.1, 0.2), 35, (128, 256, 512)).gain == pytest.approx(1.62, rel=0.05)


def test_a_server_that_pays_by_the_item_gains_a_tenth() -> None:
    d3 = batch_sizes_of(2.07, 0.217, Kairos(), 25, (32, 64, 256))
    assert d3.best.batch == 64
    assert d3.gain == pytest.approx(1.10, rel=0.05)
    assert d3.tried[-1].throughput.verdict == "bound unreachable"  # 256 items take 57 ms


def test_published_pools_miss_their_bound_under_poisson_arrivals() -> None:
    """RIBBON's best pool for ResNet50: 99 % within 400 ms with its own arrivals, integer gaps, and no longer with a Poisson process."""
    pool = Pool("nodes", (affine(26.8, 0.514),) * 4 + (affine(27.8, 0.794),) * 5)
    met = {}
    for law in (PoissonGap(1000 / 18), Poisson(1000 / 18)):
        latency_ms = drive.run([pool], Ribbon(), law, 5000, seed=1).latency_ms
        met[law.process] = float((latency_ms <= 400).mean())
    assert met["poisson-gap"] > 0.985
    assert met["poisson"] < 0.96


def test_the_search_finds_what_theory_says() -> None:
    """M/M/1: the latency is exponential with rate mu - lambda, so its p95 is ln 20 / (mu - lambda)."""
    measure = drive.measure([Pool("a", (exponential(1.0),))], Fixed(1), Poisson(1.0), LatencyBound(10.0, 95), queries=100_000)
    answer = search(measure, LatencyBound(10.0, 95), first=300, precision=0.03)
    assert answer.rate == pytest.approx(1000 - 1000 * np.log(20) / 10, rel=0.03)


def test_capacity_is_where_a_pool_is_always_busy() -> None:
    pools = [Pool("a", (affine(1, 0.1), affine(2, 0.2))), Pool("b", (affine(0.5, 0.05),), after=("a",))]
    assert drive.capacity(pools, Fixed(10)) == pytest.approx(750)  # 1000 / 2 and 1000 / 4
    assert drive.capacity(pools, Fixed(20), split_rows=10) == pytest.approx(375)
    assert drive.capacity(pools, Fixed(10), cores=Cores(1, slowdown=1.25)) == pytest.approx(1000 / 1.25 / (3 + 1))
    busy = drive.run(pools, Fixed(10), Poisson(3000), 2).pools["a"].busy_share
    assert busy == pytest.approx(1, abs=0.01)


def test_a_load_without_arrivals_is_refused() -> None:
    with pytest.raises(InputError, match="no query arrives in 1e-06 s"):
        drive.run([Pool("a", (affine(1, 0),))], Fixed(1), Poisson(1.0), 1e-6)
