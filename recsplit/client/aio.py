"""The client for asyncio."""

import asyncio
import os
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import Any

from numpy.typing import ArrayLike

from recsplit.client import query, signature, unknown
from recsplit.client.failures import ServerError, server_error
from recsplit.client.wire import CONCURRENT_SUBQUERIES, Array, AsyncConnection, Protocol, address
from recsplit.errors import InputError
from recsplit.plan.plan import UNKNOWN_IDS


class AsyncClient:
    """A model on a server, for one event loop of one process. Any number of tasks may share one; arguments are those of Client."""

    def __init__(
        self, url: str, model: str, protocol: Protocol = "grpc", *, timeout_s: float = 10.0, on_unknown: unknown.OnUnknown = "error"
    ) -> None:
        self.url, self.model, self.protocol = address(url, protocol), model, protocol
        self.timeout_s, self.on_unknown = timeout_s, on_unknown
        self._connection: AsyncConnection | None = None  # made in the event loop that it then belongs to
        self._process = os.getpid()
        self._signature: signature.Signature | None = None
        self._lookups: list[dict[str, Any]] = []

    async def __aenter__(self) -> "AsyncClient":
        try:
            await self._connect()
        except BaseException:  # __aexit__ is not called when __aenter__ fails
            await self.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def infer(self, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Ask the model about a query of any number of rows; see Client.infer for inputs, outputs and errors."""
        connection, model = await self._connect()
        parts = query.split(query.prepare(model, inputs), model.max_batch_size)
        if len(parts) == 1:
            answer = await self._ask(connection, parts[0])
        else:
            places = asyncio.Semaphore(CONCURRENT_SUBQUERIES)

            async def ask_in_turn(part: query.Subquery) -> dict[str, Array]:
                async with places:
                    return await self._ask(connection, part)

            pending = [asyncio.create_task(ask_in_turn(part)) for part in parts]
            try:
                answer = query.join(await asyncio.gather(*pending))
            except BaseException:  # cancelled from outside, too: leave no task behind
                for task in pending:
                    task.cancel()
                await asyncio.gather(*pending, return_exceptions=True)
                raise
        return answer if self.on_unknown == "mark" else unknown.check(answer, self._lookups)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _connect(self) -> tuple[AsyncConnection, signature.Signature]:
        """The connection and the model's signature; asks the server for it the first time."""
        if self._connection is None:
            self._connection, self._process = AsyncConnection(self.url, self.protocol, self.timeout_s), os.getpid()
        if self._process != os.getpid():
            raise InputError(
                "this AsyncClient was used before the process was forked: its connection belongs to the other process's event loop",
                hint="make an AsyncClient in each process, after the fork",
            )
        if self._signature is None:
            model = signature.read(await self._call(self._connection.config(self.model), self.model))
            if UNKNOWN_IDS in model.outputs:
                steps = [await self._call(self._connection.config(step), step) for step in model.steps]
                self._lookups = [lookup for step in steps for lookup in signature.lookups(step)]
            self._signature = model
        return self._connection, self._signature

    async def _ask(self, connection: AsyncConnection, part: query.Subquery) -> dict[str, Array]:
        try:
            return await self._call(connection.infer(self.model, part.tensors), self.model)
        except ServerError as error:
            raise unknown.from_message(str(error), part.first_row, self._lookups) or error from error

    async def _call(self, answer: Awaitable[dict[str, Any]], model: str) -> dict[str, Any]:
        try:
            return await answer
        except Exception as error:  # whatever grpc and aiohttp raise
            raise server_error(error, url=self.url, protocol=self.protocol, model=model, timeout_s=self.timeout_s) from error
