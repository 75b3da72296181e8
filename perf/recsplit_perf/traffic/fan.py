"""Load on several servers at once: queries shared out over their addresses, one after the other or at random."""

import threading
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import RecsplitError
from recsplit_perf.traffic import open_loop
from recsplit_perf.traffic.closed_http import Closed
from recsplit_perf.traffic.queries import Ready


def closed(urls: Sequence[str], pool: Sequence[Ready], seconds: float, *, connections: int) -> NDArray[np.float64]:
    """Latencies, ms, of queries one after the other on each of so many connections, shared out over the addresses."""
    latencies_ms: list[list[float]] = [[] for _ in range(connections)]
    problems: list[RecsplitError] = []
    until = time.perf_counter() + seconds

    def client(number: int) -> None:
        try:
            with Closed(urls[number % len(urls)], 1) as connection:
                turn = number
                while time.perf_counter() < until:
                    latencies_ms[number].append(connection.latency_ms(pool[turn % len(pool)].parts[0]))
                    turn += connections
        except RecsplitError as error:
            problems.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return np.concatenate([np.array(connection_ms) for connection_ms in latencies_ms])


def opened(urls: Sequence[str], pool: Sequence[Ready], seconds: float, rate: float) -> NDArray[np.float64]:
    """Latencies, ms, of queries that come at random (a Poisson process), an equal share at each address; inf where one failed."""
    rng = np.random.default_rng(2)
    latencies_ms: list[NDArray[np.float64]] = []

    def send(url: str, times_s: NDArray[np.float64], choice: NDArray[np.int64]) -> None:
        latencies_ms.append(open_loop.send(url, pool, times_s, choice, warmup_s=1.0, seconds=seconds).latency_ms)

    threads = []
    for url in urls:
        times_s = np.sort(rng.uniform(0, seconds + 1, rng.poisson(rate / len(urls) * (seconds + 1))))
        threads.append(threading.Thread(target=send, args=(url, times_s, rng.integers(0, len(pool), len(times_s)))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.concatenate(latencies_ms)
