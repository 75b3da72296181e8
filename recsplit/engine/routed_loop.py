"""The loop of recsplit.engine.routed, compiled by numba, which calls the router's decision by its address: arrays in, arrays out."""

from typing import Any

import numba
import numba.experimental.function_type  # registers how a function at an address is called
import numpy as np

from recsplit.capacity.events import MEMORYLESS, pop, push, service_ms

__all__ = ["MEMORYLESS", "Route", "run"]

_SIGNATURE = numba.types.int32(
    numba.types.int64,
    numba.types.int32,
    numba.types.intp,
    numba.types.int32,
    numba.types.intp,
    numba.types.int32,
    numba.types.int64,
    numba.types.float64,
    numba.types.intp,
    numba.types.int32,
)


class Route(numba.types.WrapperAddressProtocol):
    """recsplit_route of a loaded library (c_api.h), as compiled code may call it."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __wrapper_address__(self) -> int:
        return self._address

    def signature(self) -> Any:
        """Pointers as integers."""
        return _SIGNATURE


@numba.njit
def run(
    route: Any,
    large_rows: int,
    large_variant: int,
    variants: int,  # addresses of arrays of the records of deciding.py
    variant_count: int,
    known: Any,  # SERVER [servers]
    known_address: int,
    at_once: Any,  # int64 [servers]
    service: Any,  # int64 [servers]
    time_ms: Any,  # float64 [services, rows + 1]
    spread_first: Any,  # int64 [services, rows + 1]
    spread_count: Any,
    spreads_ms: Any,  # float64 [...]
    arrival_ms: Any,  # float64 [queries], rising
    sizes: Any,  # int64 [queries]
    most_requests: int,
    within_ms: float,
    parts: Any,  # PART [room]
    parts_address: int,
    rng: Any,
) -> Any:
    """Returns latency_ms [queries] (NaN: refused), variant [queries], requests [servers], busy_ms [servers]."""
    queries, servers, room = len(sizes), len(at_once), len(parts)
    free = np.zeros((servers, at_once.max()))
    begun = np.full((servers, at_once.max()), -1)  # the last request that each place of a server has begun; -1: none yet
    total_ms = np.zeros(servers)  # of all that are under way there, as thought
    latency_ms = np.full(queries, np.nan)
    variant = np.full(queries, -1, np.int32)
    requests, busy_ms = np.zeros(servers, np.int64), np.zeros(servers)
    # Requests, numbered as they are sent: a heap of (end, number) of those under way, one of (start, number) of those that wait.
    ends, ending, under_way = np.empty(most_requests), np.empty(most_requests, np.int64), 0
    starts, starting, waiting = np.empty(most_requests), np.empty(most_requests, np.int64), 0
    server_of, slot_of, number = np.empty(most_requests, np.int64), np.empty(most_requests, np.int64), 0
    thought_ms = np.empty(most_requests)
    start_ms, end_ms = np.empty(most_requests), np.empty(most_requests)
    for query in range(queries):
        now = arrival_ms[query]
        while under_way > 0 and ends[0] <= now:
            request = ending[0]
            pop(ends, ending, under_way)
            under_way -= 1
            ended = server_of[request]
            known[ended].under_way -= 1
            total_ms[ended] = total_ms[ended] - thought_ms[request] if known[ended].under_way > 0 else 0.0
        while waiting > 0 and starts[0] <= now:
            request = starting[0]
            pop(starts, starting, waiting)
            waiting -= 1
            begun[server_of[request], slot_of[request]] = request
        for server in range(servers):
            left_ms = total_ms[server]
            for slot in range(at_once[server]):
                request = begun[server, slot]
                if request >= 0 and end_ms[request] > now:
                    left_ms -= min(thought_ms[request], now - start_ms[request])
            known[server].work_ms = max(left_ms, 0.0)
        count = route(  # its integers are of C's widths
            np.int64(large_rows),
            np.int32(large_variant),
            variants,
            np.int32(variant_count),
            known_address,
            np.int32(servers),
            sizes[query],
            within_ms,
            parts_address,
            np.int32(room),
        )
        if count <= 0:
            continue
        last = now
        for place in range(count):
            server, rows = parts[place].server, parts[place].rows
            slot = 0
            for other in range(1, at_once[server]):
                if free[server, other] < free[server, slot]:
                    slot = other
            took = service_ms(service[server], rows, time_ms, spread_first, spread_count, spreads_ms, rng)
            start_ms[number] = max(now, free[server, slot])
            end = start_ms[number] + took
            free[server, slot] = end
            last = max(last, end)
            requests[server] += 1
            busy_ms[server] += took
            server_of[number], slot_of[number], thought_ms[number], end_ms[number] = server, slot, parts[place].ms, end
            total_ms[server] += parts[place].ms
            push(ends, ending, under_way, end, number)
            push(starts, starting, waiting, start_ms[number], number)
            under_way, waiting = under_way + 1, waiting + 1
            number += 1
        variant[query] = parts[0].variant
        latency_ms[query] = last - now
    return latency_ms, variant, requests, busy_ms
