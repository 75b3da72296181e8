"""One model of the coverage table: exported by torch, built by recsplit, and its parts compared with torch eager.

    python -m recsplit_perf.benchmarks.coverage_model MODULE:FACTORY TABLES FOLDER

prints one JSON object a line and route, the fields of coverage.Row.
"""

import dataclasses
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch.utils import _pytree

from recsplit.building.load_and_cut import as_rows
from recsplit.errors import RecsplitError
from recsplit.load.export import quiet
from recsplit.load.flat import Flat
from recsplit.plan.files import MODEL_FILE
from recsplit.proof.cases import Case
from recsplit.proof.parts import Run, joined, session
from recsplit.proof.stages import check
from recsplit.repository.find import find
from recsplit.zoo.layers import VARIES, Model
from recsplit_perf.benchmarks.coverage import EQUAL, ROUTES, Row

Factory = Callable[..., Model]

#: (batch, seed) of the fresh inputs; every draw holds a table's first and last rows, and every batch above one an empty bag.
INPUTS = ((1, 11), (2, 12), (7, 13), (64, 14))
NAME = "covered"
LOOPING = ("Loop", "If", "Scan")


def rows(model: str, tables: int, folder: Path) -> Iterator[Row]:
    """Every route of one model."""
    module, _, attribute = model.partition(":")
    factory: Factory = getattr(importlib.import_module(module), attribute)
    cases = list(_cases(factory))
    for route in ROUTES:
        start = time.monotonic()
        row = Row(model, route, False, False, 0, tables, None, None, (), "", 0.0)
        try:
            with quiet():
                source = model if route == "factory" else str(_export(factory, route, folder / f"model-{route}"))
        except Exception as error:
            row = dataclasses.replace(row, reason=short(error))
        else:
            row = _built(dataclasses.replace(row, exported=True), source, folder / route, cases)
        yield dataclasses.replace(row, seconds=round(time.monotonic() - start, 1))


def _cases(factory: Factory) -> Iterator[Case]:
    """Fresh inputs that torch eager can answer: deepctr-torch's DCNMix, for one, fails on a batch of one row."""
    for batch, seed in INPUTS:
        flat = _flat(factory(batch=batch, seed=seed))
        try:
            with torch.inference_mode():
                answers = flat(*flat.tensors)
        except RuntimeError:
            if batch > 1:
                raise
            continue
        yield Case(
            f"batch of {batch}",
            {name: tensor.numpy() for name, tensor in zip(flat.names, flat.tensors, strict=True)},
            {name: answer.numpy() for name, answer in zip(flat.output_names, answers, strict=True)},
        )


def _flat(model: Model) -> Flat:
    return Flat(model[0], model[1], {}, model[2] if len(model) == 3 else None)


def _export(factory: Factory, route: str, stem: Path) -> Path:
    """What a user of torch would save: the exporters' defaults, with a dynamic batch. Raises whatever torch raises."""
    model = factory()
    module, inputs = model[0], model[1]
    flat = _flat(model)
    with torch.no_grad():
        flat(*flat.tensors)  # names the outputs
    shapes = model[2] if len(model) == 3 else tuple(_pytree.tree_map(_varies, _unpacked(value)) for value in inputs)
    if route == "pt2":
        path = stem.with_suffix(".pt2")
        torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes), path)
        return path
    path = stem.with_suffix(".onnx")
    names: dict[str, Any] = {"input_names": flat.names, "output_names": flat.output_names}
    if route == "legacy":
        axes = {name: list(varying) for name, varying in zip(flat.names, flat.shapes, strict=True)}
        torch.onnx.export(module, inputs, path, dynamo=False, dynamic_axes=axes, **names)
    else:
        torch.onnx.export(module, inputs, path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False, **names)
    return path


def _unpacked(value: Any) -> Any:
    """A KeyedJaggedTensor as the list that torch.export wants for it; anything else as it is."""
    return _pytree.tree_flatten(value)[0] if type(value).__module__.startswith("torchrec.") else value


def _varies(leaf: Any) -> Any:
    return VARIES if isinstance(leaf, torch.Tensor) else None


def _built(row: Row, source: str, folder: Path, cases: Sequence[Case]) -> Row:
    """The row of a source: built, its parts run and read."""
    if source.endswith(".onnx"):
        row = dataclasses.replace(row, file_error=_file_error(Path(source), cases))
    command = [sys.executable, "-m", "recsplit", "build", source, "-o", str(folder), "--name", NAME]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return dataclasses.replace(row, reason=_reason(done.stderr).replace(f"{folder.parent}/", ""))
    built = find(folder, NAME)
    plan = built.plan
    paths = [folder / part.name / str(plan.version) / MODEL_FILE for part in plan.submodels]
    row = dataclasses.replace(row, cut=True, tables=len(plan.tables), operators_left=tuple(_looping(paths)))
    try:
        run = joined(folder, plan, by_engine=True)  # RECSPLIT_BUILD_EMBEDDING_RUNTIME=native: by the engine
        error = _error([dataclasses.replace(case, inputs=as_rows(plan.bags, case.inputs)) for case in cases], run)
    except (RecsplitError, KeyError, ValueError, RuntimeError) as failure:
        return dataclasses.replace(row, reason=f"the parts fail: {short(failure)}")
    return dataclasses.replace(row, error=error)


def _error(cases: Sequence[Case], run: Run) -> float:
    """Largest relative error, over all outputs, of the model's own answers (the parts have a mark of unknown ids besides)."""
    return max(item.relative for item in check("torch - parts", cases, run, limit=EQUAL))


def _file_error(path: Path, cases: Sequence[Case]) -> float | None:
    """Largest relative error of the exported file, as onnxruntime runs it; None where it can't be run on these inputs."""
    try:
        return _error(cases, session(path))
    except Exception:  # onnxruntime raises its own kinds, undocumented
        return None


def _looping(paths: Sequence[Path]) -> list[str]:
    """Names of the operators in these models that loop, branch or hold sequences."""
    operators = set()
    for path in paths:
        model = onnx.load(path, load_external_data=False)
        graphs = [model.graph, *model.functions]
        while graphs:
            for node in graphs.pop().node:
                if node.op_type in LOOPING or "Sequence" in node.op_type:
                    operators.add(node.op_type)
                for attribute in node.attribute:
                    graphs += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
    return sorted(operators)


def _reason(stderr: str) -> str:
    """The error message in the tool's stderr, without its detail and hint."""
    lines = stderr.strip().splitlines()
    said = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return said[0] if said else (lines or ["nothing was said"])[-1]


def short(error: BaseException) -> str:
    """The kind and the first line of the innermost error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'nothing was said'}"[:300]


if __name__ == "__main__":
    model, tables, folder = sys.argv[1:]
    for row in rows(model, int(tables), Path(folder)):
        sys.stdout.write(json.dumps(dataclasses.asdict(row)) + "\n")
        sys.stdout.flush()
