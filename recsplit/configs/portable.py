"""The config of a model that was built for recsplit's engine, where there is none: NVIDIA's onnxruntime backend runs its ONNX model."""

from google.protobuf import text_format

from recsplit.configs.check import parse
from recsplit.plan.files import ENGINE_BACKEND


def portable_config(text: str, *, origin: str) -> str:
    """config.pbtxt with the backend `onnxruntime` in the place of the engine; a text for another backend as it is.

    Inputs whose length varies meet in a batch no more: ONNX Runtime takes one length for all. Pure.
    """
    config = parse(text, origin=origin)
    if config.backend != ENGINE_BACKEND:
        return text
    config.backend = "onnxruntime"
    for tensor in config.input:
        tensor.ClearField("allow_ragged_batch")
    return str(text_format.MessageToString(config))
