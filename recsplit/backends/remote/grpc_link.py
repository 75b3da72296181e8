"""A gRPC channel to one Triton, for one model: numpy arrays out, numpy arrays back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from replicas import RefusedError  # type: ignore[import-not-found]  # beside this file, which is no package
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

Arrays = Mapping[str, np.ndarray[Any, Any]]
#: A server that comes back is found within the second; one that went without a word (no FIN, no RST) after three.
CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # No two links share a connection, and none is left from a replica that had this address before.
    ("grpc.use_local_subchannel_pool", 1),
]


class GrpcLink:
    """The channel of one replica; it connects by itself, and again when the connection is lost."""

    def __init__(self, address: str, model: str, version: int) -> None:
        self.model = model
        #: Named in each call: a server that was started again with another build refuses, and no answer is made of two builds.
        self.version = str(version)
        self.client = InferenceServerClient(address, channel_args=CHANNEL)

    async def infer(self, inputs: Sequence[InferInput], outputs: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
        """The model's outputs. Raises RefusedError where the server finds the request at fault, else what gRPC or Triton raise."""
        requested_outputs = [InferRequestedOutput(name) for name in outputs]
        try:
            answer = await self.client.infer(self.model, list(inputs), model_version=self.version, outputs=requested_outputs)
        except InferenceServerException as error:
            if "INVALID_ARGUMENT" in str(error.status()) and "unknown model" not in str(error.message()):
                raise RefusedError(str(error.message())) from None
            raise
        arrays = {name: answer.as_numpy(name) for name in outputs}
        missing = [name for name, array in arrays.items() if array is None]
        if missing:
            raise RuntimeError(f"the answer lacks {', '.join(missing)}")
        return arrays

    async def ready(self) -> None:
        """Raises RuntimeError where that version of the model is not loaded, and whatever gRPC says where nobody answers."""
        if not await self.client.is_model_ready(self.model, self.version):
            raise RuntimeError(f"model '{self.model}' version {self.version} is not ready")

    async def close(self) -> None:
        """End the channel."""
        await self.client.close()


def tensors(arrays: Arrays) -> list[InferInput]:
    """Arrays as gRPC inputs: the bytes are copied, so that the arrays may be freed."""
    infer_inputs = []
    for name, array in arrays.items():
        item = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        item.set_data_from_numpy(np.ascontiguousarray(array))
        infer_inputs.append(item)
    return infer_inputs
