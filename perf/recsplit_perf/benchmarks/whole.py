"""A model served whole: exported by torch.onnx, both ways, with the settings of a split model beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from recsplit.configs.check import parse
from recsplit.load.export import quiet
from recsplit.plan.plan import Plan, Tensor


def export(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], plan: Plan, path: Path, *, dynamo: bool) -> None:
    """Export with names and order of the plan's inputs and outputs, first dimension dynamic, weights in the file.

    As a user would: the exporters' own defaults otherwise.
    """
    names, outputs = [tensor.name for tensor in plan.inputs], model_outputs(plan)
    with quiet():  # the legacy exporter announces its retirement at every call
        if dynamo:
            batch = torch.export.Dim("batch")
            torch.onnx.export(
                *(module, inputs, path),
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=names,
                output_names=[tensor.name for tensor in outputs],
                dynamic_shapes=tuple({0: batch} for _ in inputs),
            )
        else:
            names_and_outputs = [*names, *(tensor.name for tensor in outputs)]
            torch.onnx.export(
                *(module, inputs, path),
                dynamo=False,
                input_names=names,
                output_names=[tensor.name for tensor in outputs],
                dynamic_axes={name: {0: "batch"} for name in names_and_outputs},
            )


def model_outputs(plan: Plan) -> list[Tensor]:
    """The outputs of the model itself: those of the dense model."""
    produced = {tensor.name for tensor in plan.dense.outputs}
    return [tensor for tensor in plan.outputs if tensor.name in produced]


def write_config(repository: Path, name: str, plan: Plan, inputs: Sequence[Tensor], outputs: Sequence[Tensor], *, instances: int) -> None:
    """A config.pbtxt for `name` with the batching, queue and thread settings of the plan's dense model."""
    like = repository / plan.dense.name / "config.pbtxt"
    config = parse(like.read_text(), origin=str(like))
    config.name = name
    for field in ("input", "output", "model_warmup"):
        config.ClearField(field)
    for key in [key for key in config.parameters if key.startswith("recsplit.")]:
        del config.parameters[key]
    _tensors(config.input, inputs)
    _tensors(config.output, outputs)
    config.instance_group[0].count = instances
    (repository / name / "config.pbtxt").write_text(text_format.MessageToString(config))


def write_hop(repository: Path, plan: Plan) -> tuple[str, str]:
    """A model that gives back the first boundary tensor, and an ensemble that sends it through two such models: their names.

    The difference of their latencies is what one more step of an ensemble costs on this server.
    """
    boundary = plan.boundary[0]
    x, y = Tensor("x", boundary.dtype, boundary.dims), Tensor("y", boundary.dtype, boundary.dims)
    for name in ("hop_1", "hop_2"):
        path = repository / name / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        write_config(repository, name, plan, [x], [y], instances=1)
        onnx.save(identity(boundary), path)
    (repository / "hop" / "1").mkdir(parents=True)
    steps = [_step("hop_1", {"x": "x"}, {"y": "between"}), _step("hop_2", {"x": "between"}, {"y": "y"})]
    config = model_config_pb2.ModelConfig(name="hop", platform="ensemble", max_batch_size=plan.max_batch_size)
    _tensors(config.input, [x])
    _tensors(config.output, [y])
    config.ensemble_scheduling.step.extend(steps)
    (repository / "hop" / "config.pbtxt").write_text(text_format.MessageToString(config))
    return "hop_1", "hop"


def _step(model: str, inputs: dict[str, str], outputs: dict[str, str]) -> Any:
    """A step of an ensemble, whose maps are from the model's names to the ensemble's."""
    return model_config_pb2.ModelEnsembling.Step(model_name=model, model_version=-1, input_map=inputs, output_map=outputs)


def _tensors(field: Any, tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        item = field.add(name=tensor.name, data_type=model_config_pb2.DataType.Value(f"TYPE_{tensor.dtype}"))
        item.dims.extend(tensor.dims)


def identity(tensor: Tensor) -> onnx.ModelProto:
    """x -> y, of the tensor's dtype and dims."""
    kind = {"FP32": "float", "FP16": "float16"}[tensor.dtype] + str(["batch", *tensor.dims]).replace("'", "")
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> identity ({kind} x) => ({kind} y) {{ y = Identity(x) }}')
