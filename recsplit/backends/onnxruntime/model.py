"""Triton backend "onnxruntime" in Python: stands in for NVIDIA's on a server that has only the python backend.

Runs in Triton's stub process, one process an instance, so nothing of recsplit is imported here. It serves the
config.pbtxt files that NVIDIA's backend serves, unchanged, and refuses at load what that one refuses (ort_signature.py), so
that a repository which works here works there. Beyond it: a row whose ids are outside their table (output
`unknown_ids`, parameter `recsplit.lookups`) fails the request that sent it, and no other request of the batch; and where a run fails
the requests are tried alone. NVIDIA's backend fails all of them: with RECSPLIT_STAND_IN_RETRY=0 this one does too, so that a test sees
what a bad request would do to its neighbours there.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils  # exists in the stub process only
from ort_lookups import UNKNOWN_IDS, Lookups  # type: ignore[import-not-found]  # beside this file, which is no package
from ort_signature import (  # type: ignore[import-not-found]
    RefusedError,
    complete,
    model_file,
    run_options,
    session_options,
    validate,
)

Arrays = dict[str, np.ndarray[Any, Any]]


class TritonPythonModel:
    """One instance: one onnxruntime session on the CPU (or on the instance's GPU, where onnxruntime has CUDA)."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Fill inputs, outputs and dynamic batching from the model when the config has no inputs or no outputs."""
        config_fields = config.as_dict()
        if not (config_fields.get("input") and config_fields.get("output")):
            session = ort.InferenceSession(model_file(config_fields, Path(pb_utils.get_model_dir())), providers=["CPUExecutionProvider"])
            complete(config_fields, session)
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model, compare it with the config, and read the lookups; every refusal is a TritonModelException."""
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        try:
            providers = _providers(config, args["model_instance_kind"], int(args["model_instance_device_id"]))
            self.session = ort.InferenceSession(model_file(config, folder), session_options(config), providers=providers)
            validate(config, self.session)
            self.run_options = run_options(config)
            self.lookups = Lookups.from_config(config, self.session)
        except ValueError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        self.batched = int(config["max_batch_size"]) > 0
        self.retries = os.environ.get("RECSPLIT_STAND_IN_RETRY") != "0"
        self.outputs = [output["name"] for output in config["output"]]
        if self.lookups is not None and UNKNOWN_IDS not in self.outputs:
            self.outputs.append(UNKNOWN_IDS)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request, in order, from one run of the model, for Triton puts together only what fits together.

        Cancellation is not asked for here: it costs a message to the server and back for each request (50 us, half of
        a run with one row), and the server itself drops a request that is cancelled in the queue.
        """
        feeds: list[Arrays] = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        if self.batched:
            return self._batch(requests, feeds)
        return [self._alone(request, feed) for request, feed in zip(requests, feeds, strict=True)]

    def _alone(self, request: Any, feed: Arrays) -> Any:
        """The response of a request that can't be batched."""
        try:
            return self._response(request, self._run(feed))
        except Exception as error:  # onnxruntime's exceptions share no base class but this one
            return _failure(error)

    def _batch(self, requests: list[Any], feeds: list[Arrays]) -> list[Any]:
        """Responses of requests that run as one batch; if the run fails, each is tried alone, so that only the guilty one fails.

        Where `retries` is false all fail, as with NVIDIA's backend.
        """
        try:
            feed = feeds[0] if len(feeds) == 1 else {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
            sizes = [len(next(iter(feed.values()))) for feed in feeds]
            answers = self._run(feed, sum(sizes))
        except Exception as error:  # onnxruntime's exceptions share no base class but this one
            if len(requests) == 1 or not self.retries:
                return [_failure(error) for _ in requests]
            return [self._batch([request], [feed])[0] for request, feed in zip(requests, feeds, strict=True)]
        unknown = answers[self.outputs.index(UNKNOWN_IDS)] if self.lookups is not None else None
        if unknown is not None and unknown[:, 0].max() < 0:
            unknown = None
        if len(requests) == 1 and unknown is None:
            return [self._response(requests[0], answers)]
        responses, start = [], 0
        for request, size in zip(requests, sizes, strict=True):
            stop = start + size
            refusal = None if unknown is None else self.lookups.refusal(unknown[start:stop])
            if refusal is not None:
                responses.append(_failure(ValueError(refusal)))
            else:
                responses.append(self._response(request, [answer[start:stop] for answer in answers]))
            start = stop
        return responses

    def _run(self, feed: Arrays, rows: int | None = None) -> list[Any]:
        """The outputs for one feed. Raises whatever onnxruntime does, and RuntimeError where an output lost or grew rows."""
        answers: list[Any] = self.session.run(self.outputs, feed, self.run_options)
        for name, answer in zip(self.outputs, answers, strict=True):
            if rows is not None and (answer.ndim == 0 or len(answer) != rows):
                raise RuntimeError(f"output '{name}' has shape {list(answer.shape)} for a batch of {rows} rows")
        return answers

    def _response(self, request: Any, answers: list[Any]) -> Any:
        output_names = request.requested_output_names()
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, answer) for name, answer in zip(self.outputs, answers, strict=True) if name in output_names]
        )


def _providers(config: dict[str, Any], kind: str, device: int) -> list[Any]:
    """Execution providers for an instance of this kind. Raises RefusedError where onnxruntime has none for it."""
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    for accelerator in accelerators.get("cpu_execution_accelerator", []):
        raise RefusedError(f"unknown Execution Accelerator '{accelerator['name']}' is requested")
    if kind != "GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise RefusedError("instance_group asks for KIND_GPU, and this Python's onnxruntime has no CUDA provider: use KIND_CPU")
    for accelerator in accelerators.get("gpu_execution_accelerator", []):
        raise RefusedError(f"the accelerator '{accelerator['name']}' needs NVIDIA's onnxruntime backend; this is recsplit's stand-in")
    return [("CUDAExecutionProvider", {"device_id": device}), "CPUExecutionProvider"]


def _failure(error: Exception) -> Any:
    """The response that says what went wrong; the client's fault where the inputs were."""
    clients = isinstance(error, ValueError) or "INVALID_ARGUMENT" in str(error)
    code = pb_utils.TritonError.INVALID_ARG if clients else pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
