"""Open-loop load: queries are sent when they are due, whether or not earlier ones are answered.

The latency of a query counts from when it was due, so that neither a slow server nor a late generator shortens it (no
coordinated omission), and the generator's own lateness is kept for every query.

One thread sends, gRPC's own thread takes the answers; requests are serialised before the clock starts and answers are not
parsed. Measured on 2 cores that the server shares, 100 queries/s: a thread that waits on an event sends 0.15 ms late in
the median, asyncio 0.73 ms (its timers are rounded up to whole milliseconds), at 0.9 and 0.8 ms of processor time a
query; so it is threads. Several generators on one machine would only take more of the processor from the server.
"""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from recsplit.client.wire import CONCURRENT_SUBQUERIES
from recsplit.errors import InputError, RecsplitError
from recsplit_perf.queries import Ready

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]

#: More queries than this are refused before the load starts.
MOST_QUERIES = 2_000_000
#: With so many queries unanswered, or so many bytes, further ones fail unsent, or an overload would eat all memory.
MOST_ON_THEIR_WAY = 20_000
MOST_BYTES_ON_THEIR_WAY = 1 << 30
#: Time between the call and the first query.
_LEAD_S = 0.05


@dataclass(frozen=True, eq=False)
class Sent:
    """What became of each query, in the order of the times: ms late, ms from due to answered (inf: failed), and its rows.

    Where the load was interrupted, only of those that had ended; `due_s` are the times of these. `errors`: failed queries
    by message; `seconds`: how long queries were sent.
    """

    due_s: NDArray[np.float64]
    late_ms: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    query_rows: NDArray[np.int64]
    errors: Counter[str]
    seconds: float
    interrupted: bool


def send(
    url: str,
    pool: Sequence[Ready],
    times_s: NDArray[np.float64],
    choice: NDArray[np.int64],
    *,
    warmup_s: float,
    seconds: float,
    timeout_s: float = 10.0,
    stop: threading.Event | None = None,
) -> Sent:
    """Send query `pool[choice[n]]` at `times_s[n]` (sorted, in s from the start), for warmup_s + seconds.

    Queries due in the first `warmup_s` are sent and left out of the result, whose times begin where they end. `stop`, or
    Ctrl-C, ends the load early and keeps what was measured. Raises RecsplitError, with the server's message, where the first
    query of the pool is not answered before the clock starts; InputError for more than MOST_QUERIES.
    """
    if len(times_s) > MOST_QUERIES:
        raise InputError(f"{len(times_s)} queries are more than one run may have", hint=f"at most {MOST_QUERIES}: lower rate or seconds")
    with grpc.insecure_channel(url, options=_OPTIONS) as channel:
        call = channel.unary_unary(_METHOD)
        _first(call, pool[0], url, timeout_s)
        flight = _Flight(call, timeout_s, np.full(len(times_s), np.nan), np.full(len(times_s), np.nan))
        interrupted = flight.send(pool, times_s, choice, stop or threading.Event())
        lasted_s = flight.now_s()
        latency_ms = flight.latency_ms.copy()  # closing the channel ends the queries that are still on their way
    kept = (times_s >= warmup_s) & ~np.isnan(latency_ms)
    rows = np.array([query.rows for query in pool], dtype=np.int64)
    return Sent(
        due_s=times_s[kept] - warmup_s,
        late_ms=flight.late_ms[kept],
        latency_ms=latency_ms[kept],
        query_rows=rows[choice[kept]],
        errors=Counter(flight.messages[number] for number in np.flatnonzero(kept & np.isinf(latency_ms)).tolist()),
        seconds=min(max(lasted_s - warmup_s, 0.0), seconds) if interrupted else seconds,
        interrupted=interrupted,
    )


def _first(call: Any, query: Ready, url: str, timeout_s: float) -> None:
    """Send one query and wait: connects, and finds what is plainly wrong before the load starts."""
    try:
        for part in query.parts:
            call(part, timeout=timeout_s)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            raise RecsplitError(f"no server answers at {url}", hint="is it running? `recsplit serve DIR` shows its gRPC address") from error
        raise RecsplitError(f"the first query failed: {error.details().strip()}", hint="is the model served, and ready?") from error


@dataclass(eq=False)
class _Flight:
    """Queries on their way. The sending thread starts them, gRPC's thread ends them."""

    call: Any
    timeout_s: float
    late_ms: NDArray[np.float64]
    latency_ms: NDArray[np.float64]  # nan: on its way
    messages: dict[int, str] = field(default_factory=dict)  # of failed queries, by number
    start: float = 0.0
    started: int = 0
    ended: int = 0
    bytes_started: int = 0
    bytes_ended: int = 0
    lock: Any = field(default_factory=threading.RLock)  # gRPC ends a future in whichever thread finds it done

    def now_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start

    def send(self, pool: Sequence[Ready], times_s: NDArray[np.float64], choice: NDArray[np.int64], stop: threading.Event) -> bool:
        """Send every query when it is due, and wait for all answers. True where `stop` or Ctrl-C came first."""
        self.start = time.perf_counter() + _LEAD_S
        try:
            for number, (due_s, query) in enumerate(zip(times_s.tolist(), map(pool.__getitem__, choice.tolist()), strict=True)):
                wait_s = due_s - self.now_s()
                if stop.wait(wait_s) if wait_s > 0 else stop.is_set():
                    return True
                self._start(number, due_s, query)
            while self.ended < self.started:
                if stop.wait(0.01):
                    return True
        except KeyboardInterrupt:
            return True
        return False

    def _start(self, number: int, due_s: float, query: Ready) -> None:
        size = sum(map(len, query.parts))
        self.late_ms[number] = 1000 * (self.now_s() - due_s)
        if self.started - self.ended >= MOST_ON_THEIR_WAY or self.bytes_started - self.bytes_ended + size > MOST_BYTES_ON_THEIR_WAY:
            self._fail(number, "not sent: too many queries were on their way")
            return
        self.started += 1
        self.bytes_started += size
        state = _Query(number, due_s, size, list(query.parts[CONCURRENT_SUBQUERIES:]), len(query.parts))
        for part in query.parts[:CONCURRENT_SUBQUERIES]:
            self._ask(state, part)

    def _ask(self, state: "_Query", part: bytes) -> None:
        self.call.future(part, timeout=self.timeout_s).add_done_callback(partial(self._end, state))

    def _end(self, state: "_Query", future: Any) -> None:
        """One sub-query has ended."""
        now_s = self.now_s()
        with self.lock:
            state.left -= 1
            if future.code() != grpc.StatusCode.OK and not state.failed:
                state.failed = (future.details() or str(future.code())).strip()
                state.left -= len(state.waiting)
                state.waiting.clear()
            if state.waiting:
                self._ask(state, state.waiting.pop())
            if state.left == 0:
                if state.failed:
                    self._fail(state.number, state.failed)
                else:
                    self.latency_ms[state.number] = 1000 * (now_s - state.due_s)
                self.bytes_ended += state.size_bytes
                self.ended += 1

    def _fail(self, number: int, message: str) -> None:
        self.messages[number] = message
        self.latency_ms[number] = np.inf


@dataclass(eq=False)
class _Query:
    """One query on its way: what of it still waits to be sent, and how many sub-queries have not ended."""

    number: int
    due_s: float
    size_bytes: int
    waiting: list[bytes]
    left: int
    failed: str = ""
