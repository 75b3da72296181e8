"""Requests one after the other, or a few at a time, over the plain HTTP connections that the open loop uses too.

So a profile's client costs what the load's client costs: a gRPC client in Python takes several times the processor time,
and on a machine that client and server share a simulation would blame the server for it.
"""

import itertools
import select
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from recsplit.errors import RecsplitError
from recsplit_perf.traffic.connection import Connection

_TIMEOUT_S = 60.0


class Closed:
    """`count` connections to `url`, host:port of HTTP; a context manager. Every method raises RecsplitError with the server's words."""

    def __init__(self, url: str, count: int) -> None:
        self._connections = [Connection(url) for _ in range(count)]
        self._pause = threading.Event()  # never set: waits

    def __enter__(self) -> "Closed":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for connection in self._connections:
            connection.close()

    def latency_ms(self, request: bytes, *, pause_s: float = 0.0) -> float:
        """Do nothing for `pause_s`, then send a request; how long its answer took."""
        connection = self._connections[0]
        self._pause.wait(pause_s)
        start = time.perf_counter()
        connection.begin(request)
        self._wait([connection])
        return 1e3 * (time.perf_counter() - start)

    def flood(self, requests: Sequence[bytes], count: int) -> None:
        """Send `count` requests round robin, as many at once as there are connections."""
        line = itertools.islice(itertools.cycle(requests), count)
        under_way = []
        for connection, request in zip(self._connections, line, strict=False):
            connection.begin(request)
            under_way.append(connection)
        while under_way:
            for connection in self._wait(under_way):
                request = next(line, b"")
                if request:
                    connection.begin(request)
                else:
                    under_way.remove(connection)

    def _wait(self, under_way: list[Connection]) -> list[Connection]:
        """Those of them that are answered, one at least."""
        until = time.perf_counter() + _TIMEOUT_S
        while not (done := [connection for connection in under_way if connection.go_on()]):
            if time.perf_counter() > until:
                raise RecsplitError(f"a request was not answered within {_TIMEOUT_S:g} s", hint="does the server still run?")
            sending = [connection.number for connection in under_way if connection.sending]
            select.select([connection.number for connection in under_way], sending, [], 1.0)
        for connection in done:
            if connection.problem:
                raise RecsplitError(f"the server refused a request: {connection.problem}", hint="does it still run?")
        return done
