"""Models of text as .onnx files, and builds of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from recsplit.building.build import Built, build
from recsplit.building.settings import BuildSettings
from tests.graph.small import Array, proto


def onnx_file(folder: Path, text: str, arrays: Mapping[str, Array], *, opset: int = 17) -> Path:
    """The model of `text` in a file."""
    path = folder / "source.onnx"
    onnx.save(proto(text, arrays, opset=opset), path)
    return path


def built(folder: Path, text: str, arrays: Mapping[str, Array], **settings: Any) -> Built:
    """A repository built of the model of `text`."""
    return build_of(onnx_file(folder, text, arrays), folder / "models", **settings)


def build_of(source: Path | str, out: Path, **settings: Any) -> Built:
    """A repository built of a source, with small batches unless asked otherwise."""
    all_settings = {"name": "m", "max_batch_size": 64, "build_id": "b", "threads": 1, **settings}
    return build(BuildSettings(source=str(source), out=out, **all_settings), lambda text, done, total: None)
