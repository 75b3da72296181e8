"""A server in the place of a shard's Triton, in this process: it answers as that does, or in a way that none should.

The wire's form is Triton's HTTP with binary tensors, as 2.51 has it: a JSON of `Inference-Header-Content-Length` bytes, then the tensors
one after the other.
"""

import contextlib
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ShardServer:
    """Answers bags of `rows`. `behave`: what is sent to a question that has rows, where head and body of a right answer would be;
    None: nothing more comes.
    """

    def __init__(self, rows: NDArray[np.float32], behave: Callable[[bytes, bytes], Iterable[bytes | None]]) -> None:
        self.rows, self.behave, self.asked = rows, behave, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "ShardServer":
        return self

    def __exit__(self, *_: object) -> None:
        end(self._listener)
        self.end_connections()

    def end_connections(self) -> None:
        """As a server does with those that nothing came over for long."""
        for each in self._open:
            end(each)
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as file:
                while (question := _question(file)) is not None:
                    head, body = self._answer(*question)
                    has_rows = any(tensor.size for name, tensor in question[1].items() if name.startswith("rows_"))
                    self.asked += has_rows
                    for piece in self.behave(head, body) if has_rows else [head + body]:
                        if piece is None:
                            threading.Event().wait(5)
                            return
                        connection.sendall(piece)
        except OSError:
            return

    def _answer(self, names: list[str], inputs: dict[str, NDArray[np.int32]]) -> tuple[bytes, bytes]:
        outputs, data = [], b""
        for name in names:
            rows, offsets = inputs[name.replace("pooled", "rows")], inputs[name.replace("pooled", "offsets")]
            bags = [self.rows[rows[first:last]].sum(axis=0) for first, last in itertools.pairwise(offsets)]
            pooled = np.array(bags, np.float32).reshape(len(bags), self.rows.shape[1])
            parameters = {"binary_data_size": pooled.nbytes}
            outputs.append({"name": name, "datatype": "FP32", "shape": list(pooled.shape), "parameters": parameters})
            data += pooled.tobytes()
        text = json.dumps({"model_name": "shard", "model_version": "1", "outputs": outputs}).encode()
        return head(len(text) + len(data), len(text)), text + data


def head(size: int, header: int | None, status: str = "200 OK", more: str = "") -> bytes:
    """Of an answer of `size` bytes, of which the first `header` are JSON."""
    length = "" if header is None else f"Inference-Header-Content-Length: {header}\r\n"
    return f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\n{length}{more}Content-Length: {size}\r\n\r\n".encode()


def end(each: socket.socket) -> None:
    """Wake whoever waits for it, too."""
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


def _question(file: Any) -> tuple[list[str], dict[str, NDArray[np.int32]]] | None:
    """Names of the outputs that are asked for, and the inputs; None at the end of the connection."""
    fields: dict[str, str] = {}
    while (line := file.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        fields[name.lower()] = value.strip()
    if not fields:
        return None
    size, length = int(fields["inference-header-content-length"]), int(fields["content-length"])
    body = file.read(length)
    said, at, inputs = json.loads(body[:size]), size, {}
    for item in said["inputs"]:
        nbytes = item["parameters"]["binary_data_size"]
        inputs[item["name"]] = np.frombuffer(body[at : at + nbytes], np.int32)
        assert item["shape"] == [len(inputs[item["name"]])]
        at += nbytes
    assert at == length
    return [item["name"] for item in said["outputs"]], inputs
