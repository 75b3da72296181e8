"""The simulator: queries through pools of servers, event by event, the same again under the same seed.

A query of s rows is cut into requests of `split_rows` (the last one takes the rest), as DeepRecSys cuts queries into sub-queries
and recsplit.client cuts what is larger than max_batch_size. Each request goes through the pools; in one that comes `after` others it
arrives when the last of them is done with it. A query is done when its last request is. Pools are first in, first out; a free
server takes the request that waits longest and, in a pool that batches, what comes behind it as long as it fits: so does Triton's
dynamic batcher. Servers are tried in the order in which the pool lists them (RIBBON: fast ones first).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsplit.capacity.service import Service
from recsplit.errors import InputError, MissingExtra

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Pool:
    """Servers behind one queue.

    `servers`: the service times of each, the one to try first first. `max_batch_rows`: the most that a server takes at once;
    None: one request at a time. `queue_delay_ms`: how long a free server waits for a batch to fill, counted from the first request's
    arrival. `cores`: how many a busy server uses (0: it only takes time).
    """

    name: str
    servers: tuple[Service, ...]
    max_batch_rows: int | None = None
    queue_delay_ms: float = 0.0
    after: tuple[str, ...] = ()
    cores: float = 1.0


@dataclass(frozen=True)
class Scaling:
    """At `time_s` a pool is told to have `change` servers more, which serve `start_s` later, or fewer.

    Fewer: those that still start are given up first, then idle ones go, then busy ones when their batch is done. `service`: that
    of new servers; the pool's first one's by default.
    """

    time_s: float
    pool: str
    change: int
    start_s: float = 0.0
    service: Service | None = None


@dataclass(frozen=True)
class Cores:
    """What all servers run on. More busy ones than cores share them evenly; with every core busy each runs `slowdown` times as long
    as alone (what a profile's contended curve says over its quiet one), and in between in proportion."""

    count: float
    slowdown: float = 1.0


@dataclass(frozen=True, eq=False)
class PoolRun:
    """What one pool saw: waiting of each request in the queue, ms; rows of each batch; share of its servers' time that was busy;
    mean number of requests in the queue; mean number of servers."""

    waiting_ms: Floats
    batch_rows: Ints
    busy_share: float
    mean_queue: float
    mean_servers: float


@dataclass(frozen=True, eq=False)
class Simulated:
    """A run: latency of each query in the order of arrival, ms; each pool's part; from 0 to the last query's end, s."""

    latency_ms: Floats
    pools: Mapping[str, PoolRun]
    seconds: float


def simulate(
    pools: Sequence[Pool],
    arrivals_s: Floats,
    sizes: Ints,
    *,
    split_rows: int | None = None,
    scaling: Sequence[Scaling] = (),
    cores: Cores | None = None,
    seed: int = 0,
) -> Simulated:
    """Send queries of `sizes` rows, arriving at `arrivals_s` (rising, from 0 on), through `pools`.

    `cores` None: every server has its own. Raises InputError for pools, arrivals or sizes that make no sense and where queries are
    left that nobody serves; MissingExtra without numba.
    """
    try:
        from recsplit.capacity import events
    except ModuleNotFoundError as error:
        raise MissingExtra("numba", "capacity", "the simulator") from error
    _check(pools, arrivals_s, sizes, split_rows, scaling)
    place = {pool.name: index for index, pool in enumerate(pools)}
    first, rows = split(sizes, split_rows)
    limits = np.array([pool.max_batch_rows or 0 for pool in pools], dtype=np.int64)
    for pool in pools:
        if pool.max_batch_rows is not None and rows.max() > pool.max_batch_rows:
            raise InputError(
                f"a request has {rows.max()} rows, and pool {pool.name!r} takes {pool.max_batch_rows} at most", hint="give split_rows"
            )
    crew = _crew(pools, scaling, place)
    laws = list(dict.fromkeys(service for _, service, _ in crew.servers))
    followers = [[index for index, pool in enumerate(pools) if name in pool.after] for name in place]
    time_ms, spread_first, spread_count, spreads_ms = service_tables(
        laws, int(max(min(limits.max(), rows.sum()), rows.max())), events.MEMORYLESS
    )
    latency_ms, waiting_ms, batch_rows, batches, areas, end_ms = _beside(
        events.run,
        np.asarray(arrivals_s, dtype=np.float64) * 1e3,
        first,
        rows,
        limits,
        np.array([pool.queue_delay_ms for pool in pools], dtype=np.float64),
        np.array([pool.cores for pool in pools], dtype=np.float64),
        np.array([len(set(pool.after)) for pool in pools], dtype=np.int64),
        np.cumsum([0, *map(len, followers)], dtype=np.int64),
        np.array([index for pool_followers in followers for index in pool_followers], dtype=np.int64),
        np.searchsorted([pool for pool, _, _ in crew.servers], np.arange(len(pools) + 1)).astype(np.int64),
        np.array([laws.index(service) for _, service, _ in crew.servers], dtype=np.int64),
        np.array([events.IDLE if there else events.ABSENT for _, _, there in crew.servers], dtype=np.int8),
        time_ms,
        spread_first,
        spread_count,
        spreads_ms,
        *crew.actions,
        np.inf if cores is None else float(cores.count),
        1.0 if cores is None else float(cores.slowdown),
        np.random.default_rng(seed),
    )
    if np.isnan(latency_ms).any():
        raise InputError(f"{int(np.isnan(latency_ms).sum())} queries are never served", hint="leave every pool a server")
    runs = {
        pool.name: PoolRun(
            waiting_ms=waiting_ms[index],
            batch_rows=batch_rows[index, : batches[index]].copy(),
            busy_share=float(areas[0, index] / max(areas[1, index], 1e-12)),
            mean_queue=float(areas[2, index] / end_ms),
            mean_servers=float(areas[1, index] / end_ms),
        )
        for index, pool in enumerate(pools)
    }
    return Simulated(latency_ms, runs, end_ms / 1e3)


def _beside(work: Callable[..., Any], *arguments: object) -> Any:
    """What `work` returns, from a thread: Ctrl-C ends the wait for it at once, where numba would go on to its end, and then crash."""
    result: Future[Any] = Future()

    def run() -> None:
        try:
            result.set_result(work(*arguments))
        except BaseException as error:  # all of it belongs to who waits
            result.set_exception(error)

    threading.Thread(target=run, name="simulate", daemon=True).start()
    return result.result()


def split(sizes: Ints, split_rows: int | None) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Queries as requests: request first[q] .. first[q + 1] - 1 are query q's (int64 [queries + 1]); rows of each (int32 [requests])."""
    sizes = np.asarray(sizes, dtype=np.int64)
    counts = np.ones(len(sizes), dtype=np.int64) if split_rows is None else -(-sizes // split_rows)
    first = np.concatenate([[0], np.cumsum(counts)])
    if split_rows is None:
        return first, sizes.astype(np.int32)
    rows = np.full(first[-1], split_rows, dtype=np.int32)
    rows[first[1:] - 1] = sizes - (counts - 1) * split_rows
    return first, rows


@dataclass(frozen=True)
class _Crew:
    """Every server that there will be, pool by pool: (pool, service, there from the start); and the loop's three action arrays."""

    servers: list[tuple[int, Service, bool]]
    actions: tuple[Floats, NDArray[np.int64], NDArray[np.int64]]


def _crew(pools: Sequence[Pool], scaling: Sequence[Scaling], place: Mapping[str, int]) -> _Crew:
    servers = [(index, service, True) for index, pool in enumerate(pools) for service in pool.servers]
    starts: list[tuple[float, float, int, Service]] = []  # ready at, ordered at, pool, service
    leaves: list[tuple[float, int]] = []
    for step in sorted(scaling, key=lambda step: step.time_s):
        index = place[step.pool]
        starts += [(step.time_s + step.start_s, step.time_s, index, step.service or pools[index].servers[0])] * step.change
        for _ in range(-step.change):
            pending = [start for start in starts if start[2] == index and start[0] > step.time_s]
            if pending:
                starts.remove(max(pending, key=lambda start: start[:2]))
            else:
                leaves.append((step.time_s, index))
    servers += [(index, service, False) for _, _, index, service in starts]
    ranked = sorted(range(len(servers)), key=lambda number: servers[number][0])  # stable: a pool's first servers stay first
    numbers = {number: position for position, number in enumerate(ranked)}
    known = len(servers) - len(starts)
    actions = [(ready_s, -1, numbers[known + number]) for number, (ready_s, _, _, _) in enumerate(starts)]
    actions += [(time_s, index, -1) for time_s, index in leaves]
    actions.sort()
    columns = np.array(actions, dtype=np.float64).reshape(-1, 3)
    return _Crew(
        [servers[number] for number in ranked],
        (columns[:, 0] * 1e3, columns[:, 1].astype(np.int64), columns[:, 2].astype(np.int64)),
    )


def service_tables(laws: Sequence[Service], largest: int, memoryless: int) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64], Floats]:
    """Times and where their spreads lie, for each law and number of rows."""
    time_ms = np.stack([law.table_ms(largest) for law in laws])
    starts, counts = np.zeros(time_ms.shape, dtype=np.int64), np.zeros(time_ms.shape, dtype=np.int64)
    spreads_ms: list[float] = []
    for row, law in enumerate(laws):
        if law.memoryless:
            counts[row] = memoryless
        elif law.spreads_ms:
            nearest = law.nearest(largest)
            lengths = np.array([len(point_spreads) for point_spreads in law.spreads_ms])
            starts[row] = len(spreads_ms) + np.concatenate([[0], np.cumsum(lengths)])[nearest]
            counts[row] = lengths[nearest]
            spreads_ms += [spread for point_spreads in law.spreads_ms for spread in point_spreads]
    return time_ms, starts, counts, np.array(spreads_ms or [0.0])


def _check(pools: Sequence[Pool], arrivals_s: Floats, sizes: Ints, split_rows: int | None, scaling: Sequence[Scaling]) -> None:
    names: list[str] = []
    for pool in pools:
        for name in pool.after:
            if name not in names:
                raise InputError(
                    f"pool {pool.name!r} comes after {name!r}, which is not listed before it", hint="list pools in the order of work"
                )
        if pool.name in names:
            raise InputError(f"two pools are named {pool.name!r}", hint="give each a name of its own")
        if not pool.servers:
            raise InputError(f"pool {pool.name!r} has no servers", hint="give it one or more")
        if (pool.max_batch_rows is not None and pool.max_batch_rows < 1) or pool.queue_delay_ms < 0 or pool.cores < 0:
            raise InputError(f"pool {pool.name!r} has a limit, delay or cores below what can be", hint="a batch has one row or more")
        names.append(pool.name)
    if not pools or len(sizes) == 0 or len(sizes) != len(arrivals_s):
        raise InputError(
            f"{len(pools)} pools, {len(arrivals_s)} arrivals, {len(sizes)} sizes", hint="one pool or more, one size an arrival"
        )
    if np.min(sizes) < 1 or (split_rows is not None and split_rows < 1):
        raise InputError("a query or a split below one row", hint="queries have one row or more")
    if not np.isfinite(arrivals_s).all() or arrivals_s[0] < 0 or (np.diff(arrivals_s) < 0).any():
        raise InputError("arrivals must be finite, rise, and begin at 0 s or later", hint="sort them")
    for step in scaling:
        if step.pool not in names or step.time_s < 0 or step.start_s < 0:
            raise InputError(
                f"scaling {step.pool!r} at {step.time_s:g} s can't be done", hint=f"pools are {', '.join(names)}; times from 0 s on"
            )
