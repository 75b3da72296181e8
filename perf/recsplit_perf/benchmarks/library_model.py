"""One model of a public library: exported by torch, built by recsplit, and its parts compared with torch eager.

    python -m recsplit_perf.benchmarks.library_model LIBRARY MODEL FOLDER

prints one JSON object, the fields of libraries.Row. It runs in the libraries' environment.
"""

import contextlib
import dataclasses
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree

from recsplit.building.api import inspect
from recsplit.building.build import Built, build
from recsplit.building.load_and_cut import as_rows
from recsplit.building.settings import BuildSettings
from recsplit.errors import InputError, RecsplitError
from recsplit.load.export import quiet
from recsplit.load.flat import Flat
from recsplit.plan.dtypes import NUMPY
from recsplit.plan.plan import Plan
from recsplit.proof.parts import Run, joined
from recsplit.rendering.progress import in_silence
from recsplit_perf.benchmarks.coverage_model import short
from recsplit_perf.benchmarks.libraries import Row
from recsplit_perf.benchmarks.library_models import LIBRARIES
from recsplit_perf.benchmarks.library_models.reads import tables_read
from recsplit_perf.benchmarks.library_models.seeds import Factory, Sample

#: The batch and the seed of the example that torch traces, and those of the fresh inputs.
EXAMPLE = (5, 1)
FRESH = ((1, 21), (3, 22), (17, 23))
#: As large as one more, to tell ids from positions.
OTHER = (5, 2)
NAME = "tried"
NOWHERE = "the model itself fails on its example"


def row(library: str, model: str, folder: Path) -> Row:
    """What becomes of one model; files go under `folder`."""
    start = time.monotonic()
    factory = LIBRARIES[library][model]
    tried = Row(library, model)
    try:
        with quiet():
            module, inputs = factory(*EXAMPLE)
            tried = dataclasses.replace(tried, tables_read=tables_read(module, inputs, factory(*OTHER)[1]))
    except Exception as error:
        return dataclasses.replace(tried, reason=f"{NOWHERE}: {short(error)}")
    program = _exported(module, inputs)
    tried = _built(tried, factory, folder)
    if tried.cut:
        failure = None
    else:
        failure = program if isinstance(program, str) else _onnx_failure(program)
        tried = dataclasses.replace(tried, reason=failure or tried.reason)
    return dataclasses.replace(tried, exported=failure is None, seconds=round(time.monotonic() - start, 1))


def _exported(module: torch.nn.Module, inputs: tuple[Any, ...]) -> torch.export.ExportedProgram | str:
    """The module as torch.export by itself has it, with a batch that varies; where it can't, why, in its words."""
    varies = {0: torch.export.Dim.DYNAMIC}  # torch raises where the module makes a number of it
    shapes = tuple(_pytree.tree_map(lambda leaf: varies if isinstance(leaf, torch.Tensor) else None, value) for value in inputs)
    failures = []
    for strict in (False, True):
        try:
            with quiet(), torch.no_grad():
                return torch.export.export(module, inputs, dynamic_shapes=shapes, strict=strict)
        except Exception as error:
            failures.append(short(error))
    return failures[0]


def _onnx_failure(program: torch.export.ExportedProgram) -> str | None:
    """Why torch.onnx by itself can't make ONNX of a program, for sparse and complex tensors have no form there; None where it can."""
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            torch.onnx.export(program, dynamo=True, verbose=False, optimize=False)
    except Exception as error:
        return f"torch.onnx: {short(error)}"
    return None


def _built(tried: Row, factory: Factory, folder: Path) -> Row:
    """The row with what recsplit makes of the model."""

    def source() -> Sample:
        return factory(*EXAMPLE)

    try:
        built = build(BuildSettings(source=source, out=folder / "repository", name=NAME), in_silence)
    except (InputError, RecsplitError) as failure:
        return dataclasses.replace(tried, reason=_said(failure), left=_left(source))
    except Exception as error:  # a fault of recsplit's own: a row, and not the end
        return dataclasses.replace(tried, reason=f"recsplit itself fails: {short(error)}")
    tables = len(built.plan.tables)
    tried = dataclasses.replace(tried, cut=True, tables=tables, left=_left(source) if tables < tried.tables_read else ())
    try:
        largest = max(_errors(built, factory))
    except Exception as failure:
        return dataclasses.replace(tried, reason=f"the parts fail: {short(failure)}")
    return dataclasses.replace(tried, error=largest)


def _said(failure: InputError | RecsplitError) -> str:
    """The sentence, and the first line of the detail, which says by how much parts differ and on what."""
    detail = (failure.detail or "").strip().splitlines()
    return f"{failure}: {detail[0]}"[:400] if detail and "answer" in str(failure) else str(failure)


def _left(source: Any) -> tuple[str, ...]:
    """What `recsplit inspect` says of each candidate that it leaves."""
    try:
        inspection = inspect(source)
    except Exception:  # where the model can't be loaded, the row has that as its reason
        return ()
    left = [f"{item.table} by {item.kind}: {item.reason}" for item in inspection.candidates if not item.is_lookup]
    return tuple(dict.fromkeys(left))


def _errors(built: Built, factory: Factory) -> list[float]:
    """The largest difference of the parts from torch eager on each of the fresh inputs."""
    module, inputs = factory(*EXAMPLE)
    example = Flat(module, inputs, {}, None)
    with torch.no_grad():
        example(*example.tensors)  # names the outputs
    run = joined(built.repository, built.plan)
    errors = []
    for batch, seed in FRESH:
        try:
            module, inputs = factory(batch, seed)
            with torch.no_grad():
                answers = [leaf for leaf in _pytree.tree_leaves(module(*inputs)) if isinstance(leaf, torch.Tensor)]
        except Exception:  # torch-rechub's DCNv2 and SASRec, for two, fail on a batch of one row: there is no answer to compare with
            if batch > 1:
                raise
        else:
            errors.append(max(_differences(built.plan, run, example.output_names, (module, inputs), answers)))
    return errors


def _differences(plan: Plan, run: Run, names: Sequence[str], sample: Sample, answers: Sequence[torch.Tensor]) -> list[float]:
    module, inputs = sample
    flat = Flat(module, inputs, {}, None)
    rows = as_rows(plan.bags, {name: tensor.numpy() for name, tensor in zip(flat.names, flat.tensors, strict=True)})
    dtypes = {tensor.name: NUMPY[tensor.dtype] for tensor in plan.inputs}
    parts = run({name: data.astype(dtypes[name]) for name, data in rows.items() if name in dtypes})
    return [by_row(answer.numpy(), parts[name]) for name, answer in zip(names, answers, strict=True)]


def by_row(source: NDArray[Any], parts: NDArray[Any]) -> float:
    """The largest difference in any row over the magnitude of that row in the source, or of the median row, where that is more.

    A score that happens to lie near zero would make rounding look large. Infinity where shapes differ, or one is not a number. Libraries
    squeeze their answers, and a batch of one with them: that is the same row.
    """
    if len(parts) == 1 and source.size == parts.size:
        source = source.reshape(parts.shape)
    if source.shape != parts.shape:
        return float("inf")
    if source.dtype.kind not in "fc":
        return 0.0 if bool((source == parts).all()) else float("inf")
    width = (len(source), -1)
    left, right = source.astype(np.float64).reshape(width), parts.astype(np.float64).reshape(width)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    gap = np.where(same, 0.0, np.abs(left - right)).max(axis=1, initial=0.0)
    magnitude = np.abs(np.where(np.isfinite(left), left, 0.0)).max(axis=1, initial=0.0)
    magnitude = np.maximum(magnitude, np.median(magnitude)) if len(magnitude) else magnitude
    relative = np.divide(gap, magnitude, out=np.where(gap > 0, np.inf, 0.0), where=magnitude > 0)
    return float(np.nan_to_num(relative, nan=np.inf, posinf=np.inf).max(initial=0.0))


if __name__ == "__main__":
    library, model, folder = sys.argv[1:]
    del sys.argv[1:]  # RecBole reads them as settings
    sys.stdout.write(json.dumps(dataclasses.asdict(row(library, model, Path(folder)))) + "\n")
