"""Triton's model-repository API over gRPC: what is loaded, and loading. Never over HTTP: there a load holds up other requests."""

from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from recsplit.configs import override
from recsplit.errors import InputError, RecsplitError
from recsplit.serving.control_key import GRPC_HEADER

#: Asking takes milliseconds.
_READ_S = 5.0


class ModelControl:
    """The model-repository API of the Triton at `grpc_url` ("127.0.0.1:8001"), opened by `key` where it is closed; a context manager.

    Every call raises InputError where nobody answers there or the key doesn't open it, RecsplitError where Triton refuses.
    """

    def __init__(self, grpc_url: str, key: str | None) -> None:
        self.grpc_url = grpc_url
        self._metadata = () if key is None else ((GRPC_HEADER, key),)
        self._channel = grpc.insecure_channel(grpc_url, options=[("grpc.max_receive_message_length", -1)])
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def __enter__(self) -> "ModelControl":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def config(self, model: str, version: int | None = None) -> Any:
        """The config of a version, or of the newest that is served, as a ModelConfig."""
        request = service_pb2.ModelConfigRequest(name=model, version="" if version is None else str(version))
        return self.end(self._stub.ModelConfig.future(request, timeout=_READ_S)).config

    def served(self, model: str) -> frozenset[int]:
        """The versions of a model that hold anything yet: ready, loading, or unloading for as long as a request is in flight."""
        return frozenset(
            int(entry.version)
            for entry in self._index()
            if entry.name == model and entry.version and entry.state not in ("", "UNAVAILABLE")
        )

    def _index(self) -> Any:
        request = service_pb2.RepositoryIndexRequest()
        return self.end(self._stub.RepositoryIndex.future(request, timeout=_READ_S, metadata=self._metadata)).models

    def ready(self) -> set[tuple[str, int]]:
        """The models, and versions of them, that are ready."""
        return {(entry.name, int(entry.version)) for entry in self._index() if entry.version and entry.state == "READY"}

    def beyond(self, model: str, version: int) -> override.Served:
        """What the server was told of a model beyond its rendered config; instances are those of `version`."""
        return override.served(self.config(model, version), [number for name, number in self.ready() if name == model])

    def load(self, model: str, config: str, timeout_s: float) -> Any:
        """Begin to load a model with a config in JSON; `end` waits for it."""
        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        request.parameters["config"].string_param = config
        return self._stub.RepositoryModelLoad.future(request, timeout=timeout_s, metadata=self._metadata)

    def unload(self, model: str, timeout_s: float) -> None:
        """Unload every version of a model, each when its last request is answered."""
        request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
        self.end(self._stub.RepositoryModelUnload.future(request, timeout=timeout_s, metadata=self._metadata))

    def end(self, call: Any) -> Any:
        """Wait for a call's answer."""
        try:
            return call.result()
        except grpc.RpcError as error:
            raise self._failure(error) from error

    def _failure(self, error: Any) -> RecsplitError:
        text = " ".join((error.details() or str(error.code())).split())[:500]
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            if "restricted" in text:
                return InputError(
                    f"model control of {self.grpc_url} is closed to this key, or without one",
                    hint="give the key of that server: --control-key FILE",
                )
            return InputError(
                f"no Triton answers at {self.grpc_url}: {text}",
                hint="recsplit serve DIR shows the gRPC address of the server that it starts",
            )
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return RecsplitError(f"{self.grpc_url} did not answer in time", hint="the server may be very busy: try again")
        return RecsplitError(f"{self.grpc_url} refused: {text}", hint="the server's log says more")
