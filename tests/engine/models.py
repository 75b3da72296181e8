"""Embedding models run by the engine in this process, beside the operators that they are made of."""

import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsplit.configs.engine import engine_config
from recsplit.engine.compilation import make
from recsplit.engine.library import Library, Model, Refused
from recsplit.engine.runtime import onnxruntime_library
from recsplit.graph.cut import Cut
from recsplit.plan.plan import Tensor
from recsplit.write import submodels

Array = NDArray[Any]

#: What adding in another order may change, of the largest number of a row.
EQUAL = 1e-6


@cache
def library() -> Library:
    """The engine, made once."""
    return Library(make())


def config_of(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], **parameters: str) -> dict[str, Any]:
    """Triton's config of such a model."""
    values = {key: {"string_value": text} for key, text in parameters.items()}
    return {**engine_config(inputs, outputs, 4096), "parameters": values}


def written(cut: Cut, folder: Path) -> dict[str, Any]:
    """The engine's files of an embedding model in a folder; its config."""
    assert cut.recipe is not None, cut.no_recipe
    submodels.write_recipe(cut, cut.recipe, submodels.write_tables(cut, folder), {}, folder)
    sides = submodels.interface(cut.embedding)
    return config_of(sides.inputs, sides.outputs)


def opened(folder: Path, config: Mapping[str, Any], **settings: Any) -> Model:
    """A model in the engine, with two workers."""
    return Model(library(), folder, config, {"workers": 2, "onnxruntime": str(onnxruntime_library()), **settings})


def comparable(cut: Cut) -> bool:
    """Whether the engine does the embedding model, and as ONNX Runtime does, whose maximum over NaN depends on the order of rows."""
    if cut.recipe is None:
        return False
    maxima = any(lookup.pooling == "max" for lookup in cut.recipe.lookups)
    return not maxima or all(np.isfinite(submodels.data_of(table).numpy()).all() for fused in cut.fused for table in fused.sources)


def by_engine(cut: Cut) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """The embedding model as a function of inputs by name; whole and row by row must give the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        config = written(cut, Path(folder))
        model = opened(Path(folder), config, tables="mapped")
    names = [item["name"] for item in config["input"]]

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        inputs = {name: feeds[name] for name in names}
        (whole,) = answered(model, [inputs])
        rows = len(next(iter(inputs.values())))
        for number, row in enumerate(answered(model, [{name: data[at : at + 1] for name, data in inputs.items()} for at in range(rows)])):
            for name, data in row.items():
                np.testing.assert_array_equal(data, whole[name][number : number + 1], err_msg=f"{name}, row {number} by itself")
        return whole

    return run


def answered(model: Model, requests: list[dict[str, Array]]) -> list[dict[str, Array]]:
    """What a batch of requests gets, none of which is refused."""
    answers = []
    for answer in model.run(requests):
        assert not isinstance(answer, Refused), answer
        answers.append(answer)
    return answers


def same(got: Mapping[str, Array], want: Mapping[str, Array]) -> None:
    """Demand that outputs are equal, floats up to the order of additions."""
    for name, data in want.items():
        assert got[name].shape == data.shape and got[name].dtype == data.dtype, (name, got[name].shape, data.shape)
        if data.dtype.kind != "f":
            np.testing.assert_array_equal(got[name], data, err_msg=name)
            continue
        scale = np.abs(np.where(np.isfinite(data), data, 0)).max(initial=0)
        limit = max(EQUAL, float(np.finfo(data.dtype).eps))
        np.testing.assert_allclose(got[name], data, rtol=limit, atol=float(limit * scale), err_msg=name)
