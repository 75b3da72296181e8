"""One HTTP/1.1 connection without blocking: a request out, the end of its answer found, and nothing of it parsed but errors."""

import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import RecsplitError
from recsplit.plan.plan import Tensor

_BUFFER = bytearray(1 << 20)  # what is received is thrown away: all connections share it
_CONNECT_S = 5.0


def request(model: str, tensors: Sequence[Tensor], inputs: Mapping[str, NDArray[Any]]) -> bytes:
    """One request of Triton's HTTP protocol with binary data, whole, from those of `inputs` that the model takes."""
    described, data = [], []
    for tensor in tensors:
        array = inputs[tensor.name]
        shape = array.shape if array.ndim > 1 else (len(array), 1)  # one value a row is served as [batch, 1]
        data.append(np.ascontiguousarray(array).tobytes())
        described.append({"name": tensor.name, "datatype": tensor.dtype, "shape": shape, "parameters": {"binary_data_size": len(data[-1])}})
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    lines = (
        f"POST /v2/models/{model}/infer HTTP/1.1",
        "Host: triton",  # HTTP wants one; the server doesn't look
        f"Inference-Header-Content-Length: {len(head)}",
        f"Content-Length: {len(head) + sum(map(len, data))}",
    )
    return b"".join(["\r\n".join(lines).encode(), b"\r\n\r\n", head, *data])


class Connection:
    """A connection to `url`, host:port, for one request at a time. Raises RecsplitError where nobody listens.

    `problem` is the last answer's error, "" for a good one; `broken`: to be closed, not used again.
    """

    def __init__(self, url: str) -> None:
        host, _, port = url.partition("/")[0].rpartition(":")
        try:
            self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S)
        except OSError as error:
            raise RecsplitError(f"no server answers at {url}", hint="is it running? `recsplit serve DIR` shows its HTTP address") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self.number = self._socket.fileno()
        self.broken = False
        self.problem = ""
        self._out = memoryview(b"")
        self._head = b""
        self._body = b""
        self._left = -1  # bytes of the answer's body still to come; -1: its head is not whole
        self._good = True

    @property
    def sending(self) -> bool:
        """Whether some of the request is still to be sent."""
        return len(self._out) > 0

    def begin(self, request: bytes) -> None:
        """Send as much of a request as the kernel takes."""
        self._out, self._head, self._body, self._left, self.problem = memoryview(request), b"", b"", -1, ""
        self._push()

    def go_on(self) -> bool:
        """Send and receive what can be; True where the answer is whole, or the connection broken."""
        if self.sending:
            self._push()
        try:
            count = self._socket.recv_into(_BUFFER)
        except BlockingIOError:
            return self.broken
        except OSError as error:
            return self._break(str(error.strerror or error))
        if count == 0:
            return self._break("the server closed the connection")
        return self._took(bytes(_BUFFER[:count]) if self._left < 0 or not self._good else None, count)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _push(self) -> None:
        try:
            while self.sending:
                self._out = self._out[self._socket.send(self._out) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._break(str(error.strerror or error))

    def _took(self, data: bytes | None, count: int) -> bool:
        """Count off what was received. `data` is None where only its length matters."""
        if self._left < 0:
            self._head += data or b""
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return False
            self._good = head[9:12] == b"200"
            self._left = _length(head)
            data, count = body, len(body)
        self._left -= count
        if not self._good:
            self._body += data or b""
        if self._left > 0:
            return False
        if not self._good:
            self.problem = _message(self._body)
        return True

    def _break(self, reason: str) -> bool:
        self.broken, self.problem = True, reason
        return True


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]).strip()
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip() or "an answer without a message"
