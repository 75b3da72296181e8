"""What a shard must hold to be worth its servers, against the cost of both by itself."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit.capacity.profile import Fit
from recsplit.partition.cost import CostSettings, Prices
from recsplit.partition.worth import CORES, SHARES, worth


def cost(settings: CostSettings, cores: int, servers: int, row_bytes: float) -> float:
    """Of so many servers with such rows each."""
    size = row_bytes + settings.min_bytes
    prices = settings.prices
    return servers * size if prices is None else servers * (prices.gb_hour * size / 1e9 + prices.core_hour * cores)


@given(
    st.floats(0.01, 50),
    st.floats(0, 2),
    st.floats(1, 1e5),
    st.floats(1, 1e4),
    st.sampled_from([None, Prices(0.004, 0.03, 0.0), Prices(0.004, 0.0, 0.0, cores=2)]),
)
def test_rows_of_that_size_cost_the_same_either_way(a_ms: float, b_ms: float, qps: float, gathers: float, prices: Prices | None) -> None:
    settings = CostSettings(qps, Fit(a_ms, b_ms, 1.0), prices=prices)
    for of in worth(settings, gathers):
        for share, least in zip(SHARES, of.least_bytes, strict=True):
            replicas = of.cores / (prices.cores if prices else 1)
            own = max(1, math.ceil(qps * (a_ms + b_ms * share * gathers) / 1000 / replicas - 1e-9))
            if least is None:
                assert own >= of.servers
                continue
            rest = 10e9
            for size, sign in ((0.9 * least, -1), (1.1 * least, 1)):
                whole = cost(settings, of.cores, of.servers, rest + size)
                apart = cost(settings, of.cores, of.servers, rest) + cost(settings, of.cores, own, size)
                assert sign * (whole - apart) >= -1e-6 * whole


def test_memory_that_costs_nothing_is_worth_no_server() -> None:
    small, *_ = worth(CostSettings(100, Fit(1.0, 0.1, 1.0), prices=Prices(0.0, 0.03, 0.0)), 1280)
    assert small.servers == 7 and small.least_bytes == (None,) * len(SHARES)


def test_where_one_server_carries_everything_no_shard_pays() -> None:
    small, *_, large = worth(CostSettings(100, Fit(1.0, 0.1, 1.0)), 1280)
    assert [small.cores, large.cores] == [CORES[0], CORES[-1]] and small.servers == 7 and large.servers == 1
    assert large.least_bytes == (None,) * len(SHARES)
    assert small.least_bytes[0] == pytest.approx(300_000_000 / 6)
