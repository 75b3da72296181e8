"""What a shard must hold to be worth servers of its own, by the cores that a server has.

A server's cores share its rows, so that the more of them there are, the fewer copies of the rows the same traffic needs, and the less is
saved where part of them is taken out: with as many servers of the shard as of the whole, nothing.
"""

import math
from dataclasses import dataclass

from recsplit.partition.cost import CostSettings, most_qps

CORES = (2, 16, 64)
#: Of a query's reads that the shard takes.
SHARES = (0.001, 0.01, 0.1, 0.5)


@dataclass(frozen=True)
class Worth:
    """Servers of so many `cores`: how many of them the whole needs, and by share of the reads the least bytes of rows that pay for servers
    of their own; None where none do."""

    cores: int
    servers: int
    least_bytes: tuple[float | None, ...]


def worth(settings: CostSettings, gathers: float) -> tuple[Worth, ...]:
    """For each of CORES; `gathers`: rows that a query reads in all. A replica of `settings.fit` has `prices.cores` cores, else one.

    A shard of s bytes apart saves s on all servers but as many as its own, each of which takes `min_bytes`, and where there are prices its
    cores, beside.
    """
    return tuple(_on(settings, cores, gathers) for cores in CORES)


def _on(settings: CostSettings, cores: int, gathers: float) -> Worth:
    whole, prices = _servers(settings, cores, gathers), settings.prices
    apart = [_servers(settings, cores, share * gathers) for share in SHARES]
    if prices is not None and prices.gb_hour == 0:  # memory that costs nothing saves nothing
        return Worth(cores, whole, (None,) * len(SHARES))
    beside = settings.min_bytes + (0.0 if prices is None else 1e9 * cores * prices.core_hour / prices.gb_hour)
    return Worth(cores, whole, tuple(None if whole <= count else beside * count / (whole - count) for count in apart))


def _servers(settings: CostSettings, cores: int, gathers: float) -> int:
    """Servers that carry the target traffic. 0: none can, within the bound."""
    replicas = cores / (1.0 if settings.prices is None else settings.prices.cores)
    qps = float(most_qps(settings, gathers)) * replicas
    return 0 if qps <= 0 else max(1, math.ceil(settings.target_qps / qps - 1e-9))
