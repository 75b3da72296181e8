"""The loop of recsplit.engine.routed, compiled by numba, which calls the router's decision by its address: arrays in, arrays out."""

from typing import Any

import numba
import numba.experimental.function_type  # registers how a function at an address is called
import numpy as np

from recsplit.capacity.events import LEAST_MS, MEMORYLESS, pop, push

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
    within_ms: float,
    parts: Any,  # PART [room]
    parts_address: int,
    rng: Any,
) -> Any:
    """Returns latency_ms [queries] (NaN: refused), variant [queries], requests [servers], busy_ms [servers]."""
    queries, servers, room = len(sizes), len(at_once), len(parts)
    free = np.zeros((servers, at_once.max()))
    latency_ms = np.full(queries, np.nan)
    variant = np.full(queries, -1, np.int32)
    requests, busy_ms = np.zeros(servers, np.int64), np.zeros(servers)
    # Requests under way: a heap of (end, number); server and thought time by number, which is used again when it has ended.
    capacity = 1024
    ends, numbers, under_way = np.empty(capacity), np.empty(capacity, np.int64), 0
    server_of, thought_ms = np.empty(capacity, np.int64), np.empty(capacity)
    spare, spare_count = np.arange(capacity), capacity
    for query in range(queries):
        now = arrival_ms[query]
        while under_way > 0 and ends[0] <= now:
            number = numbers[0]
            pop(ends, numbers, under_way)
            under_way -= 1
            ended = server_of[number]
            known[ended].under_way -= 1
            known[ended].work_ms = known[ended].work_ms - thought_ms[number] if known[ended].under_way > 0 else 0.0
            spare[spare_count] = number
            spare_count += 1
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
            law = service[server]
            took = time_ms[law, rows]
            spreads = spread_count[law, rows]
            if spreads > 0:
                took = max(took + spreads_ms[spread_first[law, rows] + int(rng.random() * spreads)], LEAST_MS)
            elif spreads == MEMORYLESS:
                took *= rng.standard_exponential()
            end = max(now, free[server, slot]) + took
            free[server, slot] = end
            last = max(last, end)
            requests[server] += 1
            busy_ms[server] += took
            if spare_count == 0:
                capacity *= 2
                more = np.empty(capacity)
                more[: len(ends)] = ends
                ends = more
                more_numbers = np.empty(capacity, np.int64)
                more_numbers[: len(numbers)] = numbers
                numbers = more_numbers
                more_servers = np.empty(capacity, np.int64)
                more_servers[: len(server_of)] = server_of
                more_thought = np.empty(capacity)
                more_thought[: len(thought_ms)] = thought_ms
                spare = np.empty(capacity, np.int64)
                spare_count = capacity - len(server_of)
                spare[:spare_count] = np.arange(len(server_of), capacity)
                server_of, thought_ms = more_servers, more_thought
            spare_count -= 1
            number = spare[spare_count]
            server_of[number], thought_ms[number] = server, parts[place].ms
            push(ends, numbers, under_way, end, number)
            under_way += 1
        variant[query] = parts[0].variant
        latency_ms[query] = last - now
    return latency_ms, variant, requests, busy_ms
