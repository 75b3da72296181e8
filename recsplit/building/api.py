"""Building from Python: recsplit.build and recsplit.inspect, for models in memory and in files alike."""

import os
from pathlib import Path
from typing import Any

from recsplit.building.build import Built
from recsplit.building.build import build as run_build
from recsplit.building.inspection import Inspection
from recsplit.building.load_and_cut import examined
from recsplit.building.settings import BuildSettings, default_name
from recsplit.load import Example, ModelSource, origin_of
from recsplit.rendering.progress import Progress, in_silence

_PATHS = ("weights", "templates", "partition", "access", "evaluation", "order_by")


def build(
    model: ModelSource,
    example_inputs: Example | None = None,
    *,
    out: str | os.PathLike[str] = "model_repository",
    name: str | None = None,
    progress: Progress = in_silence,
    **settings: Any,
) -> Built:
    """Cut a model into embedding and dense sub-models and write a Triton model repository that is proved equal.

    Args:
        model: a torch.nn.Module, a torch.export.ExportedProgram, an onnx.ModelProto, a factory, "package.module:factory", or the path
            of an .onnx or .pt2 file.
        example_inputs: of an nn.Module: its positional arguments as a tuple, or its keyword arguments as a dict. First dimension: batch.
            Of an ONNX proto or .onnx file, which do without: arrays by input name, or the path of an .npz file.
        out: the model repository; made where only the last part of its path is missing.
        name: of the ensemble, which clients ask for; after the model by default.
        progress: called with (text, bytes done, bytes in all) as the work goes on.
        **settings: fields of recsplit.building.settings.BuildSettings, as `recsplit build --help` tells them: max_batch_size,
            unknown_ids, int32_ids, embedding_instances, dense_instances, threads, tolerance, partition, access, ...

    Returns:
        What was built. `built.repository` is the folder; the object itself stands for it: `recsplit.serve(built)`.

    Raises:
        InputError: what the caller must mend. RecsplitError: the work failed, or the proof didn't hold. The repository then stays as
        it was.
    """
    unknown = sorted(set(settings) - set(BuildSettings.__dataclass_fields__))
    if unknown:
        raise TypeError(f"build() has no setting {', '.join(map(repr, unknown))}")
    paths = {key: Path(value) for key, value in settings.items() if key in _PATHS and value is not None}
    asked = BuildSettings(source=model, out=Path(out), name=name or default_name(model), example=example_inputs, **{**settings, **paths})
    return run_build(asked, progress)


def inspect(model: ModelSource, example_inputs: Example | None = None, *, weights: str | os.PathLike[str] | None = None) -> Inspection:
    """The tables and lookups of a model, and why a candidate isn't cut out. `model` and `example_inputs` as for `build`.

    Raises InputError, MissingExtra and RecsplitError as loading does.
    """
    loaded_weights = None if weights is None else Path(weights)
    return Inspection(origin_of(model), *examined(model, weights=loaded_weights, example=example_inputs))
