"""The simulator again, slow and plain: lists, remaining work in each server, exact fractions. What the compiled one is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from recsplit.capacity.simulate import Pool, Scaling


@dataclass
class Server:
    """`left`: ms of work that remain; None: idle."""

    pool: int
    speed_ms: list[Fraction]
    left: Fraction | None = None
    batch: list[int] = field(default_factory=list)
    leaving: bool = False


def latencies_ms(
    pools: Sequence[Pool],
    arrivals_ms: Sequence[int],
    sizes: Sequence[int],
    *,
    split_rows: int | None = None,
    cores: int | None = None,
    scaling: Sequence[Scaling] = (),
) -> list[float]:
    """Latency of each query, for services that are always the same and scaling without start-up delay."""
    largest = max([*sizes, *(pool.max_batch_rows or 1 for pool in pools)])

    def table(pool: Pool, which: int) -> list[Fraction]:
        return [Fraction(float(value)).limit_denominator(1000) for value in pool.servers[which].table_ms(largest)]

    servers = [Server(index, table(pool, which)) for index, pool in enumerate(pools) for which in range(len(pool.servers))]
    requests: list[tuple[int, int]] = []
    for query, size in enumerate(sizes):
        part = split_rows or size
        requests += [(query, min(part, size - start)) for start in range(0, size, part)]
    names = [pool.name for pool in pools]
    followers = {name: [other for other, pool in enumerate(pools) if name in pool.after] for name in names}
    queues: list[list[tuple[int, Fraction]]] = [[] for _ in pools]
    done = [[False] * len(requests) for _ in pools]
    steps = sorted(scaling, key=lambda step: step.time_s)
    finish: list[Fraction | None] = [None] * len(sizes)
    now, coming = Fraction(0), 0
    while None in finish:
        busy = [server for server in servers if server.left is not None]
        rate = Fraction(1) if cores is None or len(busy) <= cores else Fraction(cores, len(busy))
        moments = [now + server.left / rate for server in busy if server.left is not None]
        if coming < len(sizes):
            moments.append(Fraction(arrivals_ms[coming]))
        if steps:
            moments.append(Fraction(round(steps[0].time_s * 1000)))
        for index, pool in enumerate(pools):
            if queues[index] and pool.queue_delay_ms:
                over = queues[index][0][1] + Fraction(pool.queue_delay_ms)
                moments += [over] * (over > now)
        then = min(moments)
        for server in busy:
            assert server.left is not None
            server.left -= (then - now) * rate
        now = then
        # One thing at a time, in the simulator's order: ends (by server), scaling, arrivals, delays that are over.
        ending = [server for server in busy if server.left == 0]
        if ending:
            server = ending[0]
            server.left = None
            if server.leaving:
                servers.remove(server)
            for request in server.batch:
                done[server.pool][request] = True
                for other in followers[names[server.pool]]:
                    if all(done[names.index(name)][request] for name in pools[other].after):
                        queues[other].append((request, now))
            for query in {requests[request][0] for request in server.batch}:
                mine = [number for number, (owner, _) in enumerate(requests) if owner == query]
                if all(done[index][number] for index in range(len(pools)) for number in mine):
                    finish[query] = now
        elif steps and round(steps[0].time_s * 1000) == now:
            step = steps.pop(0)
            index = names.index(step.pool)
            place = max(number for number, server in enumerate(servers) if server.pool == index) + 1 if step.change > 0 else 0
            servers[place:place] = [Server(index, table(pools[index], 0)) for _ in range(step.change)]
            for _ in range(-step.change):
                mine_idle = [server for server in servers if server.pool == index and server.left is None]
                mine_busy = [server for server in servers if server.pool == index and not server.leaving]
                if mine_idle:
                    servers.remove(mine_idle[-1])
                else:
                    mine_busy[-1].leaving = True
        elif coming < len(sizes) and arrivals_ms[coming] == now:
            for number, (query, _) in enumerate(requests):
                if query == coming:
                    for index, pool in enumerate(pools):
                        if not pool.after:
                            queues[index].append((number, now))
            coming += 1
        for index, pool in enumerate(pools):
            _dispatch(pool, queues[index], [server for server in servers if server.pool == index], requests, now)
    return [float(end - at) for end, at in zip(finish, arrivals_ms, strict=True) if end is not None]


def _dispatch(pool: Pool, queue: list[tuple[int, Fraction]], servers: list[Server], requests: list[tuple[int, int]], now: Fraction) -> None:
    for server in servers:
        if not queue:
            return
        if server.left is not None:
            continue
        batch = [queue[0][0]]
        limit = pool.max_batch_rows or 0
        for request, _ in queue[1:]:
            if sum(requests[batched_request][1] for batched_request in batch) + requests[request][1] > limit:
                break
            batch.append(request)
        rows = sum(requests[batched_request][1] for batched_request in batch)
        if pool.queue_delay_ms and len(batch) == len(queue) and rows < limit and now < queue[0][1] + Fraction(pool.queue_delay_ms):
            return
        del queue[: len(batch)]
        server.batch, server.left = batch, server.speed_ms[rows]
