"""Running the parts without a server: sessions over the sub-models' files, joined as the ensemble joins them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from recsplit.errors import RecsplitError
from recsplit.graph.large import large_tensors
from recsplit.plan.files import MODEL_FILE
from recsplit.plan.plan import UNKNOWN_IDS, Plan
from recsplit.proof.by_engine import engine_run

Array = NDArray[np.generic]
#: Inputs by name to outputs by name; may be called from several threads.
Run = Callable[[Mapping[str, Array]], dict[str, Array]]


def session(path: Path, *, threads: int = 1) -> Run:
    """One model file as a function. Inputs that the model doesn't read are ignored. Raises RecsplitError if it can't be loaded."""
    if not path.is_file():
        raise RecsplitError(f"there is no file {path}", hint="build the model again")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Kept by the session's function: onnxruntime reads what was handed over for as long as it lives. (add_external_initializers copies.)
    values = {name: ort.OrtValue.ortvalue_from_numpy(data) for name, data in large_tensors(path).items()}
    for name, value in values.items():
        options.add_initializer(name, value)
    try:
        loaded = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds, undocumented
        raise RecsplitError(
            f"onnxruntime can't load {path}: {str(error).rpartition(' : ')[2]}", hint="is the file whole? if not, build the model again"
        ) from error
    return function(loaded, keep=values)


def function(loaded: ort.InferenceSession, *, keep: object = None) -> Run:
    """A session as a function of inputs by name; those that the model doesn't read are ignored. `keep`: what must live as long."""
    inputs = [item.name for item in loaded.get_inputs()]
    outputs = [item.name for item in loaded.get_outputs()]

    def run(feeds: Mapping[str, Array], _kept: object = keep) -> dict[str, Array]:
        answers = loaded.run(None, {name: feeds[name] for name in inputs})
        return {name: np.asarray(answer) for name, answer in zip(outputs, answers, strict=True)}

    return run


def joined(folder: Path, plan: Plan, *, threads: int = 1, by_engine: bool = False) -> Run:
    """All parts of a build in the repository `folder` as one function: what a part answers goes into those after it.

    `by_engine`: those whose runtime is the engine are run by it. Raises RecsplitError where a part can't be loaded.
    """
    if by_engine and plan.form == "fused":
        return engine_run(folder / plan.name / str(plan.version), plan.fused, plan)
    parts: list[Run] = []
    for model in plan.submodels:
        version = folder / model.name / str(plan.version)
        engines = by_engine and model.runtime == "native"
        parts.append(engine_run(version, model, plan) if engines else session(version / MODEL_FILE, threads=threads))

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        known, answers = dict(feeds), dict[str, Array]()
        for part in parts:
            answers = part(known)
            known.update(answers)
        return {**answers, **{name: data for name, data in known.items() if name == UNKNOWN_IDS}}

    return run
