"""The client for synchronous code and threads."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from numpy.typing import ArrayLike

from recsplit.client import query, signature, unknown
from recsplit.client.failures import ServerError, server_error
from recsplit.client.wire import CONCURRENT_SUBQUERIES, Array, GrpcConnection, HttpConnection, Protocol, address
from recsplit.plan.plan import UNKNOWN_IDS


class Client:
    """A model on a server. Any number of threads may share one, and processes that are forked; use as a context manager, or close it.

    `url`: host:port of the server's `protocol`, "grpc" or "http". `timeout_s` bounds each request, and a query of at most
    max_batch_size rows is one request. `on_unknown` says what to do about ids outside their tables where the server
    answers and marks their rows (NVIDIA's onnxruntime backend): "error" raises UnknownIds, "mark" leaves the marks in the
    answer as `unknown_ids`, INT64 [batch, 2] = (position or -1, id); such a row's float outputs are NaN.

    Nothing is sent before the first query, or `with`. A model that is replaced by one with other inputs needs a new client.
    """

    def __init__(
        self, url: str, model: str, protocol: Protocol = "grpc", *, timeout_s: float = 10.0, on_unknown: unknown.OnUnknown = "error"
    ) -> None:
        self.url, self.model, self.protocol = address(url, protocol), model, protocol
        self.timeout_s, self.on_unknown = timeout_s, on_unknown
        self._inherited: list[GrpcConnection | HttpConnection] = []
        self._open()
        self._signature: signature.Signature | None = None
        self._lookups: list[dict[str, Any]] = []

    def _open(self, *, forked: bool = False) -> None:
        """Connections and threads of this process: a fork shares the sockets, and would read answers that belong to another's questions."""
        self._process = os.getpid()
        self._connection = (GrpcConnection if self.protocol == "grpc" else HttpConnection)(self.url, self.timeout_s, forked=forked)
        self._pool = ThreadPoolExecutor(CONCURRENT_SUBQUERIES, thread_name_prefix="recsplit-client")  # starts threads when needed

    def __enter__(self) -> "Client":
        try:
            self._connect()
        except BaseException:  # __exit__ is not called when __enter__ fails
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def infer(self, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Ask the model about a query of any number of rows; the outputs by name, first dimension = rows of the query.

        `inputs`: the ensemble's inputs, first dimension = rows; or a ragged model's own (values, offsets | lengths).
        Arrays may be read-only. Raises InputError before anything is sent where a name, dtype or shape doesn't fit;
        UnknownIds for ids outside their tables; ServerError for what happens on the way or on the server.
        """
        model = self._connect()
        parts = query.split(query.prepare(model, inputs), model.max_batch_size)
        if len(parts) == 1:
            answer = self._ask(parts[0])
        else:
            pending = [self._pool.submit(self._ask, part) for part in parts]
            try:
                answer = query.join([future.result() for future in pending])
            finally:
                for future in pending:
                    future.cancel()
        return answer if self.on_unknown == "mark" else unknown.check(answer, self._lookups)

    def close(self) -> None:
        """Wait for requests in flight, then close the connection."""
        self._pool.shutdown()
        self._connection.close()

    def _connect(self) -> signature.Signature:
        """The model's signature; asks the server for it the first time."""
        if self._process != os.getpid():
            self._inherited.append(self._connection)  # kept: taken down, it would write to sockets of the other process
            self._open(forked=True)
        if self._signature is None:
            model = signature.read(self._call(self._connection.config, self.model))
            if UNKNOWN_IDS in model.outputs:
                steps = [self._call(self._connection.config, step) for step in model.steps]
                self._lookups = [lookup for step in steps for lookup in signature.lookups(step)]
            self._signature = model
        return self._signature

    def _ask(self, part: query.Subquery) -> dict[str, Array]:
        try:
            return self._call(self._connection.infer, self.model, part.tensors)
        except ServerError as error:
            raise unknown.from_message(str(error), part.first_row, self._lookups) or error from error

    def _call(self, function: Callable[..., dict[str, Any]], model: str, *arguments: Any) -> dict[str, Any]:
        try:
            return function(model, *arguments)
        except Exception as error:  # whatever grpc and gevent raise
            raise server_error(error, url=self.url, protocol=self.protocol, model=model, timeout_s=self.timeout_s) from error
