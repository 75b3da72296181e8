"""What a router does with traffic, simulated: queries go where the router's own decision (backends/native/route.h) sends them.

A server has a queue of its own, first in, first out, and computes `at_once` requests at a time; what the router knows of it is what the
real one would: the requests under way there, when each began, and the line that it thinks with. So when a request will be done is known
when it is sent, and the loop needs no events but arrivals, starts and ends.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.service import Service
from recsplit.capacity.simulate import Floats, Ints, service_tables
from recsplit.engine.deciding import PART, SERVER, VARIANT, Rules
from recsplit.engine.library import Library
from recsplit.errors import InputError, MissingExtra

#: Parts of one query, at most.
_ROOM = 4096
#: Service times are drawn from a stream of their own: callers draw arrivals from a generator of the same seed.
_SERVICE = 1


@dataclass(frozen=True)
class Behind:
    """A server behind the router, of the variant of that number. `service`: how long a request really takes, of those `at_once`; `a_ms` +
    `b_ms` * rows: how long the router thinks."""

    variant: int
    service: Service
    a_ms: float
    b_ms: float
    at_once: int = 1


@dataclass(frozen=True)
class Turn:
    """A variant: its weight in the round robin, and the most rows of a part (0: any)."""

    weight: float
    split_rows: int = 0


@dataclass(frozen=True, eq=False)
class Routed:
    """By query, in the order of arrival: latency in ms (NaN: refused) and the variant (-1). Of each server: its requests, and for how long,
    in ms, its places for them were busy together."""

    latency_ms: Floats
    variant: NDArray[np.int32]
    requests: NDArray[np.int64]
    busy_ms: Floats


def simulate(
    library: Library,
    rules: Rules,
    turns: Sequence[Turn],
    servers: Sequence[Behind],
    arrivals_s: Floats,
    sizes: Ints,
    *,
    within_ms: float | None = None,
    seed: int = 0,
) -> Routed:
    """Send queries of `sizes` rows, arriving at `arrivals_s` (rising), through a router. `within_ms`: a query that no server is expected to
    answer in time is refused.

    Raises InputError for servers or traffic that make no sense, MissingExtra without numba.
    """
    try:
        from recsplit.engine import routed_loop
    except ModuleNotFoundError as error:
        raise MissingExtra("numba", "capacity", "the simulator") from error
    _check(turns, servers, arrivals_s, sizes, rules)
    variants, known = np.zeros(len(turns), VARIANT), np.zeros(len(servers), SERVER)
    for place, turn in enumerate(turns):
        variants[place] = (turn.weight, 0.0, turn.split_rows)
    for place, server in enumerate(servers):
        known[place] = (server.a_ms, server.b_ms, 0.0, 0, server.at_once, server.variant, 1)
    parts = np.zeros(_ROOM, PART)
    laws = list(dict.fromkeys(server.service for server in servers))
    largest = int(np.max(sizes))
    time_ms, spread_first, spread_count, spreads_ms = service_tables(laws, largest, routed_loop.MEMORYLESS)
    address = ctypes.cast(library.calls.recsplit_route, ctypes.c_void_p).value
    assert address is not None
    latency_ms, variant, requests, busy_ms = routed_loop.run(
        routed_loop.Route(address),
        rules.large_rows,
        rules.large_variant,
        variants.ctypes.data,
        len(turns),
        known,
        known.ctypes.data,
        np.array([server.at_once for server in servers], dtype=np.int64),
        np.array([laws.index(server.service) for server in servers], dtype=np.int64),
        time_ms,
        spread_first,
        spread_count,
        spreads_ms,
        np.asarray(arrivals_s, dtype=np.float64) * 1e3,
        np.asarray(sizes, dtype=np.int64),
        _most_requests(turns, sizes),
        -1.0 if within_ms is None else within_ms,
        parts,
        parts.ctypes.data,
        np.random.default_rng((seed, _SERVICE)),
    )
    return Routed(latency_ms, variant, requests, busy_ms)


def _most_requests(turns: Sequence[Turn], sizes: Ints) -> int:
    """Parts of all queries, were each cut as small as any variant takes it."""
    split_rows = [turn.split_rows for turn in turns if turn.split_rows > 0]
    parts = np.ones(len(sizes)) if not split_rows else np.ceil(np.asarray(sizes) / min(split_rows))
    return int(np.minimum(parts, _ROOM).sum())


def _check(turns: Sequence[Turn], servers: Sequence[Behind], arrivals_s: Floats, sizes: Ints, rules: Rules) -> None:
    if not turns or not servers or len(sizes) == 0 or len(sizes) != len(arrivals_s):
        raise InputError(
            f"{len(turns)} variants, {len(servers)} servers, {len(arrivals_s)} arrivals, {len(sizes)} sizes",
            hint="one variant, server and query or more, one size an arrival",
        )
    if np.min(sizes) < 1 or not np.isfinite(arrivals_s).all() or (np.diff(arrivals_s) < 0).any():
        raise InputError("arrivals must be finite and rise, and queries have a row or more", hint="sort them")
    if any(not 0 <= server.variant < len(turns) or server.at_once < 1 for server in servers) or not 0 <= rules.large_variant < len(turns):
        hint = "number variants from 0"
        raise InputError("a server or large queries are of a variant that isn't there, or a server computes nothing", hint=hint)


def round_robin(servers: Sequence[Behind]) -> tuple[tuple[Turn, ...], tuple[Behind, ...]]:
    """The same servers taking turns whatever they have to do: each is a variant of its own."""
    return tuple(Turn(1.0) for _ in servers), tuple(replace(server, variant=number) for number, server in enumerate(servers))
