""".onnx files: read lazily, checked, and run by onnxruntime."""

import pathlib
import threading
from collections.abc import Callable, Mapping

import onnx_ir as ir

from recsplit.errors import InputError, RecsplitError
from recsplit.load.arrays import Array
from recsplit.load.normalize import normalize


def load(path: pathlib.Path) -> tuple[ir.Model, Callable[[Mapping[str, Array]], dict[str, Array]]]:
    """The model of an .onnx file in the form of the contract, and the original run by onnxruntime on the CPU."""
    if not path.is_file():
        raise InputError(f"{path} is not a file", hint="check the path of the .onnx file")
    try:
        model = ir.load(path)
    except Exception as error:
        raise InputError(f"{path} is not an ONNX model", hint="export it again with torch.onnx.export", detail=str(error)) from error
    check_external_data(model, path)
    normalize(model, origin=str(path))
    return model, Session(path, [value.name or "" for value in model.graph.outputs])


def check_external_data(model: ir.Model, path: pathlib.Path) -> None:
    """Every external tensor's file exists and is long enough."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        data = pathlib.Path(tensor.path)
        if not data.is_file():
            raise InputError(
                f"{path} keeps tensor {tensor.name!r} in {tensor.location}, and that file is missing",
                hint=f"put it at {data}",
            )
        end = (tensor.offset or 0) + tensor.nbytes
        if data.stat().st_size < end:
            raise InputError(
                f"{data} has {data.stat().st_size} bytes, and tensor {tensor.name!r} ends at byte {end}",
                hint="the file was cut short; copy it again",
            )


class Session:
    """The original file in onnxruntime, opened on the first call."""

    def __init__(self, path: pathlib.Path, outputs: list[str]) -> None:
        self._path = path
        self._outputs = outputs
        self._lock = threading.Lock()
        self._session: object | None = None

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model on inputs by name; raises RecsplitError with onnxruntime's words where it fails."""
        import onnxruntime as ort

        try:
            with self._lock:
                if self._session is None:
                    self._session = ort.InferenceSession(str(self._path), providers=["CPUExecutionProvider"])
            results = self._session.run(self._outputs, dict(inputs))  # type: ignore[attr-defined]
        except Exception as error:
            raise RecsplitError(f"onnxruntime can't run {self._path}", detail=str(error)) from error
        return dict(zip(self._outputs, results, strict=True))
