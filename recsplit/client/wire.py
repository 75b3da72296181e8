"""tritonclient, so that all its four clients look alike: ask for a config, send tensors, get arrays.

The modules of tritonclient are imported by name, because each brings a stack of its own (grpc, gevent, aiohttp) and a
client needs one of them.
"""

import asyncio
import importlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from tritonclient.utils import np_to_triton_dtype

from recsplit.client.answer import Answer, Array
from recsplit.credentials import Credentials, check_without_user
from recsplit.errors import InputError

Protocol = Literal["grpc", "http"]

#: How many sub-queries of one query are on their way at once.
CONCURRENT_SUBQUERIES = 8

# Connections of a channel's own; and tritonclient's own limit of messages, which it leaves out where arguments are given.
_APART = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
]


@dataclass(frozen=True)
class Server:
    """Where a server is and how it wants to be asked. `address`: host:port, for HTTP a path may follow; `tls`: it is asked over TLS."""

    address: str
    protocol: Protocol
    tls: bool
    credentials: Credentials

    @property
    def url(self) -> str:
        """The address that gives this server again, whatever asked for TLS."""
        return f"{self.protocol}{'s' if self.tls else ''}://{self.address}"

    def headers(self) -> dict[str, str] | None:
        """Of one request: files are read anew, so that a token may be replaced. gRPC wants names in small letters, and HTTP takes them."""
        return {name.lower(): value for name, value in self.credentials.read().items()} or None

    def grpc_tls(self) -> dict[str, Any]:
        """tritonclient's arguments. Raises InputError where TLS is to go without a check, which gRPC doesn't do."""
        if not self.tls:
            return {}
        if not self.credentials.verify:
            raise InputError("gRPC checks the server's certificate", hint="give its ca_file in place of insecure_skip_verify")
        paths = {"root_certificates": "ca", "private_key": "key", "certificate_chain": "certificate"}
        files = {argument: getattr(self.credentials, name) for argument, name in paths.items()}
        return {"ssl": True, **{argument: None if path is None else str(path) for argument, path in files.items()}}


def server(url: str, protocol: Protocol, credentials: Credentials | None) -> Server:
    """The server at an address; https:// and grpcs://, and certificates in the credentials, ask for TLS. Raises InputError for another
    protocol or form, or a user in it."""
    check_without_user(url if "://" in url else f"//{url}", "the client", "credentials=read_credentials(FILE)")
    scheme = url.partition("://")[0] if "://" in url else ""
    tls = scheme in ("https", "grpcs") or (credentials is not None and credentials.ca is not None)
    return Server(address(url, protocol), protocol, tls, credentials or Credentials())


def address(url: str, protocol: str) -> str:
    """host:port, as tritonclient wants it; for HTTP a path may follow. Raises InputError for another protocol or form."""
    if protocol not in ("grpc", "http"):
        raise InputError(f"the protocol is {protocol!r}", hint='choose "grpc" or "http"')
    scheme, _, rest = url.rpartition("://")
    rest = rest.rstrip("/")
    host, _, port = (rest.partition("/")[0] if protocol == "http" else rest).rpartition(":")
    if scheme not in ("", protocol, f"{protocol}s") or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        hint = "give host:port, as `recsplit serve` shows it; https:// or grpcs:// before it for TLS"
        raise InputError(f"{url!r} is not an address for {protocol}", hint=hint)
    return rest


class GrpcConnection:
    """A blocking gRPC connection, for any number of threads.

    `forked`: in a process that was forked from one which had connections. gRPC would use those again, for it keeps them by address.
    """

    def __init__(self, server: Server, timeout_s: float, *, forked: bool = False) -> None:
        self._tritonclient = importlib.import_module("tritonclient.grpc")
        self._client = self._tritonclient.InferenceServerClient(
            server.address, channel_args=_APART if forked else None, **server.grpc_tls()
        )
        self._server, self._timeout_s = server, timeout_s

    def config(self, model: str) -> dict[str, Any]:
        """The model's config."""
        answer = self._client.get_model_config(model, headers=self._server.headers(), as_json=True, client_timeout=self._timeout_s)
        config: dict[str, Any] = answer["config"]
        return config

    def infer(self, model: str, tensors: Mapping[str, Array]) -> Answer:
        """Send one request, wait for the answer."""
        inputs, headers = _inputs(self._tritonclient, tensors), self._server.headers()
        return _answer(self._client.infer(model, inputs, headers=headers, client_timeout=self._timeout_s))

    def close(self) -> None:
        """Close the channel."""
        self._client.close()


class HttpConnection:
    """Blocking HTTP connections: one a thread, because tritonclient's belong to the thread that made them.

    `forked`: in a process that was forked from one which had connections; gevent's loop, which tritonclient waits in, begins anew there.
    """

    def __init__(self, server: Server, timeout_s: float, *, forked: bool = False) -> None:
        self._tritonclient = importlib.import_module("tritonclient.http")
        if forked:
            importlib.import_module("gevent").reinit()
        self._server, self._timeout_s = server, timeout_s
        self._local = threading.local()

    def config(self, model: str) -> dict[str, Any]:
        """The model's config."""
        config: dict[str, Any] = self._here().get_model_config(model, headers=self._server.headers())
        return config

    def infer(self, model: str, tensors: Mapping[str, Array]) -> Answer:
        """Send one request, wait for the answer."""
        return _answer(self._here().infer(model, _inputs(self._tritonclient, tensors), headers=self._server.headers()))

    def close(self) -> None:
        """Close this thread's connection; those of other threads close with the threads."""
        self._here().close()
        self._local = threading.local()

    def _here(self) -> Any:
        if not hasattr(self._local, "client"):
            tls = {"ssl": True, "ssl_context_factory": self._server.credentials.tls} if self._server.tls else {}
            self._local.client = self._tritonclient.InferenceServerClient(
                self._server.address, connection_timeout=self._timeout_s, network_timeout=self._timeout_s, **tls
            )
        return self._local.client


class AsyncConnection:
    """A gRPC or HTTP connection of the running event loop."""

    def __init__(self, server: Server, protocol: Protocol, timeout_s: float) -> None:
        self._tritonclient = importlib.import_module(f"tritonclient.{protocol}.aio")
        if protocol == "grpc":
            tls = server.grpc_tls()
        else:
            tls = {"ssl": True, "ssl_context": server.credentials.tls()} if server.tls else {}
        self._client = self._tritonclient.InferenceServerClient(server.address, **tls)
        self._server = server
        self._as_json = {"as_json": True} if protocol == "grpc" else {}
        self._timeout_s = timeout_s

    async def config(self, model: str) -> dict[str, Any]:
        """The model's config."""
        config: dict[str, Any] = await asyncio.wait_for(
            self._client.get_model_config(model, headers=self._server.headers(), **self._as_json), self._timeout_s
        )
        return config["config"] if self._as_json else config

    async def infer(self, model: str, tensors: Mapping[str, Array]) -> Answer:
        """Send one request, wait for the answer."""
        inputs, headers = _inputs(self._tritonclient, tensors), self._server.headers()
        return _answer(await asyncio.wait_for(self._client.infer(model, inputs, headers=headers), self._timeout_s))

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()


def _inputs(tritonclient: Any, tensors: Mapping[str, Array]) -> list[Any]:
    inputs = []
    for name, array in tensors.items():
        tensor = tritonclient.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(np.ascontiguousarray(array))
        inputs.append(tensor)
    return inputs


def _answer(result: Any) -> Answer:
    """The arrays are read-only views of the message."""
    response = result.get_response()
    if isinstance(response, dict):
        names, version = [output["name"] for output in response["outputs"]], str(response.get("model_version", ""))
    else:
        names, version = [output.name for output in response.outputs], response.model_version
    return Answer({name: result.as_numpy(name) for name in names}, int(version) if version.isdecimal() else 0)
