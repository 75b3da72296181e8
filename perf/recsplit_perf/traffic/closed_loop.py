"""Closed-loop load: so many workers, each with one request on its way at all times, and every latency kept.

gRPC through asyncio in this process, which takes CPU time from a server on the same machine: at thousands of requests a
second the latencies are as much its own as the server's, and perf_analyzer is the better tool. Open-loop load (arrivals
that don't wait for answers) is another matter and not here.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from recsplit.errors import RecsplitError

Query = Mapping[str, NDArray[Any]]

#: After this many failures without a single answer the load is given up.
HOPELESS = 20


@dataclass(frozen=True, eq=False)
class LoadResult:
    """What a load saw. Arrays have one item for each answered request: when it was sent, since the start, and its latency.

    `errors` counts failed requests by the server's message; they are in no array. `seconds`: from the first request sent
    to the last answer.
    """

    seconds: float
    concurrency: int
    sent_s: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    request_rows: NDArray[np.int64]
    errors: Mapping[str, int]

    @property
    def requests(self) -> int:
        """How many requests were answered."""
        return len(self.latency_ms)

    @property
    def rows(self) -> int:
        """How many rows were answered."""
        return int(self.request_rows.sum())

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(self.errors.values())

    def summary(self) -> dict[str, Any]:
        """Counts, throughput and latencies as plain numbers."""
        p50, p95, p99 = np.percentile(self.latency_ms, (50, 95, 99))
        return {
            "seconds": round(self.seconds, 3),
            "concurrency": self.concurrency,
            "requests": self.requests,
            "rows": self.rows,
            "failed": self.failed,
            "requests_per_s": round(self.requests / self.seconds, 1),
            "rows_per_s": round(self.rows / self.seconds, 1),
            "p50_ms": round(float(p50), 3),
            "p95_ms": round(float(p95), 3),
            "p99_ms": round(float(p99), 3),
            "max_ms": round(float(self.latency_ms.max()), 3),
            "errors": dict(self.errors),
        }


def run(
    url: str,
    model: str,
    queries: Sequence[Query],
    *,
    seconds: float,
    concurrency: int,
    max_requests: int = 1_000_000,
    timeout_s: float = 10.0,
    warmup_s: float = 0.5,
) -> LoadResult:
    """Send `queries` round robin until `seconds` are over or `max_requests` are sent; requests then on their way are awaited.

    `url`: host:port of the server's gRPC. The first `warmup_s` seconds come before the measurement and are not in the
    result. Raises RecsplitError, with the server's message, where nothing at all is answered.
    """
    return asyncio.run(_run(url, model, queries, seconds, concurrency, max_requests, timeout_s, warmup_s))


async def _run(
    url: str,
    model: str,
    queries: Sequence[Query],
    seconds: float,
    concurrency: int,
    max_requests: int,
    timeout_s: float,
    warmup_s: float,
) -> LoadResult:
    prepared = [(_inputs(query), len(next(iter(query.values())))) for query in queries]
    async with InferenceServerClient(url) as client:
        if warmup_s:
            await _loop(client, model, prepared, warmup_s, concurrency, max_requests, timeout_s)
        return await _loop(client, model, prepared, seconds, concurrency, max_requests, timeout_s)


async def _loop(
    client: InferenceServerClient,
    model: str,
    prepared: Sequence[tuple[list[InferInput], int]],
    seconds: float,
    concurrency: int,
    max_requests: int,
    timeout_s: float,
) -> LoadResult:
    """One closed loop: `concurrency` workers take queries from one line."""
    line = itertools.islice(itertools.cycle(prepared), max_requests)
    seen: list[tuple[float, float, int]] = []
    errors: Counter[str] = Counter()
    start = time.perf_counter()
    workers = [asyncio.create_task(_worker(client, model, line, start, seconds, timeout_s, seen, errors)) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:  # Ctrl-C: leave no request behind
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    took = time.perf_counter() - start
    if not seen:
        message = errors.most_common(1)[0][0]
        raise RecsplitError(
            f"model {model!r} answered none of {errors.total()} requests: {message}",
            hint="is it served, and ready, and is the address that of gRPC?",
        )
    sent, latency, rows = zip(*sorted(seen), strict=True)
    return LoadResult(
        took, concurrency, np.array(sent), 1000.0 * np.array(latency, dtype=np.float64), np.array(rows, dtype=np.int64), errors
    )


async def _worker(
    client: InferenceServerClient,
    model: str,
    line: Iterator[tuple[list[InferInput], int]],
    start: float,
    seconds: float,
    timeout_s: float,
    seen: list[tuple[float, float, int]],
    errors: Counter[str],
) -> None:
    """Send one request after the other."""
    for inputs, rows in line:
        sent = time.perf_counter()
        if sent - start >= seconds or (not seen and errors.total() >= HOPELESS):
            return
        try:
            await client.infer(model, inputs, client_timeout=timeout_s)
        except InferenceServerException as error:
            errors[error.message().strip()] += 1
        else:
            seen.append((sent - start, time.perf_counter() - sent, rows))


def _inputs(query: Query) -> list[InferInput]:
    """A query as tritonclient sends it; made once, sent many times."""
    inputs = []
    for name, array in query.items():
        rows = array[:, np.newaxis] if array.ndim == 1 else array  # one value a row is served as [batch, 1]
        tensor = InferInput(name, list(rows.shape), np_to_triton_dtype(rows.dtype))
        tensor.set_data_from_numpy(rows)
        inputs.append(tensor)
    return inputs
