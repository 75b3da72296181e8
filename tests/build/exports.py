"""One factory of torch_models in each form that recsplit takes: the factory itself, .pt2, and .onnx of both exporters."""

import inspect
from pathlib import Path
from typing import Any

import torch

from recsplit.load.export import quiet
from tests.build import torch_models

FORMS = ("factory", "pt2", "dynamo", "legacy")
AUTO = torch.export.Dim.AUTO


def source(name: str, form: str, folder: Path) -> str:
    """What `recsplit build` takes: torch_models:name, or a file that was exported with the factory's dynamic_shapes, or a dynamic batch."""
    if form == "factory":
        return f"{torch_models.__name__}:{name}"
    module, inputs, *more = getattr(torch_models, name)()
    module.eval()
    names = list(inspect.signature(module.forward).parameters)[: len(inputs)]
    shapes: dict[str, dict[int, Any]] = more[0] if more else {parameter: {0: AUTO} for parameter in names}
    path = folder / f"{name}.{'pt2' if form == 'pt2' else 'onnx'}"
    with quiet():
        if form == "pt2":
            torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes), path)
        elif form == "dynamo":
            torch.onnx.export(module, inputs, path, dynamo=True, dynamic_shapes=shapes, verbose=False)
        else:
            axes = {parameter: {axis: f"{parameter}_{axis}" for axis in varying} for parameter, varying in shapes.items()}
            axes["output"] = {0: "batch"}
            torch.onnx.export(module, inputs, path, dynamo=False, input_names=names, output_names=["output"], dynamic_axes=axes)
    return str(path)
