"""From a flat torch module to the IR: torch.export, bags kept whole, torch.onnx."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from onnxscript.optimizer import optimize_ir

from recsplit.errors import RecsplitError
from recsplit.load.arrays import Array
from recsplit.load.bags import keep_bags
from recsplit.load.flat import Eager
from recsplit.load.normalize import normalize

OPSET = 20
FOLD_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Exported:
    """A torch source as IR, with its example inputs by graph input name and the source itself to run."""

    model: ir.Model
    example: Mapping[str, Array]
    run: Eager


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's warnings and log lines away from the user; errors still raise."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def export(module: torch.nn.Module, tensors: Sequence[torch.Tensor], shapes: Sequence[Any]) -> torch.export.ExportedProgram:
    """torch.export of forward(*tensors) with one dynamic_shapes entry per tensor.

    Raises RecsplitError with torch's own words as detail.
    """
    failure: Exception | None = None
    for strict in (False, True):
        try:
            # backed_size_oblivious: an example batch of 1 must not become the only batch.
            with quiet(), torch.no_grad(), torch.fx.experimental._config.patch(backed_size_oblivious=True):
                return torch.export.export(module, tuple(tensors), dynamic_shapes=(tuple(shapes),), strict=strict)
        except Exception as error:
            failure = failure or error
    raise RecsplitError(
        "torch.export can't trace the module",
        hint="the usual causes: branches on tensor values, .item(), numpy inside forward; try torch.export.export(module, example_inputs)",
        detail=str(failure),
    ) from failure


def to_ir(program: torch.export.ExportedProgram, inputs: Sequence[str], outputs: Sequence[str], origin: str) -> ir.Model:
    """The program as an onnx_ir model in the form of the contract, with the given input and output names."""
    keep_bags(program)
    try:
        with quiet(), torch.no_grad():
            onnx_program = torch.onnx.export(
                program, dynamo=True, verbose=False, optimize=False, opset_version=OPSET, input_names=list(inputs), output_names=list(outputs)
            )
    except Exception as error:
        raise RecsplitError(f"torch.onnx can't translate {origin}", detail=_root(error)) from error
    assert onnx_program is not None
    model = onnx_program.model
    for value in list(model.graph.initializers.values()):
        value.name = (value.name or "").removeprefix("module.")  # Flat's attribute, not the user's
    with quiet():
        optimize_ir(model, should_fold=_should_fold, onnx_shape_inference=True)
    normalize(model, origin=origin)
    return model


def _should_fold(node: ir.Node) -> bool | None:
    """Never compute with a table: folding its transpose, say, would hold it in memory twice."""
    large = any(value is not None and value.const_value is not None and value.const_value.nbytes > FOLD_LIMIT_BYTES for value in node.inputs)
    return False if large else None


def _root(error: BaseException) -> str:
    """The words of the first error in a chain, which name the operator."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)
