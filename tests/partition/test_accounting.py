"""What a deployment takes: memory, utility, servers."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit.errors import InputError
from recsplit.partition.accounting import Container, Node, account, pack, replicas, series_qps, shards, utility
from recsplit.partition.partition_file import Partition, ShardLayout
from recsplit.plan.plan import Segment

NODE = Node("node", cores=8, memory_bytes=100, gpus=1, price_per_hour=2.5)


def _fewest(sizes: list[int], capacity: int) -> int:
    """The fewest bins, by trying every way to put items into bins."""
    best = len(sizes)
    for ways in itertools.product(range(len(sizes)), repeat=len(sizes)):
        loads = [sum(size for size, bin_ in zip(sizes, ways, strict=True) if bin_ == number) for number in set(ways)]
        if max(loads) <= capacity:
            best = min(best, len(loads))
    return best


@given(st.lists(st.integers(1, 100), min_size=1, max_size=5))
def test_servers_lie_between_the_bound_and_first_fits_promise(sizes: list[int]) -> None:
    packing = pack([Container(str(n), 1, size) for n, size in enumerate(sizes)], NODE)
    fewest = _fewest(sizes, 100)
    assert packing.at_least <= fewest <= packing.servers <= 11 * fewest / 9 + 6 / 9


def test_the_scarcest_of_cores_memory_and_gpus_decides() -> None:
    assert pack([Container("memory", 4, 60, cores=1)], NODE).servers == 4
    assert pack([Container("cores", 4, 1, cores=5)], NODE).servers == 4
    assert pack([Container("gpu", 4, 1, gpus=1)], NODE).servers == 4
    mixed = [Container("gpu", 2, 50, cores=2, gpus=1), Container("small", 10, 10, cores=1)]
    assert pack(mixed, NODE).servers == 2


def test_a_container_larger_than_a_node_is_refused() -> None:
    with pytest.raises(InputError, match=r"'shop' needs 9 cores, 1 B and 0 GPUs, and a .* has 8, 100 B and"):
        pack([Container("shop", 1, 1, cores=9)], NODE)
    with pytest.raises(InputError, match="1 GPUs"):
        pack([Container("shop", 1, 1, gpus=1)], Node("plain", 8, 100))


def test_an_account_adds_replicas_up() -> None:
    totals = account([Container("dense", 3, 10, cores=2), Container("hot", 2, 20, cores=1, utility=0.9)], NODE)
    assert (totals.replicas, totals.memory_bytes, totals.cores, totals.price_per_hour) == (5, 70, 8, 2.5)


def test_utility_weighs_replicas_and_skips_what_holds_no_rows() -> None:
    kinds = [Container("dense", 5, 1), Container("hot", 9, 1, utility=0.95), Container("cold", 1, 1, utility=0.05)]
    assert utility(kinds) == pytest.approx((9 * 0.95 + 0.05) / 10)
    assert utility(kinds[:1]) is None


def test_replicas_are_whole_and_rounding_adds_none() -> None:
    assert replicas(100, 10) == 10
    assert replicas(0.3, 0.1) == 3
    assert replicas(1, 100) == 1
    assert replicas(100.1, 10) == 11


def test_layers_in_series_add_their_times() -> None:
    assert series_qps(20.0, 20.0) == pytest.approx(10)


def test_the_shards_of_a_partition_are_containers_but_for_those_in_front() -> None:
    layouts = (
        ShardLayout((Segment("item", 0, 10),), "front", 1, 5.0, 1280),
        ShardLayout((Segment("item", 10, 100), Segment("user", 0, 5)), "own", 3, 2.0, 9000),
    )
    partition = Partition("shop", None, 100.0, "joint", 1.0, "bytes", layouts)
    (container,) = shards(partition, [0.9, 0.1], overhead_bytes=1000, cores=1)
    assert container == Container("shard 1: 2 tables", 3, 10_000, 1, utility=0.1)
