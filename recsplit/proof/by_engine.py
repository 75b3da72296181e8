"""A sub-model run by recsplit's engine in this process, as Triton's backend runs it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsplit.configs.engine import engine_config
from recsplit.engine.compilation import make
from recsplit.engine.library import Library, Model, Refused
from recsplit.engine.runtime import onnxruntime_library
from recsplit.plan.plan import Plan, Submodel

Array = NDArray[np.generic]


def engine_run(folder: Path, model: Submodel, plan: Plan) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """A sub-model in its version folder as a function of inputs by name, from any thread. Rows are marked, and none is refused.

    Raises RecsplitError where there is no engine or it can't load the model; the function raises it where the engine fails.
    """
    config = engine_config(model.inputs, model.outputs, plan.max_batch_size)
    loaded = Model(Library(make()), folder, config, {"onnxruntime": str(onnxruntime_library()), "workers": model.threads})
    names = [tensor.name for tensor in model.inputs]

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        (answer,) = loaded.run([{name: feeds[name] for name in names}])
        if isinstance(answer, Refused):
            raise answer
        return answer

    return run
