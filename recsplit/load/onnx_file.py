""".onnx files: read lazily, checked, and run by onnxruntime."""

import pathlib
import threading
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from recsplit.disk.files import size_text
from recsplit.errors import InputError, RecsplitError
from recsplit.graph.infer import infer_shapes, quiet
from recsplit.graph.int64 import rewrite_int64
from recsplit.graph.large import large_tensors
from recsplit.graph.source_tables import mapped, remember_readers
from recsplit.load import forgiven
from recsplit.load.arrays import Array
from recsplit.load.normalize import check_inputs, check_opset, check_outputs, drop_initializer_inputs, normalize
from recsplit.plan.triton_releases import Release

#: protobuf, and so every reader of .onnx files, takes no larger ones.
LIMIT_BYTES = 1 << 31


def load(path: pathlib.Path, release: Release | None = None) -> tuple[ir.Model, "Session", tuple[str, ...]]:
    """The model of an .onnx file in the form of the contract; the original, run by onnxruntime on the CPU; notes for the user.

    With `release` the model's opset is one that its onnxruntime reads. External data is neither read nor copied.

    Raises InputError where the file or its external data is missing, broken or too short, the opset is older than 13, newer than onnx or
    can't be lowered to the release's, an input or output is no number, or the batch is fixed.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file", hint="check the path of the .onnx file")
    if (size := path.stat().st_size) >= LIMIT_BYTES:
        raise InputError(
            f"{path} is not a valid ONNX model: it has {size_text(size)}, and such a file less than {size_text(LIMIT_BYTES)}",
            hint="larger weights lie in a file beside it: onnx.save(model, path, save_as_external_data=True)",
        )
    try:
        with quiet():
            model = ir.load(path)
    except Exception as error:
        raise _broken(path, error) from error
    if not len(model.graph):  # an empty file is an empty protobuf, and some other kinds of file are nearly that
        raise _broken(path, ValueError("its graph is empty"))
    remember_readers(model)
    check_opset(model, str(path))
    drop_initializer_inputs(model)
    check_inputs(model, str(path))
    check_external_data(model, path)
    linked_files, is_unsorted = forgiven.resolve_links(model), forgiven.sort_nodes(model, str(path))
    is_untyped = any(value.type is None or value.shape is None for value in model.graph.outputs)
    untyped_outputs = forgiven.infer_outputs(model)
    check_outputs(model, str(path))
    try:
        onnx.checker.check_model(forgiven.skeleton(model) if linked_files or is_unsorted or is_untyped else str(path))
    except Exception as error:
        raise _broken(path, error, "export it again with torch.onnx.export; onnx.checker.check_model tells the same") from error
    refuse_unmade(model, path)
    original = [value.name or "" for value in model.graph.outputs]
    tensors = {name: value.const_value for name, value in model.graph.initializers.items()} if linked_files or untyped_outputs else {}
    handed_over = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, ir.ExternalTensor)}
    normalize(model, origin=str(path), release=release)
    outputs = dict(zip([value.name or "" for value in model.graph.outputs], original, strict=True))
    folder = path.parent.resolve()
    outside = [str(file) for file in linked_files if not file.is_relative_to(folder)]
    # Whose links they are is not for us to know: what they lead to is published, so it is told.
    notes = (f"Note: weights are read through links to {', '.join(outside)}",) if outside else ()
    return model, Session(path, outputs, untyped_outputs, handed_over), notes


def _broken(path: pathlib.Path, error: Exception, hint: str = "copy it again, or export it again with torch.onnx.export") -> InputError:
    first, *more = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return InputError(f"{path} is not a valid ONNX model: {first.strip()}", hint=hint, detail="\n".join([first, *more]) if more else "")


def refuse_unmade(model: ir.Model, path: pathlib.Path) -> None:
    """Refuse what the checker passes and onnx_ir doesn't read: a weight stored as a sparse tensor."""
    for node in model.graph:
        for value in node.inputs:
            if value is not None and value.producer() is None and not value.is_graph_input() and not value.is_initializer():
                raise InputError(
                    f"{path} reads {value.name!r}, which is no input, no dense weight and no node's output",
                    hint="store weights as dense tensors",
                )


def check_external_data(model: ir.Model, path: pathlib.Path) -> None:
    """Every tensor that lies in another file is there, whole, and beside the model."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                _check_tensor(value.const_value, path)
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR and isinstance(attribute.value, ir.ExternalTensor):
                    _check_tensor(attribute.value, path)


def _check_tensor(tensor: ir.ExternalTensor, path: pathlib.Path) -> None:
    location = pathlib.PurePath(tensor.location)
    if location.is_absolute() or ".." in location.parts:
        hint = "put model and data into one folder, and save the model again"
        raise InputError(f"{path} keeps tensor {tensor.name!r} in {location}, outside its own folder", hint=hint)
    data = pathlib.Path(tensor.path)
    if not data.is_file():
        raise InputError(f"{path} keeps tensor {tensor.name!r} in {location}, and that file is missing", hint=f"put it at {data}")
    if tensor.length is not None and tensor.length < tensor.nbytes:
        raise InputError(f"tensor {tensor.name!r} needs {tensor.nbytes} bytes, and {path} gives it {tensor.length}", hint="export it again")
    end, size = (tensor.offset or 0) + tensor.nbytes, data.stat().st_size
    if size < end:
        hint = "the file was cut short; copy it again"
        raise InputError(f"{data} has {size} bytes, and tensor {tensor.name!r} ends at byte {end}", hint=hint)


class Session:
    """The original file in onnxruntime, opened on the first call. `outputs`: the file's own name of each output, by the IR's.

    `untyped_outputs`: those whose dtype onnxruntime must infer; `handed_over`: tensors that it would not read from where they lie, by name.
    """

    def __init__(
        self, path: pathlib.Path, outputs: Mapping[str, str], untyped_outputs: Sequence[str], handed_over: Mapping[str, ir.ExternalTensor]
    ) -> None:
        self._path = path
        self._outputs = outputs
        self._untyped_outputs = untyped_outputs
        self._handed_over = handed_over
        self._weights: dict[str, Array] = {}
        self._initializers: Mapping[str, ir.Value] | None = None  # of the file, once a weight was asked for
        self._values: list[onnxruntime.OrtValue] = []
        self._opening = threading.Lock()
        self._kept: Session | None = None  # whose file it is, where that goes with the session
        self._session: onnxruntime.InferenceSession | None = None

    def weight(self, name: str) -> Array | None:
        """As SourceRun has it; numbers that lie in a file stay there, mapped."""
        if self._initializers is None:
            with quiet():
                self._initializers = ir.load(self._path).graph.initializers
        value = self._initializers.get(name)
        return None if value is None or value.const_value is None else mapped(value.const_value)

    def with_weights(self, weights: Mapping[str, Array]) -> "Session":
        """As SourceRun has it."""
        changed = Session(self._path, self._outputs, self._untyped_outputs, self._handed_over)
        changed._weights, changed._kept = dict(weights), self
        return changed

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model on inputs by name; raises RecsplitError with onnxruntime's words where it fails."""
        try:
            with self._opening:
                if self._session is None:
                    self._session = self._open()
            results = self._session.run(list(self._outputs.values()), dict(inputs))
        except Exception as error:
            hint = "are all ids inside their tables, and shapes and dtypes those of the model?"
            raise RecsplitError(f"onnxruntime can't run {self._path}", hint=hint, detail=str(error)) from error
        return dict(zip(self._outputs, results, strict=True))

    def _open(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised; the rest is chatter
        if self._handed_over:
            # Kept: onnxruntime reads the mapped files for as long as the session lives.
            self._values = [onnxruntime.OrtValue.ortvalue_from_numpy(tensor.numpy()) for tensor in self._handed_over.values()]
            options.add_external_initializers(list(self._handed_over), self._values)
        if self._weights:
            # Constants are folded before weights are handed over: what is folded would have the file's own numbers.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        for name, data in large_tensors(self._path).items():
            if name not in self._weights and name not in self._handed_over:
                self._values.append(onnxruntime.OrtValue.ortvalue_from_numpy(data))
                options.add_initializer(name, self._values[-1])
        original = ir.load(self._path)
        for name, data in self._weights.items():
            tensor = original.graph.initializers[name].const_value
            assert tensor is not None
            self._values.append(onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(data, tensor.dtype.numpy(), order="C")))
            options.add_initializer(name, self._values[-1])
        infer_shapes(original)
        # INT64 operators that this onnxruntime computes wrongly would make a wrong model the measure of the parts.
        source: str | bytes = str(self._path)
        if rewrite_int64(original) or self._untyped_outputs:
            proto = ir.to_proto(original)
            for output in proto.graph.output:
                if output.name in self._untyped_outputs:
                    output.ClearField("type")
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(self._path.parent.resolve()))
            source = proto.SerializeToString()
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
