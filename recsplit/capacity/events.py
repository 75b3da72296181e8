"""The simulator's event loop, compiled by numba: arrays in, arrays out. recsplit.capacity.simulate makes the arrays.

All busy servers run at one speed, which changes only at events. So the work that is left needs no book: a clock of work
done, which runs at that speed, tells when each server ends, and the order in which they end never changes.
"""

from typing import Any

import numba
import numpy as np

ABSENT, IDLE, BUSY, LEAVING = 0, 1, 2, 3
#: No work takes less: keeps a line that was fitted through noise, and a spread, from turning time back.
LEAST_MS = 1e-6
MEMORYLESS = -1  # in place of the count of spreads


@numba.njit(cache=True)
def speed(load: float, cores: float, slowdown: float) -> float:
    """How fast busy servers run that would use `load` cores: 1 alone; 1 / slowdown with all cores busy; beyond that they share."""
    beside = 0.0 if cores <= 1 else min(max((load - 1) / (cores - 1), 0.0), 1.0)
    return min(1.0, cores / load) / (1 + (slowdown - 1) * beside) if load > 0 else 1.0


@numba.njit(cache=True)
def push(keys: Any, servers: Any, size: int, key: float, server: int) -> None:
    """Add to a binary heap of `size` entries, smallest key first; equal keys by server."""
    place = size
    while place > 0:
        parent = (place - 1) // 2
        if keys[parent] < key or (keys[parent] == key and servers[parent] < server):
            break
        keys[place], servers[place] = keys[parent], servers[parent]
        place = parent
    keys[place], servers[place] = key, server


@numba.njit(cache=True)
def pop(keys: Any, servers: Any, size: int) -> None:
    """Take the first of a binary heap of `size` entries away."""
    last = size - 1
    key, server = keys[last], servers[last]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= last:
            break
        right = child + 1
        if right < last and (keys[right] < keys[child] or (keys[right] == keys[child] and servers[right] < servers[child])):
            child = right
        if key < keys[child] or (key == keys[child] and server < servers[child]):
            break
        keys[place], servers[place] = keys[child], servers[child]
        place = child
    keys[place], servers[place] = key, server


@numba.njit(cache=True)
def service_ms(law: int, rows: int, time_ms: Any, spread_first: Any, spread_count: Any, spreads_ms: Any, rng: Any) -> float:
    """How long a batch of so many rows takes this time, by the tables of recsplit.capacity.simulate.service_tables."""
    took = time_ms[law, rows]
    count = spread_count[law, rows]
    if count > 0:
        took = max(took + spreads_ms[spread_first[law, rows] + int(rng.random() * count)], LEAST_MS)
    elif count == MEMORYLESS:
        took *= rng.standard_exponential()
    return took  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)
def run(
    arrival_ms: Any,  # float64 [queries], rising
    first: Any,  # int64 [queries + 1]: requests first[q] .. first[q + 1] - 1 are query q's
    rows: Any,  # int32 [requests]
    limit: Any,  # int64 [pools]: rows in a batch; 0: one request at a time
    delay_ms: Any,  # float64 [pools]: how long a free server may wait for company
    share: Any,  # float64 [pools]: cores that a busy server uses
    needs: Any,  # int64 [pools]: pools that come before
    next_first: Any,  # int64 [pools + 1]: pools next_pool[next_first[p]] .. come after p
    next_pool: Any,  # int64 [...]
    server_first: Any,  # int64 [pools + 1]: servers of pool p, those still to come among them
    service: Any,  # int64 [servers]
    state: Any,  # int8 [servers]: ABSENT or IDLE
    time_ms: Any,  # float64 [services, rows + 1]
    spread_first: Any,  # int64 [services, rows + 1]
    spread_count: Any,  # int64 [services, rows + 1]: 0: none; MEMORYLESS
    spreads_ms: Any,  # float64 [...]
    action_ms: Any,  # float64 [actions], rising
    action_pool: Any,  # int64 [actions]: this pool loses a server; -1
    action_server: Any,  # int64 [actions]: this server comes; -1
    cores: float,
    slowdown: float,
    rng: Any,
) -> Any:
    """Returns latency_ms [queries] (NaN: never done), waiting_ms [pools, requests], batch_rows [pools, batches], how many batches
    each pool ran, and the integrals over time (ms) of its busy servers, its servers, and its queue; and the end (ms).

    At one moment ends come first, then scaling, arrivals, and batches whose delay is over.
    """
    queries, requests, pools, servers = len(arrival_ms), len(rows), len(limit), len(service)
    shared = cores < np.inf or slowdown > 1
    owner = np.empty(requests, np.int32)
    for query in range(queries):
        for request in range(first[query], first[query + 1]):
            owner[request] = query
    lasts = 0
    for pool in range(pools):
        lasts += next_first[pool] == next_first[pool + 1]
    left = (first[1:] - first[:-1]) * lasts
    waits = np.empty((pools, requests), np.int8)
    order = np.empty((pools, requests), np.int32)
    waiting_ms = np.full((pools, requests), np.nan)  # the time of entry until it is served
    batch_rows = np.empty((pools, requests), np.int32)
    head, tail, batches = np.zeros(pools, np.int64), np.zeros(pools, np.int64), np.zeros(pools, np.int64)
    idle, busy, present = np.zeros(pools, np.int64), np.zeros(pools, np.int64), np.zeros(pools, np.int64)
    areas = np.zeros((3, pools))
    due = np.full(pools, np.inf)
    pool_of = np.empty(servers, np.int64)
    for pool in range(pools):
        waits[pool, :] = needs[pool]
        for server in range(server_first[pool], server_first[pool + 1]):
            pool_of[server] = pool
            idle[pool] += state[server] == IDLE
        present[pool] = idle[pool]
    batch_first, batch_last = np.zeros(servers, np.int64), np.zeros(servers, np.int64)
    keys, ends, running = np.empty(servers), np.empty(servers, np.int64), 0
    latency_ms = np.full(queries, np.nan)
    now, work, load, query, action, done = 0.0, 0.0, 0.0, 0, 0, 0

    while done < queries:
        rate = speed(load, cores, slowdown) if shared else 1.0
        then, kind, which = np.inf, -1, -1
        if running > 0:
            then, kind = max(now + (keys[0] - work) / rate, now) if shared else keys[0], 0
        if action < len(action_ms) and action_ms[action] < then:
            then, kind = action_ms[action], 1
        if query < queries and arrival_ms[query] < then:
            then, kind = arrival_ms[query], 2
        for pool in range(pools):
            if due[pool] < then:
                then, kind, which = due[pool], 3, pool
        if kind < 0:
            break
        for pool in range(pools):
            areas[0, pool] += busy[pool] * (then - now)
            areas[1, pool] += present[pool] * (then - now)
            areas[2, pool] += (tail[pool] - head[pool]) * (then - now)
        work = then if not shared else keys[0] if kind == 0 else work + (then - now) * rate
        now = then

        if kind == 0:
            server = ends[0]
            pool = pool_of[server]
            pop(keys, ends, running)
            running -= 1
            busy[pool] -= 1
            load = load - share[pool] if running > 0 else 0.0
            if state[server] == LEAVING:
                state[server] = ABSENT
                present[pool] -= 1
            else:
                state[server] = IDLE
                idle[pool] += 1
            last = next_first[pool] == next_first[pool + 1]
            for place in range(batch_first[server], batch_last[server]):
                request = order[pool, place]
                if last:
                    left[owner[request]] -= 1
                    if left[owner[request]] == 0:
                        latency_ms[owner[request]] = now - arrival_ms[owner[request]]
                        done += 1
                for index in range(next_first[pool], next_first[pool + 1]):
                    after = next_pool[index]
                    waits[after, request] -= 1
                    if waits[after, request] == 0:
                        order[after, tail[after]] = request
                        waiting_ms[after, request] = now
                        tail[after] += 1
        elif kind == 1:
            server, pool = action_server[action], action_pool[action]
            if server >= 0:
                state[server] = IDLE
                idle[pool_of[server]] += 1
                present[pool_of[server]] += 1
            else:
                chosen = -1
                for server in range(server_first[pool], server_first[pool + 1]):
                    if state[server] == IDLE or (state[server] == BUSY and (chosen < 0 or state[chosen] == BUSY)):
                        chosen = server
                if chosen >= 0 and state[chosen] == IDLE:
                    state[chosen] = ABSENT
                    idle[pool] -= 1
                    present[pool] -= 1
                elif chosen >= 0:
                    state[chosen] = LEAVING
            action += 1
        elif kind == 2:
            for request in range(first[query], first[query + 1]):
                for pool in range(pools):
                    if needs[pool] == 0:
                        order[pool, tail[pool]] = request
                        waiting_ms[pool, request] = now
                        tail[pool] += 1
            query += 1
        else:
            due[which] = np.inf

        for pool in range(pools):
            while idle[pool] > 0 and head[pool] < tail[pool]:
                place = head[pool]
                size = rows[order[pool, place]]
                place += 1
                while limit[pool] > 0 and place < tail[pool] and size + rows[order[pool, place]] <= limit[pool]:
                    size += rows[order[pool, place]]
                    place += 1
                if delay_ms[pool] > 0 and place == tail[pool] and size < limit[pool]:
                    over = waiting_ms[pool, order[pool, head[pool]]] + delay_ms[pool]
                    if now < over:
                        due[pool] = over
                        break
                due[pool] = np.inf
                server = server_first[pool]
                while state[server] != IDLE:
                    server += 1
                took = service_ms(service[server], size, time_ms, spread_first, spread_count, spreads_ms, rng)
                batch_first[server], batch_last[server] = head[pool], place
                for index in range(head[pool], place):
                    waiting_ms[pool, order[pool, index]] = now - waiting_ms[pool, order[pool, index]]
                head[pool] = place
                batch_rows[pool, batches[pool]] = size
                batches[pool] += 1
                state[server] = BUSY
                idle[pool] -= 1
                busy[pool] += 1
                load += share[pool]
                push(keys, ends, running, work + took, server)
                running += 1
    return latency_ms, waiting_ms, batch_rows, batches, areas, now
