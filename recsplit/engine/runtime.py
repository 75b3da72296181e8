"""ONNX Runtime's shared library, which the engine runs dense models with: the one in the wheel that this Python has."""

import importlib.util
from pathlib import Path

from recsplit.errors import RecsplitError


def onnxruntime_library() -> Path:
    """The wheel's libonnxruntime.so.1.x. Raises RecsplitError where there is none."""
    spec = importlib.util.find_spec("onnxruntime")
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent / "capi"
    libraries = sorted(folder.glob("libonnxruntime.so.*")) if folder is not None else []
    if not libraries:
        raise RecsplitError("there is no libonnxruntime.so in this Python's onnxruntime", hint="pip install --force-reinstall onnxruntime")
    return libraries[-1]
