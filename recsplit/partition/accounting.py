"""What a deployment takes: containers, the memory they are given, how much of it is read, the servers that hold them, their price.

Model-wise serving has one kind of container, the whole model, replicated until it keeps up. ElasticRec (ISCA 2024) has one kind for
each shard and one for the dense model, each replicated as its own part of the traffic needs. Both are counted by the same functions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recsplit.disk.files import size_text
from recsplit.errors import InputError
from recsplit.partition.partition_file import Partition

#: Sizes and cores are sums of floats: so much over a node's own still fits.
_SLACK = 1e-9


@dataclass(frozen=True)
class Container:
    """`replicas` containers alike: each is given `size_bytes` of memory, `cores` cores and `gpus` accelerators.

    `utility`: the share of its table rows that is read in the first so many queries; None where it holds no rows.
    """

    name: str
    replicas: int
    size_bytes: float
    cores: float = 0.0
    gpus: int = 0
    utility: float | None = None


@dataclass(frozen=True)
class Node:
    """One server that containers are put on. Prices are per hour of the whole server, in any currency."""

    name: str
    cores: float
    memory_bytes: float
    gpus: int = 0
    price_per_hour: float = 0.0


@dataclass(frozen=True)
class Packing:
    """How many servers hold all containers: so many were found enough, and fewer than `at_least` can't be."""

    servers: int
    at_least: int


@dataclass(frozen=True)
class Account:
    """The sums over all containers. `utility` is the mean over containers that hold rows, as the paper's figures 14 and 17 weigh it."""

    replicas: int
    memory_bytes: float
    cores: float
    utility: float | None
    packing: Packing
    price_per_hour: float


def replicas(target_qps: float, qps: float) -> int:
    """Containers that answer `target_qps` queries a second, at `qps` each: whole ones, one or more."""
    return max(math.ceil(target_qps / qps - _SLACK), 1)


def series_qps(*rates: float) -> float:
    """Queries a second of a container that does one layer after the other, from the rates of the layers alone."""
    return 1 / sum(1 / rate for rate in rates)


def shards(
    partition: Partition, utilities: Sequence[float] | None = None, *, overhead_bytes: float, cores: float = 0.0
) -> tuple[Container, ...]:
    """The containers of a partition's shards, named by their number and table.

    `overhead_bytes` is what a container takes besides its rows (the paper's minimum allocation); `utilities`: of each shard.
    Shards that stay in the front server are no containers and left out.
    """
    known = [None] * len(partition.shards) if utilities is None else list(utilities)
    containers = []
    for number, (shard, utility) in enumerate(zip(partition.shards, known, strict=True)):
        if shard.location == "own":
            names = {segment.table for segment in shard.segments}
            tables = next(iter(names)) if len(names) == 1 else f"{len(names)} tables"
            containers.append(
                Container(f"shard {number}: {tables}", shard.replicas, shard.size_bytes + overhead_bytes, cores, utility=utility)
            )
    return tuple(containers)


def account(containers: Sequence[Container], node: Node) -> Account:
    """Count everything, and pack it onto nodes of one kind. Raises InputError where a container is larger than a node."""
    packing = pack(containers, node)
    return Account(
        replicas=sum(kind.replicas for kind in containers),
        memory_bytes=sum(kind.replicas * kind.size_bytes for kind in containers),
        cores=sum(kind.replicas * kind.cores for kind in containers),
        utility=utility(containers),
        packing=packing,
        price_per_hour=packing.servers * node.price_per_hour,
    )


def utility(containers: Sequence[Container]) -> float | None:
    """The mean utility of all containers that hold rows, each replica counting once; None where none holds any."""
    holding = [(kind.replicas, kind.utility) for kind in containers if kind.utility is not None]
    count = sum(number for number, _ in holding)
    return sum(number * share for number, share in holding) / count if count else None


def pack(containers: Sequence[Container], node: Node) -> Packing:
    """Put containers onto as few nodes as first fit decreasing finds: the largest first, each onto the first node with room.

    `at_least` is what the scarcest of cores, memory and accelerators needs if containers could be cut in pieces.
    Raises InputError where a container is larger than a node.
    """
    room = (node.cores, node.memory_bytes, float(node.gpus))
    needs: list[tuple[tuple[float, ...], int]] = []
    for kind in containers:
        need = (kind.cores, kind.size_bytes, float(kind.gpus))
        if any(amount > has * (1 + _SLACK) for amount, has in zip(need, room, strict=True)):
            raise InputError(
                f"container {kind.name!r} needs {need[0]:g} cores, {size_text(kind.size_bytes)} and {kind.gpus} GPUs, "
                f"and a {node.name} has {room[0]:g}, {size_text(node.memory_bytes)} and {node.gpus}",
                hint="take larger nodes, or cut the tables into more shards",
            )
        needs.append((tuple(amount / has if has else 0.0 for amount, has in zip(need, room, strict=True)), kind.replicas))
    totals = [sum(shares[scarce] * count for shares, count in needs) for scarce in range(len(room))]
    servers: list[list[float]] = []  # what is free of each
    for shares, count in sorted(needs, key=lambda one: (max(one[0]), sum(one[0])), reverse=True):
        left = count
        for free in servers:
            left -= _fill(free, shares, left)
        while left:
            servers.append([1.0] * len(room))
            left -= _fill(servers[-1], shares, left)
    return Packing(len(servers), math.ceil(max(totals, default=0.0) - _SLACK))


def _fill(free: list[float], shares: tuple[float, ...], count: int) -> int:
    """Put as many of `count` replicas alike onto a server as fit; returns how many."""
    fitting = min((int((has + _SLACK) / need) for has, need in zip(free, shares, strict=True) if need > 0), default=count)
    placed = min(fitting, count)
    for scarce, need in enumerate(shares):
        free[scarce] -= placed * need
    return placed
