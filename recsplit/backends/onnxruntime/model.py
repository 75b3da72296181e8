"""Triton backend "onnxruntime" in Python: stands in for NVIDIA's on a server that has only the python backend.

Runs in Triton's stub process, one process an instance, so nothing of recsplit is imported here. It serves the
config.pbtxt files that NVIDIA's backend serves, unchanged, and refuses at load what that one refuses (ort_signature.py), so
that a repository which works here works there. Beyond it: a row whose ids are outside their table (output
`unknown_ids`, parameter `recsplit.lookups`) fails the request that sent it, and no other request of the batch.
"""

import json
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
        given = config.as_dict()
        if not (given.get("input") and given.get("output")):
            session = ort.InferenceSession(model_file(given, Path(pb_utils.get_model_dir())), providers=["CPUExecutionProvider"])
            complete(given, session)
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
        except RefusedError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        self.batched = int(config["max_batch_size"]) > 0
        self.outputs = [output["name"] for output in config["output"]]
        if self.lookups is not None and UNKNOWN_IDS not in self.outputs:
            self.outputs.append(UNKNOWN_IDS)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response a request, in order. Requests whose shapes agree after the batch dimension run as one batch.

        Cancellation is not asked for here: it costs a message to the server and back for each request, and the
        server drops a cancelled request while it is still in the queue.
        """
        feeds: list[Arrays] = [{tensor.name(): tensor.as_numpy() for tensor in request.inputs()} for request in requests]
        if len(feeds) == 1 and self.batched:
            return self._batch(requests, feeds)
        groups: dict[Any, list[int]] = {}
        for n, feed in enumerate(feeds):
            key = frozenset((name, array.shape[1:]) for name, array in feed.items()) if self.batched else n
            groups.setdefault(key, []).append(n)
        responses: list[Any] = [None] * len(requests)
        for members in groups.values():
            for n, response in zip(members, self._batch([requests[n] for n in members], [feeds[n] for n in members]), strict=True):
                responses[n] = response
        return responses

    def _batch(self, requests: list[Any], feeds: list[Arrays]) -> list[Any]:
        """Responses of requests that fit together; if the run fails, each is tried alone, so that only the guilty fails."""
        try:
            if len(feeds) == 1:
                feed = feeds[0]
            else:
                feed = {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}
            answers = self.session.run(self.outputs, feed, self.run_options)
        except Exception as error:  # onnxruntime's exceptions share no base class but this one
            if len(feeds) > 1:
                return [self._batch([request], [feed])[0] for request, feed in zip(requests, feeds, strict=True)]
            return [_failure(str(error), "INVALID_ARG" if "INVALID_ARGUMENT" in str(error) else "INTERNAL")]
        if not self.batched:
            return [self._response(requests[0], answers)]
        sizes = [len(next(iter(feed.values()))) for feed in feeds]
        rows = sum(sizes)
        for name, answer in zip(self.outputs, answers, strict=True):
            if answer.ndim == 0 or len(answer) != rows:
                message = f"output '{name}' has shape {list(answer.shape)} for a batch of {rows} rows"
                return [_failure(message, "INTERNAL") for _ in requests]
        unknown = answers[self.outputs.index(UNKNOWN_IDS)] if self.lookups is not None else None
        if unknown is not None and (unknown[:, 0] < 0).all():
            unknown = None
        if len(requests) == 1 and unknown is None:
            return [self._response(requests[0], answers)]
        responses, start = [], 0
        for request, size in zip(requests, sizes, strict=True):
            stop = start + size
            refusal = None if unknown is None else self.lookups.explain(unknown[start:stop])
            if refusal is not None:
                responses.append(_failure(refusal, "INVALID_ARG"))
            else:
                responses.append(self._response(request, [answer[start:stop] for answer in answers]))
            start = stop
        return responses

    def _response(self, request: Any, answers: list[Any]) -> Any:
        wanted = request.requested_output_names()
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, answer) for name, answer in zip(self.outputs, answers, strict=True) if name in wanted]
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


def _failure(message: str, code: str) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, getattr(pb_utils.TritonError, code)))
