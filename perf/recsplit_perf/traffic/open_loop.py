"""Open-loop load: queries are sent when they are due, whether or not earlier ones are answered.

The latency of a query counts from when it was due, so that neither a slow server nor a late generator shortens it (no
coordinated omission), and the generator's own lateness is kept for every query.

One thread, plain sockets, and Triton's HTTP port, because the server has only the processor time that the generator leaves
it: requests are ready as bytes before the clock starts, and of an answer only its end is looked for. Measured
on 2 cores that the server shared, at 100 queries/s of 5 kB: 0.35 ms of processor time a query, and 1.0 to 1.4 ms with Python's
gRPC, which starts and wakes threads; asyncio's timers are late by up to a millisecond. At 1000 queries/s: 0.14 ms of
processor time, late by 0.12 ms in the median and 0.5 ms at the 99th percentile.
"""

import select
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recsplit.client.wire import CONCURRENT_SUBQUERIES
from recsplit.errors import InputError, RecsplitError
from recsplit_perf.traffic.connection import Connection
from recsplit_perf.traffic.queries import Ready

#: More queries than this are refused before the load starts.
MOST_QUERIES = 2_000_000
#: So many requests are on their way at once; further ones wait here, and their latency counts on.
MOST_CONNECTIONS = 512
#: With so many queries unanswered, further ones fail unsent: an overload would go on for long after its end.
MOST_ON_THEIR_WAY = 20_000
_OPEN = 16  # connections made before the clock starts
_LEAD_S = 0.02  # between the call and the first query
_LOOK_S = 0.1  # how often `stop` and timeouts are looked at


@dataclass(frozen=True, eq=False)
class Sent:
    """What became of each query, in the order of the times: ms late, ms from due to answered (inf: failed), and its rows.

    Where the load was interrupted, only of those that had ended; `due_s` are the times of these. `errors`: failed queries
    by message; `seconds`: how long queries were sent; `began_s`: Unix time at which due_s is 0.
    """

    due_s: NDArray[np.float64]
    late_ms: NDArray[np.float64]
    latency_ms: NDArray[np.float64]
    query_rows: NDArray[np.int64]
    errors: Counter[str]
    seconds: float
    interrupted: bool
    began_s: float


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
    """Send query `pool[choice[n]]` at `times_s[n]` (sorted, in s from the start), for warmup_s + seconds, to `url`, host:port of HTTP.

    Queries due in the first `warmup_s` are sent and left out of the result, whose times begin where they end. `stop`, or
    Ctrl-C, ends the load early and keeps what was measured. Raises RecsplitError, with the server's message, where the first
    query of the pool is not answered before the clock starts; InputError for more than MOST_QUERIES. Ends about `timeout_s`
    after the last query was due, at the latest.
    """
    if len(times_s) > MOST_QUERIES:
        raise InputError(f"{len(times_s)} queries are more than one run may have", hint=f"at most {MOST_QUERIES}: lower rate or seconds")
    none = np.full(len(times_s), np.nan)
    flight = _Flight(url, timeout_s, none, none.copy(), stop or threading.Event())
    try:
        flight.first(pool[0])
        interrupted = flight.send(pool, times_s, choice)
    finally:
        flight.close()
    latency_ms = flight.latency_ms
    kept = (times_s >= warmup_s) & ~np.isnan(latency_ms)
    rows = np.array([query.rows for query in pool], dtype=np.int64)
    return Sent(
        due_s=times_s[kept] - warmup_s,
        late_ms=flight.late_ms[kept],
        latency_ms=latency_ms[kept],
        query_rows=rows[choice[kept]],
        errors=Counter(flight.messages[number] for number in np.flatnonzero(kept & np.isinf(latency_ms)).tolist()),
        seconds=min(max(flight.now_s() - warmup_s, 0.0), seconds) if interrupted else seconds,
        interrupted=interrupted,
        began_s=flight.began_s + warmup_s,
    )


@dataclass(eq=False)
class _Query:
    """One query on its way: what of it still waits for its turn, and how many sub-queries have not ended."""

    number: int
    due_s: float
    waiting: list[bytes]
    left: int
    failed: str = ""


@dataclass(eq=False)
class _Flight:
    """Queries on their way, and the connections that carry them."""

    url: str
    timeout_s: float
    late_ms: NDArray[np.float64]
    latency_ms: NDArray[np.float64]  # nan: on its way
    stop: threading.Event
    messages: dict[int, str] = field(default_factory=dict)  # of failed queries, by number
    start: float = 0.0
    began_s: float = 0.0  # the same moment, in Unix time
    unanswered: int = 0
    looked_s: float = 0.0  # when timeouts were last looked for
    epoll: select.epoll = field(default_factory=select.epoll)
    idle: list[Connection] = field(default_factory=list)
    busy: dict[int, tuple[Connection, _Query, float]] = field(default_factory=dict)  # by file number; s when it was sent
    line: deque[tuple[_Query, bytes]] = field(default_factory=deque)  # waits for a connection

    def now_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start

    def first(self, query: Ready) -> None:
        """Send one query and wait: connects, and finds what is plainly wrong before the load starts."""
        for part in query.parts:
            connection = self._connection()
            connection.begin(part)
            until = time.perf_counter() + self.timeout_s
            while not connection.go_on():
                if time.perf_counter() > until:
                    raise RecsplitError(f"the first query was not answered within {self.timeout_s:g} s", hint="is the model ready?")
                select.select([connection.number], [connection.number] if connection.sending else [], [], _LOOK_S)
            self.idle.append(connection)
            if connection.problem:
                raise RecsplitError(
                    f"the first query failed: {connection.problem}", hint="is the model served, and ready, and is the address that of HTTP?"
                )
        self.idle += [self._connection() for _ in range(_OPEN - len(self.idle))]

    def send(self, pool: Sequence[Ready], times_s: NDArray[np.float64], choice: NDArray[np.int64]) -> bool:
        """Send every query when it is due, and wait for all answers. True where `stop` or Ctrl-C came first."""
        self.start, self.began_s = time.perf_counter() + _LEAD_S, time.time() + _LEAD_S
        try:
            for number, (due_s, query) in enumerate(zip(times_s.tolist(), map(pool.__getitem__, choice.tolist()), strict=True)):
                while (wait_s := due_s - self.now_s()) > 0 or self.stop.is_set():
                    if self._take(wait_s):
                        return True
                if number % 8 == 0:  # late: answers must not wait for that
                    self._take(0.0)
                self._start(number, due_s, query)
            while self.unanswered:
                if self._take(_LOOK_S):
                    return True
        except KeyboardInterrupt:
            return True
        return False

    def close(self) -> None:
        """Close all connections."""
        for connection in [*self.idle, *(one for one, _, _ in self.busy.values())]:
            connection.close()
        self.epoll.close()

    def _start(self, number: int, due_s: float, query: Ready) -> None:
        self.late_ms[number] = 1000 * (self.now_s() - due_s)
        state = _Query(number, due_s, list(query.parts[CONCURRENT_SUBQUERIES:]), len(query.parts))
        if self.unanswered >= MOST_ON_THEIR_WAY:
            self._fail(state, "not sent: too many queries were on their way")
            return
        self.unanswered += 1
        for part in query.parts[:CONCURRENT_SUBQUERIES]:
            self._ask(state, part)

    def _ask(self, state: _Query, part: bytes) -> None:
        if not self.idle and len(self.busy) >= MOST_CONNECTIONS:
            self.line.append((state, part))
            return
        try:
            connection = self.idle.pop() if self.idle else self._connection()
        except RecsplitError as error:
            self._end(state, str(error))
            return
        connection.begin(part)
        self.busy[connection.number] = connection, state, self.now_s()
        self.epoll.register(connection.number, select.EPOLLIN | (select.EPOLLOUT if connection.sending else 0))

    def _take(self, wait_s: float) -> bool:
        """Wait for answers, `wait_s` at most, and take them. True where `stop` is set."""
        # epoll waits whole milliseconds, and select takes microseconds.
        if wait_s > 0:
            select.select([self.epoll], [], [], min(wait_s, _LOOK_S))
        if self.now_s() >= self.looked_s + _LOOK_S:
            self.looked_s = self.now_s()
            self._time_out()
        for number, _ in self.epoll.poll(0):
            connection, state, _ = self.busy[number]
            sending = connection.sending
            if connection.go_on():
                self._free(number)
                self._end(state, connection.problem)
            elif sending and not connection.sending:
                self.epoll.modify(number, select.EPOLLIN)
        return self.stop.is_set()

    def _free(self, number: int) -> None:
        """A connection has done its work; the next request in line takes it."""
        connection, _, _ = self.busy.pop(number)
        self.epoll.unregister(number)
        if connection.broken:
            connection.close()
        else:
            self.idle.append(connection)
        if self.line:
            self._ask(*self.line.popleft())

    def _end(self, state: _Query, problem: str) -> None:
        """One sub-query has ended."""
        state.left -= 1
        if problem and not state.failed:
            state.failed = problem
            state.left -= len(state.waiting)
            state.waiting.clear()
        if state.waiting:
            self._ask(state, state.waiting.pop())
        if state.left == 0:
            self.unanswered -= 1
            if state.failed:
                self._fail(state, state.failed)
            else:
                self.latency_ms[state.number] = 1000 * (self.now_s() - state.due_s)

    def _fail(self, state: _Query, message: str) -> None:
        self.messages[state.number] = message
        self.latency_ms[state.number] = np.inf

    def _time_out(self) -> None:
        """End what was sent, or waits since it was due, for longer than timeout_s; both are in this order."""
        before_s, problem = self.now_s() - self.timeout_s, f"no answer within {self.timeout_s:g} s"
        while self.line and self.line[0][0].due_s < before_s:
            self._end(self.line.popleft()[0], problem)
        for number, (connection, state, sent_s) in list(self.busy.items()):
            if sent_s > before_s:
                break
            connection.broken = True
            self._free(number)
            self._end(state, problem)

    def _connection(self) -> Connection:
        return Connection(self.url)
