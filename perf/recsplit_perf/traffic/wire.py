"""One client of one server, for measuring: requests as bytes, latencies, and what the server itself says each execution took."""

import threading
import time
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferResult, service_pb2

from recsplit.errors import RecsplitError
from recsplit.serving import notes
from recsplit.serving.control_key import GRPC_HEADER

_SERVICE = "/inference.GRPCInferenceService/"
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
#: The server writes its statistics down just after it has answered.
_SETTLED_S = 5.0
_QUIET_S = 0.005
#: So many samples of one curve may count other requests too, and are taken again.
_STRANGE = 5


class Wire:
    """A blocking connection; a context manager. Every method raises RecsplitError with the server's words where it refuses."""

    def __init__(self, url: str, timeout_s: float = 60.0) -> None:
        self._channel = grpc.insecure_channel(url, options=_OPTIONS)
        self._infer = self._channel.unary_unary(_SERVICE + "ModelInfer")
        self._statistics = self._channel.unary_unary(_SERVICE + "ModelStatistics")
        self._control = InferenceServerClient(url)
        key = notes.key_of(url)
        self._opening = None if key is None else {GRPC_HEADER: key}
        self._timeout_s = timeout_s
        self._pause = threading.Event()  # never set: waits

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._control.close()
        self._channel.close()

    def ask(self, request: bytes) -> bytes:
        """Send a serialised ModelInferRequest; the serialised answer."""
        return self._call(self._infer, request)

    def arrays(self, request: bytes) -> dict[str, NDArray[Any]]:
        """Send a request; the answer's tensors by name."""
        result = InferResult(service_pb2.ModelInferResponse.FromString(self.ask(request)))
        return {output.name: np.asarray(result.as_numpy(output.name)) for output in result.get_response().outputs}

    def latency_ms(self, request: bytes) -> float:
        """Send a request; how long the answer took."""
        start = time.perf_counter()
        self.ask(request)
        return 1e3 * (time.perf_counter() - start)

    def executions(self, model: str) -> tuple[int, int]:
        """How many batches an instance of `model` has run so far, and for how many ns that kept it busy: input, inference and output."""
        request = service_pb2.ModelStatisticsRequest(name=model).SerializeToString()
        response = service_pb2.ModelStatisticsResponse.FromString(self._call(self._statistics, request))
        batches = [batch for stats in response.model_stats for batch in stats.batch_stats]
        busy_ns = sum(batch.compute_input.ns + batch.compute_infer.ns + batch.compute_output.ns for batch in batches)
        return sum(batch.compute_infer.count for batch in batches), busy_ns

    def timed(self, model: str, requests: list[bytes], count: int) -> tuple[list[float], list[float]]:
        """Send `count` requests, one after the other and round robin: what each kept the instance busy, and its latency here, in ms.

        Raises RecsplitError where somebody else is asking the model too.
        """
        busy_ms: list[float] = []
        latency_ms: list[float] = []
        before, strange = self._at_rest(model), 0
        while len(busy_ms) < count:
            seen_ms = self.latency_ms(requests[len(busy_ms) % len(requests)])
            after = self.executions(model)
            deadline = time.monotonic() + _SETTLED_S
            while after[0] == before[0] and time.monotonic() < deadline:
                after = self.executions(model)
            if after[0] == before[0] + 1:
                busy_ms.append((after[1] - before[1]) / 1e6)
                latency_ms.append(seen_ms)
                before = after
                continue
            strange += 1  # on a busy machine an earlier request may be written down as late as this
            if strange > _STRANGE:
                raise RecsplitError(
                    f"{model!r} ran {after[0] - before[0]} batches for one request", hint="does another client ask the server?"
                )
            before = self._at_rest(model)
        return busy_ms, latency_ms

    def _at_rest(self, model: str) -> tuple[int, int]:
        """What `executions` says once it stays the same: earlier requests are all written down."""
        last = self.executions(model)
        deadline = time.monotonic() + _SETTLED_S
        while not self._pause.wait(_QUIET_S) and (now := self.executions(model)) != last and time.monotonic() < deadline:
            last = now
        return last

    def load_s(self, model: str) -> float:
        """Load a model; how long that took."""
        start = time.perf_counter()
        self._control.load_model(model, headers=self._opening, client_timeout=self._timeout_s)
        return time.perf_counter() - start

    def unload(self, model: str) -> None:
        """Unload a model and wait until it is gone."""
        self._control.unload_model(model, headers=self._opening, client_timeout=self._timeout_s)
        deadline = time.monotonic() + self._timeout_s
        while self._state(model) not in ("UNAVAILABLE", "") and time.monotonic() < deadline:
            self._control.is_server_live(client_timeout=self._timeout_s)

    def _state(self, model: str) -> str:
        index = self._control.get_model_repository_index(headers=self._opening, client_timeout=self._timeout_s)
        return next((entry.state for entry in index.models if entry.name == model), "")

    def _call(self, method: Any, request: bytes) -> bytes:
        try:
            answer: bytes = method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise _refused(error) from error
        return answer


def _refused(error: Any) -> RecsplitError:
    return RecsplitError(f"the server refused a request: {error.details().strip()}", hint="does it still run?")
