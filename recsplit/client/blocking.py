"""The client for synchronous code and threads."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from recsplit.client import query, signature, unknown
from recsplit.client.answer import TURNS, Answer, flattened, join
from recsplit.client.failures import ServerError, server_error, two_builds
from recsplit.client.wire import CONCURRENT_SUBQUERIES, GrpcConnection, HttpConnection, Protocol, server
from recsplit.credentials import Credentials

Result = TypeVar("Result")


class Client:
    """A model on a server. Threads may share one, and processes that are forked or spawned; use as a context manager, or close it.

    `url`: host:port of the server's `protocol`, "grpc" or "http"; grpcs:// or https:// before it for TLS. `credentials`: headers and
    certificates that the server, or what is before it, wants (recsplit.credentials.read_credentials). `timeout_s` bounds each request, and
    a query of at most max_batch_size rows is one request. `on_unknown` says what to do about ids outside their tables where the server
    answers and marks their rows (NVIDIA's onnxruntime backend): "error" raises UnknownIds, "mark" leaves the marks in the
    answer as `unknown_ids`, INT64 [batch, 2] = (position or -1, id); such a row's float outputs are NaN.

    Nothing is sent before the first query, or `with`. A model that is replaced by one with other inputs needs a new client.
    """

    def __init__(
        self,
        url: str,
        model: str,
        protocol: Protocol = "grpc",
        *,
        timeout_s: float = 10.0,
        on_unknown: unknown.OnUnknown = "error",
        credentials: Credentials | None = None,
    ) -> None:
        self._server = server(url, protocol, credentials)
        self.url, self.model, self.protocol = self._server.address, model, protocol
        self.timeout_s, self.on_unknown = timeout_s, on_unknown
        self._inherited: list[GrpcConnection | HttpConnection] = []
        self._open()
        self._known = signature.Known()

    def _open(self, *, forked: bool = False) -> None:
        """Connections and threads of this process: a fork shares the sockets, and would read answers that belong to another's questions."""
        self._process = os.getpid()
        self._connection = (GrpcConnection if self.protocol == "grpc" else HttpConnection)(self._server, self.timeout_s, forked=forked)
        self._pool = ThreadPoolExecutor(CONCURRENT_SUBQUERIES, thread_name_prefix="recsplit-client")  # starts threads when needed

    def __reduce__(self) -> tuple[Any, ...]:
        """In a process that is spawned it is a client of its own, without this one's connections."""
        options: dict[str, Any] = {"timeout_s": self.timeout_s, "on_unknown": self.on_unknown, "credentials": self._server.credentials}
        return partial(Client, **options), (self._server.url, self.model, self.protocol)

    def __enter__(self) -> "Client":
        try:
            self._connect()
        except BaseException:  # __exit__ is not called when __enter__ fails
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def infer(self, inputs: Mapping[str, ArrayLike]) -> Answer:
        """Ask the model about a query of any number of rows; the outputs by name, first dimension = rows of the query.

        `inputs`: the ensemble's inputs, first dimension = rows; or a ragged model's own (values, offsets | lengths).
        Arrays may be read-only. The answer's `version` is that of the model: one number for all rows, for a large query that met a
        switch of builds is asked again. Raises InputError before anything is sent where a name, dtype, shape or value doesn't fit;
        UnknownIds for ids outside their tables; ServerError for what happens on the way or on the server.
        """
        model = self._connect()
        parts = query.split(query.prepare(model, inputs), model.max_batch_size)
        answers = (join(self._ask_all(parts, model)) for _ in range(TURNS))
        answer = next((answer for answer in answers if answer is not None), None)
        if answer is None:
            raise two_builds(self.model)
        self._known.answered(answer.version)
        answer = flattened(answer, model.flat)
        if self.on_unknown == "error" and (marks := unknown.taken(answer)):
            raise unknown.error(marks, self._lookups(model))
        return answer

    def close(self) -> None:
        """Wait for requests in flight, then close the connection."""
        self._pool.shutdown()
        self._connection.close()

    def _connect(self) -> signature.Signature:
        """The model's signature; asks the server for it the first time."""
        if self._process != os.getpid():
            self._inherited.append(self._connection)  # kept: taken down, it would write to sockets of the other process
            self._open(forked=True)
        model = self._known.signature
        if model is None:
            model = self._known.signature = signature.read(self._call(self._connection.config, self.model))
        return model

    def _lookups(self, model: signature.Signature) -> list[dict[str, Any]]:
        """What an error about ids tells of the tables; nothing where the server doesn't say."""
        if self._known.lookups is None:
            try:
                steps = [self._call(self._connection.config, step) for step in model.steps]
            except ServerError:
                return []
            self._known.lookups = [lookup for step in steps for lookup in signature.lookups(step)]
        return self._known.lookups

    def _ask_all(self, parts: Sequence[query.Subquery], model: signature.Signature) -> list[Answer]:
        if len(parts) == 1:
            return [self._ask(parts[0], model)]
        pending = [self._pool.submit(self._ask, part, model) for part in parts]
        try:
            return [future.result() for future in pending]
        finally:
            for future in pending:
                future.cancel()

    def _ask(self, part: query.Subquery, model: signature.Signature) -> Answer:
        try:
            return self._call(self._connection.infer, self.model, part.tensors)
        except ServerError as error:
            mark = unknown.told(str(error), part.first_row)
            if mark is None:
                raise
            raise unknown.error([mark], self._lookups(model)) from error

    def _call(self, function: Callable[..., Result], model: str, *arguments: Any) -> Result:
        try:
            return function(model, *arguments)
        except Exception as error:  # whatever grpc and gevent raise
            raise server_error(error, url=self.url, protocol=self.protocol, model=model, timeout_s=self.timeout_s) from error
