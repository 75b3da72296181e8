"""What the config says against what the model is: the same settings and refusals as NVIDIA's onnxruntime backend.

Names, order and texts follow its onnxruntime.cc (ModelState, ValidateInputs, ValidateOutputs) and
onnxruntime_utils.cc (CompareDimsSupported).
"""

import json
import re
from pathlib import Path
from typing import Any

import onnxruntime as ort

DTYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
}


#: A parameter of a fused model: a JSON list of the models that it is made of.
PARTS = "recsplit.parts"


class RefusedError(ValueError):
    """The model can't be loaded with this config; the text says why."""


def model_file(config: dict[str, Any], folder: Path) -> str:
    """Path of the model in its version folder: default_model_filename, or model.onnx inside a folder of that name."""
    path = folder / (config.get("default_model_filename") or "model.onnx")
    parts = config.get("parameters", {}).get(PARTS)
    if parts is not None:  # a fused model of recsplit's: the whole in one ONNX model, beside the first part's
        path = folder.parent.parent / json.loads(parts["string_value"])[0] / folder.name / "whole.onnx"
    if path.is_dir():
        path /= "model.onnx"
    if not path.is_file():
        raise RefusedError(f"unable to find '{path}' for model '{config['name']}'")
    return str(path)


def session_options(config: dict[str, Any]) -> ort.SessionOptions:
    """onnxruntime's options from `optimization` and `parameters`; keys that NVIDIA's backend ignores are ignored."""
    options = ort.SessionOptions()
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = {
        -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    mode = _integer(config, "execution_mode")
    if mode not in (0, 1):
        raise RefusedError(f"Invalid configuration value provided. Expected values for execution_mode are 0 or 1 but got {mode}.")
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = max(_integer(config, "intra_op_thread_count"), 0)
    options.inter_op_num_threads = max(_integer(config, "inter_op_thread_count"), 0)
    # Beside this session run those of the other steps, on the same cores: threads that spin while they wait for work take
    # them from it. An ensemble of two steps with 2 threads each on 2 cores answered twice as fast without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = _boolean(config, "enable_mem_arena")
    options.enable_mem_pattern = _boolean(config, "enable_mem_pattern")
    key = "session.use_device_allocator_for_initializers"
    if _parameter(config, key) is not None:
        options.add_session_config_entry(key, _parameter(config, key))
    return options


def run_options(config: dict[str, Any]) -> ort.RunOptions:
    """Options of every run: arena shrinkage where the config asks for it."""
    options = ort.RunOptions()
    key = "memory.enable_memory_arena_shrinkage"
    if _parameter(config, key) is not None:
        options.add_run_config_entry(key, _parameter(config, key))
    return options


def validate(config: dict[str, Any], session: ort.InferenceSession) -> None:
    """Raises RefusedError where the config and the model disagree, or the config asks for what this backend can't do."""
    name, batch = config["name"], int(config["max_batch_size"])
    for key in ("sequence_batching", "batch_input", "batch_output", "model_operations"):
        if config.get(key):
            raise RefusedError(f"model '{name}' has {key}, which recsplit's stand-in for the onnxruntime backend does not support")
    if config.get("model_transaction_policy", {}).get("decoupled"):
        raise RefusedError(f"model '{name}' is decoupled, and the onnxruntime backend gives one response a request")
    inputs = {node.name: node for node in session.get_inputs()}
    required = [tensor for tensor in config["input"] if not tensor.get("optional")]
    if len(required) != len(inputs):
        raise RefusedError(
            f"unable to load model '{name}', configuration expects {len(required)} inputs, model provides {len(inputs)}: {_names(inputs)}"
        )
    inputs |= {node.name: node for node in session.get_overridable_initializers()}
    for tensor in config["input"]:
        if tensor.get("optional") and batch:
            raise RefusedError(
                f"unable to load model '{name}', optional input '{tensor['name']}' is not supported for models that support batching"
            )
        if tensor.get("allow_ragged_batch"):
            raise RefusedError(
                f"input '{tensor['name']}' of model '{name}' allows ragged batches, which recsplit's stand-in does not support"
            )
        _compare("input", tensor, inputs, name, batch)
    outputs = {node.name: node for node in session.get_outputs()}
    for tensor in config["output"]:
        _compare("output", tensor, outputs, name, batch)


def complete(config: dict[str, Any], session: ort.InferenceSession) -> None:
    """Fill in inputs and outputs that the config leaves out, and dynamic batching where the model can batch."""
    nodes = {"input": session.get_inputs(), "output": session.get_outputs()}
    can_batch = all(node.shape and not isinstance(node.shape[0], int) for node in [*nodes["input"], *nodes["output"]])
    batch = int(config.get("max_batch_size", 0))
    if batch and not can_batch:
        raise RefusedError(
            f"autofill failed for model '{config['name']}': model does not support batching while non-zero max_batch_size is specified"
        )
    if batch > 1 and "sequence_batching" not in config:
        config.setdefault("dynamic_batching", {})
    for key, node_args in nodes.items():
        if not config.get(key):
            config[key] = [_describe(node, batch) for node in node_args]


def _describe(node: Any, batch: int) -> dict[str, Any]:
    dims = _shape(node)[1 if batch else 0 :]
    tensor = {"name": node.name, "data_type": DTYPES.get(node.type, "TYPE_INVALID"), "dims": dims or [1]}
    return {**tensor, "reshape": {"shape": []}} if batch and not dims else tensor


def _compare(kind: str, tensor: dict[str, Any], nodes: dict[str, Any], model: str, batch: int) -> None:
    """One tensor of the config against the model's. An output must agree exactly; an input may fix a free dimension."""
    name, dtype = tensor["name"], tensor["data_type"]
    if name not in nodes:
        raise RefusedError(f"unexpected inference {kind} '{name}', allowed {kind}s are: {_names(nodes)}")
    node = nodes[name]
    if node.type not in DTYPES:
        raise RefusedError(f"{kind} '{name}' of model '{model}' is a {node.type}, which recsplit's stand-in does not support")
    if dtype != DTYPES[node.type]:
        raise RefusedError(
            f"unable to load model '{model}', configuration expects datatype {dtype} for {kind} '{name}', "
            f"model provides {DTYPES[node.type]}"
        )
    shape = _shape(node)
    dims = [int(dim) for dim in tensor.get("reshape", {"shape": tensor["dims"]}).get("shape", [])]
    if not batch and not shape and all(dim == 1 for dim in dims):
        return
    if batch and (not shape or shape[0] != -1):
        raise RefusedError(
            f"model '{model}', tensor '{name}': for the model to support batching the shape should have at least 1 dimension "
            f"and the first dimension must be -1; but shape expected by the model is {shape}"
        )
    full = [-1, *dims] if batch else dims
    agree = len(full) == len(shape) and all(a == b or (b == -1 and kind == "input") for a, b in zip(full, shape, strict=True))
    if not agree:
        note = " (an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape)" if batch else ""
        raise RefusedError(
            f"model '{model}', tensor '{name}': the model expects {len(shape)} dimensions (shape {shape}) but the model "
            f"configuration specifies {len(full)} dimensions (shape {full}){note}"
        )


def _shape(node: Any) -> list[int]:
    """Dimensions as Triton writes them: -1 for one that varies."""
    return [dim if isinstance(dim, int) else -1 for dim in node.shape]


def _names(nodes: dict[str, Any]) -> str:
    return ", ".join(sorted(nodes))


def _parameter(config: dict[str, Any], key: str) -> str | None:
    parameter = config.get("parameters", {}).get(key)
    return None if parameter is None else str(parameter.get("string_value", ""))


def _integer(config: dict[str, Any], key: str) -> int:
    """A whole number as C++'s stoi reads it: leading digits count. 0 where the parameter is absent."""
    text = _parameter(config, key)
    if text is None:
        return 0
    match = re.match(r"\s*[+-]?\d+", text)
    if match is None:
        raise RefusedError(f"failed to convert '{text}' to an integral number, parameter '{key}'")
    return int(match.group())


def _boolean(config: dict[str, Any], key: str) -> bool:
    """True where the parameter is absent: onnxruntime's own default for arena and pattern."""
    text = (_parameter(config, key) or "true").lower()
    if text not in ("true", "on", "1", "false", "off", "0"):
        raise RefusedError(f"failed to convert '{text}' to boolean, parameter '{key}'")
    return text in ("true", "on", "1")
