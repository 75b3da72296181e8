"""The simulator against queueing theory, against a plain one, and against cases worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsplit.capacity.profile import curve
from recsplit.capacity.service import Service, affine, exponential, fitted, measured
from recsplit.capacity.simulate import Cores, Pool, Scaling, simulate
from recsplit.errors import InputError
from tests.capacity import reference

MILLION = 1_000_000


def poisson_s(rate: float, count: int, seed: int) -> NDArray[np.float64]:
    gaps: NDArray[np.float64] = np.random.default_rng(seed).exponential(1 / rate, count)
    return np.cumsum(gaps)


def ones(count: int) -> NDArray[np.int64]:
    return np.ones(count, dtype=np.int64)


def erlang_c(servers: int, offered: float) -> float:
    """Probability of waiting in M/M/c."""
    terms = [offered**n / math.factorial(n) for n in range(servers)]
    last = offered**servers / math.factorial(servers) / (1 - offered / servers)
    return last / (sum(terms) + last)


# A million waits of M/M/1 have a mean with a standard error of 0.6 % at a utilization of 0.6, and of 0.9 % at 0.75 (they are much
# alike, one after the other): near saturation 2 % takes more of them.
@pytest.mark.parametrize(("utilization", "count"), [(0.3, MILLION), (0.6, MILLION), (0.75, 4 * MILLION)])
def test_m_m_1_waits_as_theory_says(utilization: float, count: int) -> None:
    simulation = simulate([Pool("a", (exponential(1.0),))], poisson_s(1000 * utilization, count, 1), ones(count), seed=2)
    assert simulation.pools["a"].waiting_ms.mean() == pytest.approx(utilization / (1 - utilization), rel=0.02)
    assert simulation.pools["a"].busy_share == pytest.approx(utilization, rel=0.01)


@pytest.mark.parametrize(("servers", "utilization", "count"), [(2, 0.5, MILLION), (4, 0.7, MILLION), (8, 0.7, 4 * MILLION)])
def test_m_m_c_waits_as_theory_says(servers: int, utilization: float, count: int) -> None:
    offered = servers * utilization
    simulation = simulate([Pool("a", (exponential(1.0),) * servers)], poisson_s(1000 * offered, count, 3), ones(count), seed=4)
    assert simulation.pools["a"].waiting_ms.mean() == pytest.approx(erlang_c(servers, offered) / (servers - offered), rel=0.02)


@pytest.mark.parametrize("utilization", [0.3, 0.6, 0.8])
def test_m_d_1_waits_as_theory_says(utilization: float) -> None:
    simulation = simulate([Pool("a", (affine(1.0, 0.0),))], poisson_s(1000 * utilization, MILLION, 5), ones(MILLION))
    assert simulation.pools["a"].waiting_ms.mean() == pytest.approx(utilization / (2 * (1 - utilization)), rel=0.02)


def test_m_m_1_with_shared_cores_has_the_latency_of_processor_sharing() -> None:
    """As many servers as queries and one core: M/M/1-PS, whose mean latency is that of M/M/1."""
    simulation = simulate(
        [Pool("a", (exponential(1.0),) * 64)], poisson_s(600, 300_000, 6), ones(300_000), cores=Cores(1), seed=7
    )  # 64 at once: 0.6 ** 64 never happens
    assert simulation.latency_ms.mean() == pytest.approx(1 / (1 - 0.6), rel=0.02)


def test_the_queue_obeys_littles_law() -> None:
    pools = [Pool("a", (affine(0.5, 0.02),) * 2, 64), Pool("b", (exponential(1.1),) * 2, after=("a",))]
    simulation = simulate(pools, poisson_s(1300, 200_000, 8), np.random.default_rng(9).integers(1, 30, 200_000), seed=10)
    for pool in simulation.pools.values():
        assert pool.mean_queue == pytest.approx(200_000 / simulation.seconds * pool.waiting_ms.mean() / 1e3, rel=1e-6)


def test_a_pool_serves_in_order_of_arrival() -> None:
    arrivals = poisson_s(3500, 5000, 11)
    simulation = simulate([Pool("a", (exponential(1.0), affine(0.4, 0), exponential(2.0)), 8)], arrivals, ones(5000), seed=12)
    starts = arrivals * 1e3 + simulation.pools["a"].waiting_ms
    assert (np.diff(starts) >= -1e-9).all()


services = st.builds(affine, st.integers(0, 6).map(lambda n: n / 2), st.integers(1, 4).map(lambda n: n / 4))


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Up to four pools in series and parallel, batching or not, all times multiples of 0.25 ms so that ties are frequent and exact."""
    names = "abcd"[: draw(st.integers(1, 4))]
    pools = [
        Pool(
            name,
            tuple(draw(st.lists(services, min_size=1, max_size=3))),
            draw(st.none() | st.integers(9, 30)),
            draw(st.sampled_from([0.0, 0.0, 1.0, 2.5])),
            tuple(sorted(draw(st.sets(st.sampled_from(names[:index]))))) if index else (),
        )
        for index, name in enumerate(names)
    ]
    count = draw(st.integers(1, 12))
    return {
        "pools": pools,
        "arrivals_ms": sorted(draw(st.lists(st.integers(0, 30), min_size=count, max_size=count))),
        "sizes": draw(st.lists(st.integers(1, 9), min_size=count, max_size=count)),
        "split_rows": draw(st.none() | st.integers(1, 9)),
    }


def simulated(case: dict[str, Any], **more: Any) -> NDArray[np.float64]:
    arrivals_s = np.array(case["arrivals_ms"]) / 1e3
    return simulate(case["pools"], arrivals_s, np.array(case["sizes"]), split_rows=case["split_rows"], **more).latency_ms


@given(cases())
def test_it_agrees_with_the_plain_one(case: dict[str, Any]) -> None:
    assert simulated(case) == pytest.approx(reference.latencies_ms(**case), abs=1e-6)


@given(cases(), st.integers(1, 4))
def test_it_agrees_with_the_plain_one_on_shared_cores(case: dict[str, Any], cores: int) -> None:
    """Without batches and with equal servers: rounding may order ends differently that fall on one moment, which is no matter then."""
    pools = [Pool(pool.name, pool.servers[:1] * len(pool.servers), after=pool.after[-1:]) for pool in case["pools"]]
    case = case | {"pools": pools, "sizes": [1] * len(case["sizes"])}
    assert simulated(case, cores=Cores(cores)) == pytest.approx(reference.latencies_ms(**case, cores=cores), abs=1e-6)


@given(cases(), st.lists(st.tuples(st.integers(0, 40), st.sampled_from([-1, 1, 2])), max_size=4, unique_by=lambda step: step[0]))
def test_it_agrees_with_the_plain_one_while_servers_come_and_go(case: dict[str, Any], changes: list[tuple[int, int]]) -> None:
    first = case["pools"][0]
    pools = [Pool(first.name, first.servers[:1] * 4, first.max_batch_rows, first.queue_delay_ms), *case["pools"][1:]]
    steps, left = [], 4
    for time_ms, change in sorted(changes):
        if left + change > 0:
            steps.append(Scaling(time_ms / 1e3, first.name, change))
            left += change
    case = case | {"pools": pools}
    assert simulated(case, scaling=steps) == pytest.approx(reference.latencies_ms(**case, scaling=steps), abs=1e-6)


@given(cases(), st.integers(0, 3))
def test_nothing_is_lost_and_nothing_twice(case: dict[str, Any], seed: int) -> None:
    pools = [Pool(pool.name, tuple(exponential(1.0) for _ in pool.servers), pool.max_batch_rows, 0.0, pool.after) for pool in case["pools"]]
    simulation = simulate(pools, np.array(case["arrivals_ms"]) / 1e3, np.array(case["sizes"]), split_rows=case["split_rows"], seed=seed)
    assert (simulation.latency_ms > 0).all()
    for pool in simulation.pools.values():
        assert pool.batch_rows.sum() == sum(case["sizes"])
        assert (pool.waiting_ms >= 0).all()
        assert 0 < pool.busy_share <= 1


def test_one_seed_gives_one_answer() -> None:
    pools = [Pool("a", (exponential(1.0),)), Pool("b", (exponential(0.5),), after=("a",))]
    first, again, other = (simulate(pools, poisson_s(500, 1000, 0), ones(1000), seed=seed).latency_ms for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_a_query_is_done_when_its_last_part_is() -> None:
    """250 rows in parts of 100 on two servers of 1 ms a row: 100 and 100 at once, 50 behind them."""
    simulation = simulate([Pool("a", (affine(0, 1.0),) * 2)], np.zeros(1), np.array([250]), split_rows=100)
    assert simulation.latency_ms == pytest.approx([150])
    assert sorted(simulation.pools["a"].batch_rows) == [50, 100, 100]


def test_the_dense_model_waits_for_every_embedding_model() -> None:
    pools = [Pool("hot", (affine(1, 0),)), Pool("cold", (affine(5, 0),)), Pool("dense", (affine(2, 0),), after=("hot", "cold"))]
    simulation = simulate(pools, np.array([0.0, 0.0]), ones(2))
    assert simulation.latency_ms == pytest.approx([7, 12])
    assert simulation.pools["dense"].waiting_ms == pytest.approx([0, 0])


def test_a_free_server_takes_what_waits_up_to_the_limit() -> None:
    """The first query goes alone; the next, of 4 rows each, wait 10 ms and go two by two, for three don't fit into 10 rows."""
    simulation = simulate([Pool("a", (affine(10, 0),), 10)], np.array([0, 1, 2, 3, 4]) / 1e3, np.array([4] * 5))
    assert list(simulation.pools["a"].batch_rows) == [4, 8, 8]
    assert simulation.latency_ms == pytest.approx([10, 19, 18, 27, 26])


def test_a_delay_holds_a_batch_back_until_it_is_full_or_over() -> None:
    simulation = simulate([Pool("a", (affine(1, 0),), 2, 5.0)], np.array([0, 3, 20]) / 1e3, ones(3))
    assert simulation.latency_ms == pytest.approx([4, 1, 6])


def test_the_first_listed_server_is_taken_first() -> None:
    pools = [Pool("a", (affine(3, 0), affine(7, 0)))]
    assert simulate(pools, np.array([0, 10, 20]) / 1e3, ones(3)).latency_ms == pytest.approx([3, 3, 3])
    assert simulate(pools, np.array([0, 1, 20]) / 1e3, ones(3)).latency_ms == pytest.approx([3, 7, 3])


def test_busy_servers_share_the_cores() -> None:
    """Two jobs of 10 ms on one core: alone for 4 ms, together until the first has done its other 6 in 12, then the second its last 4."""
    simulation = simulate([Pool("a", (affine(10, 0),) * 2)], np.array([0, 4]) / 1e3, ones(2), cores=Cores(1))
    assert simulation.latency_ms == pytest.approx([16, 16])


def test_neighbours_slow_each_other_before_the_cores_are_all_taken() -> None:
    """Two on two cores at 1/1.25 of the speed, until one is done."""
    pool = Pool("a", (affine(10, 0),) * 2)
    assert simulate([pool], np.zeros(2), ones(2), cores=Cores(2, slowdown=1.25)).latency_ms == pytest.approx([12.5, 12.5])
    assert simulate([pool], np.zeros(1), ones(1), cores=Cores(2, slowdown=1.25)).latency_ms == pytest.approx([10])


def test_waiting_for_the_network_takes_no_core() -> None:
    pools = [Pool("way", (affine(10, 0),) * 4, cores=0.0), Pool("a", (affine(1, 0),), after=("way",))]
    assert simulate(pools, np.zeros(3), ones(3), cores=Cores(1)).latency_ms == pytest.approx([11, 12, 13])


def test_new_servers_serve_when_they_have_started() -> None:
    pool = [Pool("a", (affine(10, 0),))]
    arrivals = np.zeros(4)
    assert simulate(pool, arrivals, ones(4)).latency_ms == pytest.approx([10, 20, 30, 40])
    simulation = simulate(pool, arrivals, ones(4), scaling=[Scaling(0.005, "a", 1, start_s=0.008, service=affine(4, 0))])
    assert simulation.latency_ms == pytest.approx([10, 20, 17, 21])  # 10 ms at 0 and 10; the new one at 13 and 17
    assert simulation.pools["a"].mean_servers == pytest.approx(1 + 8 / 21)


def test_a_server_that_leaves_ends_its_batch() -> None:
    pool = [Pool("a", (affine(10, 0),) * 2)]
    simulation = simulate(pool, np.zeros(4), ones(4), scaling=[Scaling(0.005, "a", -1)])
    assert simulation.latency_ms == pytest.approx([10, 10, 20, 30])


def test_servers_that_still_start_are_given_up_first() -> None:
    pool = [Pool("a", (affine(10, 0),))]
    steps = [Scaling(0.001, "a", 1, start_s=0.05), Scaling(0.002, "a", -1)]
    assert simulate(pool, np.zeros(7), ones(7), scaling=steps).latency_ms[-1] == pytest.approx(70)


def test_a_measured_service_draws_from_the_samples_of_the_nearest_size() -> None:
    samples = [[1.0, 1.0, 4.0], [100.0, 100.0, 150.0]]
    service = measured(curve([1, 100], samples))
    small, large = (simulate([Pool("a", (service,))], np.arange(3000.0), np.full(3000, size), seed=3).latency_ms for size in (1, 100))
    assert set(np.round(small, 6)) == {1.0, 4.0}
    assert set(np.round(large, 6)) == {100.0, 150.0}
    assert np.mean(small == 4.0) == pytest.approx(1 / 3, abs=0.05)
    assert service.table_ms(100)[50] == pytest.approx(1 + 99 * 49 / 99)  # between two sizes, between their medians


def test_the_line_goes_on_beyond_the_measured_sizes() -> None:
    service = Service((2, 4), (3.0, 5.0))
    assert service.table_ms(6) == pytest.approx([1, 2, 3, 4, 5, 6, 7])
    assert Service((2, 4), (1.0, 5.0)).table_ms(1)[0] > 0  # never below nothing
    assert fitted(curve([1, 3], [[2.0], [4.0]]).fit).table_ms(5) == pytest.approx([1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize(
    ("pools", "arguments", "message"),
    [
        ([], {}, "0 pools"),
        ([Pool("a", ())], {}, "has no servers"),
        ([Pool("a", (affine(1, 0),)), Pool("a", (affine(1, 0),))], {}, "two pools are named 'a'"),
        ([Pool("a", (affine(1, 0),), after=("b",)), Pool("b", (affine(1, 0),))], {}, "comes after 'b', which is not listed before it"),
        ([Pool("a", (affine(1, 0),), 2)], {"sizes": [1, 3]}, "a request has 3 rows, and pool 'a' takes 2"),
        ([Pool("a", (affine(1, 0),), 0)], {}, "below what can be"),
        ([Pool("a", (affine(1, 0),))], {"sizes": [1, 0]}, "below one row"),
        ([Pool("a", (affine(1, 0),))], {"sizes": [1]}, "2 arrivals, 1 sizes"),
        ([Pool("a", (affine(1, 0),))], {"arrivals": [1.0, 0.5]}, "must be finite, rise"),
        ([Pool("a", (affine(1, 0),))], {"scaling": [Scaling(0, "b", 1)]}, "scaling 'b' at 0 s"),
        ([Pool("a", (affine(1, 0),))], {"scaling": [Scaling(0, "a", -1)]}, "2 queries are never served"),
    ],
)
def test_what_makes_no_sense_is_refused(pools: list[Pool], arguments: dict[str, Any], message: str) -> None:
    arrivals, sizes = np.array(arguments.get("arrivals", [1.0, 2.0])), np.array(arguments.get("sizes", [1, 1]))
    with pytest.raises(InputError, match=message):
        simulate(pools, arrivals, sizes, scaling=arguments.get("scaling", ()))
