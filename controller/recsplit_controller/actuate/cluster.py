"""Talking to Kubernetes: one namespace, a time limit on every question, and errors in words.

kr8s answers to asyncio only from the loop that made it, so it gets a loop and a thread of its own here; the controller's thread asks and
waits, or starts something and goes on. Credentials are a kubeconfig, which is kr8s's matter, or the pod's ServiceAccount
(service_account.py), whose token is read again when it is refused. No error holds a header's value.
"""

import asyncio
import contextlib
import threading
import warnings
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from recsplit.errors import InputError, MissingExtra, RecsplitError
from recsplit_controller.actuate import service_account

if TYPE_CHECKING:
    from kr8s.asyncio import Api

Result = TypeVar("Result")
#: What the API server answers, as JSON.
Answer = Mapping[str, Any]

_PATCH = "application/merge-patch+json"
#: Who owns the fields that are set here, for server-side apply and for people who look.
FIELD_MANAGER = "recsplit-controller"


class ClusterError(RecsplitError):
    """The API server refused, failed or didn't answer. `status`: of HTTP, None where there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(
            message, hint="look at the controller's ServiceAccount and Role, and at the API server" if status in (401, 403) else ""
        )
        self.status = status


class Cluster:
    """One namespace of a cluster. `namespace` None: the credentials' own. `url` and `kubeconfig` None: as kubectl finds them, or a pod in
    `account`, the folder of its ServiceAccount.

    Raises MissingExtra where kr8s isn't installed. Nothing is asked before the first question.
    """

    def __init__(
        self,
        namespace: str | None = None,
        *,
        url: str | None = None,
        kubeconfig: Path | None = None,
        account: Path = service_account.FOLDER,
        timeout_s: float = 2.0,
    ) -> None:
        try:
            import kr8s.asyncio  # noqa: F401  (found missing here, not in the loop)
        except ImportError as error:
            raise MissingExtra("kr8s", "kubernetes", "talking to a cluster") from error
        # Newer servers than kr8s knows (0.20.15: than 1.35) are asked as any other; what is asked here is the same since 1.23.
        warnings.filterwarnings("ignore", message="Kubernetes version .* is not supported", category=UserWarning)
        self.timeout_s = timeout_s
        self._namespace, self._url, self._kubeconfig, self._account = namespace, url, kubeconfig, account
        self._api: Api | None = None
        self._loop = asyncio.new_event_loop()
        self._turn = asyncio.Lock()  # one question at a time: where a token has run out, kr8s would lose the connections of others
        self._running = set[asyncio.Task[None]]()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kubernetes", daemon=True)
        self._thread.start()

    async def ask(
        self, method: Literal["GET", "POST", "PATCH"], version: str, path: str, body: Mapping[str, object] | None = None
    ) -> Answer:
        """Ask for `path` in the namespace ("deployments/x/scale" of version "apps/v1"); a PATCH is a merge patch.

        To be awaited in `run` or `start`. Raises ClusterError.
        """
        async with self._turn:
            try:
                return await asyncio.wait_for(self._ask_with_new_token(method, version, path, body), self.timeout_s)
            except asyncio.TimeoutError as error:
                raise ClusterError(f"the API server hasn't answered within {self.timeout_s:g} s ({method} {path})") from error

    async def _ask_with_new_token(self, method: str, version: str, path: str, body: Mapping[str, object] | None) -> Answer:
        try:
            return await self._ask(method, version, path, body)
        except ClusterError as error:
            if error.status != 401 or self._api is None:
                raise
            await self._disconnect()  # a ServiceAccount's token is one of an hour; the kubelet has written another
            return await self._ask(method, version, path, body)

    async def _ask(self, method: str, version: str, path: str, body: Mapping[str, object] | None) -> Answer:
        import httpx
        import kr8s

        content: dict[str, Any] = {} if body is None else {"json": body}
        if method == "PATCH":
            content |= {"headers": {"Content-Type": _PATCH}, "params": {"fieldManager": FIELD_MANAGER}}
        try:
            api = await self._connected()
            async with api.call_api(method, version=version, namespace=api.namespace, url=path, **content) as response:
                answer = response.json()
        except kr8s.ServerError as error:
            status = None if error.response is None else error.response.status_code
            raise ClusterError(f"the API server refused {method} {path}: {error}", status) from error
        except httpx.LocalProtocolError:
            raise ClusterError(
                f"the API server can't be asked ({method} {path}): a header is none; has the token a line break in it?"
            ) from None  # the error has the token in its text
        except InputError as error:
            raise ClusterError(f"{error}; {error.hint}") from error
        except (kr8s.APITimeoutError, httpx.HTTPError, OSError, RuntimeError, ValueError, LookupError) as error:
            raise ClusterError(f"the API server is not to be had ({method} {path}): {error or type(error).__name__}") from error
        if not isinstance(answer, dict):
            raise ClusterError(f"the API server answered {method} {path} with something else than an object")
        return answer

    async def _connected(self) -> "Api":
        import kr8s.asyncio

        if self._api is None:
            kubeconfig: Any = None if self._kubeconfig is None else str(self._kubeconfig)
            if kubeconfig is None and not service_account.has_kubeconfig():
                kubeconfig = service_account.kubeconfig(self._account, self._url)
            self._api = await kr8s.asyncio.api(url=self._url, kubeconfig=kubeconfig, namespace=self._namespace)
            self._api.timeout = self.timeout_s
        return self._api

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """What `coroutine` returns or raises; waits for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start `coroutine` and don't wait."""

        def begin() -> None:
            task = self._loop.create_task(coroutine)
            self._running.add(task)  # asyncio itself keeps tasks by weak references
            task.add_done_callback(self._running.discard)

        self._loop.call_soon_threadsafe(begin)

    def close(self) -> None:
        """Drop what is under way, and let go of connections and the thread."""
        if not self._loop.is_closed():
            with contextlib.suppress(Exception):
                self.run(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._disconnect()

    async def _disconnect(self) -> None:
        api, self._api = self._api, None
        if api is not None and api._session is not None:  # kr8s has no way of its own to close it
            await api._session.aclose()
