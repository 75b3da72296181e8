"""The client for asyncio."""

import asyncio
import os
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from recsplit.client import query, signature, unknown
from recsplit.client.answer import TURNS, Answer, flattened, join
from recsplit.client.failures import ServerError, server_error, two_builds
from recsplit.client.wire import CONCURRENT_SUBQUERIES, AsyncConnection, Protocol, server
from recsplit.credentials import Credentials
from recsplit.errors import InputError

Result = TypeVar("Result")


class AsyncClient:
    """A model on a server, for one event loop of one process. Any number of tasks may share one; arguments are those of Client."""

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
        self._connection: AsyncConnection | None = None  # made in the event loop that it then belongs to
        self._process = os.getpid()
        self._known = signature.Known()

    def __reduce__(self) -> tuple[Any, ...]:
        """In a process that is spawned it is a client of its own, without this one's connections."""
        options: dict[str, Any] = {"timeout_s": self.timeout_s, "on_unknown": self.on_unknown, "credentials": self._server.credentials}
        return partial(AsyncClient, **options), (self._server.url, self.model, self.protocol)

    async def __aenter__(self) -> "AsyncClient":
        try:
            await self._connect()
        except BaseException:  # __aexit__ is not called when __aenter__ fails
            await self.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def infer(self, inputs: Mapping[str, ArrayLike]) -> Answer:
        """Ask the model about a query of any number of rows; see Client.infer for inputs, outputs and errors."""
        connection, model = await self._connect()
        parts = query.split(query.prepare(model, inputs), model.max_batch_size)
        for _ in range(TURNS):
            answer = join(await self._ask_all(connection, parts, model))
            if answer is not None:
                break
        else:
            raise two_builds(self.model)
        self._known.answered(answer.version)
        answer = flattened(answer, model.flat)
        if self.on_unknown == "error" and (marks := unknown.taken(answer)):
            raise unknown.error(marks, await self._lookups(connection, model))
        return answer

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _connect(self) -> tuple[AsyncConnection, signature.Signature]:
        """The connection and the model's signature; asks the server for it the first time."""
        if self._connection is None:
            self._connection, self._process = AsyncConnection(self._server, self.protocol, self.timeout_s), os.getpid()
        if self._process != os.getpid():
            raise InputError(
                "this AsyncClient was used before the process was forked: its connection belongs to the other process's event loop",
                hint="make an AsyncClient in each process, after the fork",
            )
        model = self._known.signature
        if model is None:
            model = self._known.signature = signature.read(await self._call(self._connection.config(self.model), self.model))
        return self._connection, model

    async def _lookups(self, connection: AsyncConnection, model: signature.Signature) -> list[dict[str, Any]]:
        """What an error about ids tells of the tables; nothing where the server doesn't say."""
        if self._known.lookups is None:
            try:
                steps = [await self._call(connection.config(step), step) for step in model.steps]
            except ServerError:
                return []
            self._known.lookups = [lookup for step in steps for lookup in signature.lookups(step)]
        return self._known.lookups

    async def _ask_all(self, connection: AsyncConnection, parts: Sequence[query.Subquery], model: signature.Signature) -> list[Answer]:
        if len(parts) == 1:
            return [await self._ask(connection, parts[0], model)]
        places = asyncio.Semaphore(CONCURRENT_SUBQUERIES)

        async def ask_in_turn(part: query.Subquery) -> Answer:
            async with places:
                return await self._ask(connection, part, model)

        pending = [asyncio.create_task(ask_in_turn(part)) for part in parts]
        try:
            return await asyncio.gather(*pending)
        except BaseException:  # cancelled from outside, too: leave no task behind
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            raise

    async def _ask(self, connection: AsyncConnection, part: query.Subquery, model: signature.Signature) -> Answer:
        try:
            return await self._call(connection.infer(self.model, part.tensors), self.model)
        except ServerError as error:
            mark = unknown.told(str(error), part.first_row)
            if mark is None:
                raise
            raise unknown.error([mark], await self._lookups(connection, model)) from error

    async def _call(self, answer: Awaitable[Result], model: str) -> Result:
        try:
            return await answer
        except Exception as error:  # whatever grpc and aiohttp raise
            raise server_error(error, url=self.url, protocol=self.protocol, model=model, timeout_s=self.timeout_s) from error
