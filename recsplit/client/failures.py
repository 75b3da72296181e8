"""What goes wrong between a client and the server, as one error with a hint for each kind."""

import asyncio
from typing import Literal

from tritonclient.utils import InferenceServerException

from recsplit.client.answer import TURNS
from recsplit.errors import RecsplitError

Kind = Literal["unreachable", "timeout", "unavailable", "invalid", "unknown model", "internal"]


class ServerError(RecsplitError):
    """A request failed on its way or on the server; the message is the server's. `kind` tells what a caller may do about it.

    "unreachable": nobody answers there; "timeout": no answer in time; "unavailable": the model isn't ready, or its queue
    is full; "invalid": the server refused the request; "unknown model"; "internal": the model failed.
    """

    def __init__(self, message: str, kind: Kind, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.kind: Kind = kind


def server_error(error: Exception, *, url: str, protocol: str, model: str, timeout_s: float) -> ServerError:
    """The error to raise for what tritonclient raised."""
    message = error.message() if isinstance(error, InferenceServerException) else str(error)
    text = (message or type(error).__name__).strip()
    kind = _kind(error, text)
    hints: dict[Kind, str] = {
        "unreachable": f"is the server up, and is {url} its {protocol} address? `recsplit serve` shows its addresses",
        "timeout": f"the limit was timeout_s={timeout_s:g}; raise it, or send fewer requests at once",
        "unavailable": "wait until the model is loaded, send fewer requests at once, or serve more instances",
        "invalid": "the message is the server's; only this request failed",
        "unknown model": "`recsplit serve` shows the models that it loaded",
        "internal": "the server's log may say more",
    }
    if kind == "timeout":
        text = f"no answer from {url} within {timeout_s:g} s"
    elif kind == "unreachable":
        text = f"can't reach {url}: {text.splitlines()[0]}"
    return ServerError(f"model {model!r}: {text}", kind, hints[kind])


def two_builds(model: str) -> ServerError:
    """The error for a query that was answered by two builds however often it was asked."""
    return ServerError(
        f"model {model!r}: parts of the query were answered by different versions, {TURNS} times",
        "unavailable",
        "servers of two builds stand behind this address: ask one of them, or wait until all serve the same",
    )


def _kind(error: Exception, text: str) -> Kind:
    """Which kind it is: by the status where there is one, by exception type where the connection itself failed."""
    if "unknown model" in text:  # 400, 404 or NOT_FOUND, by protocol and version of the server
        return "unknown model"
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return "timeout"
    if not isinstance(error, InferenceServerException):
        return "unreachable"  # an error of the connection: gevent's, aiohttp's or the operating system's
    code = str(error.status()).removeprefix("StatusCode.")
    # A front of a fleet tells of its shards' channels, a router of its servers', and was reached.
    is_answer = "no replica" in text or "no server can answer" in text
    of_channel = any(word in text.lower() for word in ("connect", "socket", "transport", "resolv")) and not is_answer
    if code == "UNAVAILABLE" and of_channel:
        return "unreachable"  # the channel's own failures share the code with Triton's refusals, and differ in words only
    return _KINDS.get(code, "internal")


_KINDS: dict[str, Kind] = {
    "DEADLINE_EXCEEDED": "timeout",
    "UNAVAILABLE": "unavailable",
    "503": "unavailable",
    "INVALID_ARGUMENT": "invalid",
    "400": "invalid",
}
