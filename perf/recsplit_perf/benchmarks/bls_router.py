"""A router as a model of Triton's Python backend: what recsplit's own is measured against. It runs in Triton, not here."""

import asyncio
from typing import Any

import triton_python_backend_utils as pb_utils

PREFIX = "bls_"


class TritonPythonModel:
    """Passes every request on to the model that it is named after."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Triton's."""
        self._target = arguments["model_name"].removeprefix(PREFIX)

    async def execute(self, requests: list[Any]) -> list[Any]:
        """Triton's: all at once, so that they can be one batch of the target's."""
        return list(await asyncio.gather(*(self._passed(request) for request in requests)))

    async def _passed(self, request: Any) -> Any:
        names = list(request.requested_output_names())
        onward = pb_utils.InferenceRequest(model_name=self._target, requested_output_names=names, inputs=request.inputs())
        answer = await onward.async_exec()
        if answer.has_error():
            return pb_utils.InferenceResponse(error=answer.error())
        return pb_utils.InferenceResponse(output_tensors=answer.output_tensors())
