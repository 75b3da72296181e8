"""The interfaces of the parts: names and dtypes that clients see, measured shapes, NaN for marked rows, inputs that nothing reads."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from recsplit.errors import InputError
from recsplit.graph import measure
from recsplit.graph.emit import Emit
from recsplit.graph.find.row_lookups import RowLookup
from recsplit.graph.flow import upstream
from recsplit.graph.names import Names
from recsplit.plan.dtypes import TRITON
from recsplit.plan.plan import Tensor


def reserve(model: ir.Model, name: str) -> None:
    """Free the name of an output of ours: inner values and weights of that name get another. Raises InputError for inputs and outputs."""
    if any(value.name == name for value in (*model.graph.inputs, *model.graph.outputs)):
        raise InputError(
            f"the model has an input or output {name!r}, as the output that marks rows with unknown ids is called", hint="rename it"
        )
    names = Names(model.graph)
    inner = [value for node in model.graph for value in node.outputs if value.name == name]
    weights = [value for value in model.graph.initializers.values() if value.name == name]
    for value in (*inner, *weights):
        value.name = names.fresh(name)


def narrow_inputs(emit: Emit, lookups: Sequence[RowLookup]) -> None:
    """INT64 inputs that carry ids become INT32; what else reads them gets a cast."""
    for value in tuple(emit.graph.inputs):
        if value.dtype != ir.DataType.INT64 or not any(value in upstream(lookup.ids) for lookup in lookups):
            continue
        uses = list(value.uses())
        value.type = ir.TensorType(ir.DataType.INT32)  # a new one: other values may share the old
        wide = emit.cast(value, ir.DataType.INT64)
        wide.dtype, wide.shape = ir.DataType.INT64, value.shape
        for use in uses:
            use.node.replace_input_with(use.idx, wide)


def measure_interface(model: ir.Model, boundary: Sequence[ir.Value], lengths: Sequence[str]) -> None:
    """Write measured shapes on the boundary and the outputs. Raises InputError where one has no batch dimension."""
    values = [*boundary, *model.graph.outputs]
    for value, shape in zip(values, measure.shapes(model, values, zeros=lengths), strict=True):
        if not shape or shape[0] != "batch":
            raise InputError(
                f"output {value.name!r} has no batch dimension: its shape is {list(shape)} whatever the batch",
                hint="make the first dimension of every output the batch, for Triton cuts answers along it",
            )
        value.shape = ir.Shape(["batch", *(None if size == -1 else size for size in shape[1:])])


def forget_symbols(model: ir.Model) -> None:
    """Only what Triton promises stays of the named sizes: the batch is one size for all inputs, every other one is a size of its own.

    Exporters give one name to sizes that happened to be the same in an example, and inner values keep names from before the inputs were
    changed; onnxruntime then reuses one value's memory for another's, which fails where they differ.
    """
    for value in model.graph.inputs:
        assert value.shape is not None
        value.shape = ir.Shape(
            ["batch", *(size if isinstance(size, int) else f"{value.name}_{axis}" for axis, size in enumerate(value.shape[1:], 1))]
        )
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.shape is not None and not value.is_graph_output():
                value.shape = ir.Shape([size if isinstance(size, int) else None for size in value.shape])


def poison(emit: Emit, marks: ir.Value) -> None:
    """NaN in the float outputs of marked rows, so that nobody mistakes a clamped id's score for an answer."""
    bad = emit.op("GreaterOrEqual", emit.op("Gather", marks, emit.const([0]), axis=1), emit.const(0))
    for index, output in enumerate(tuple(emit.graph.outputs)):
        if output is marks or output.dtype is None or not output.dtype.is_floating_point() or output.shape is None:
            continue
        rank = len(output.shape)
        flag = bad if rank == 2 else emit.reshape(bad, [-1] + [1] * (rank - 1))
        nan = emit.const(np.array(np.nan), output.dtype.numpy(), name="nan")
        poisoned = emit.op("Where", flag, nan, output)
        emit.names.hand_over(output, poisoned, "unmarked")
        poisoned.dtype, poisoned.shape = output.dtype, output.shape
        emit.graph.outputs[index] = poisoned


def take_unread(dense: ir.Model, model: ir.Model, embedding: ir.Model) -> None:
    """Inputs that nothing reads go to the dense model: clients may send them, and an ensemble has no input without a step."""
    known = {value.name for part in (dense, embedding) for value in part.graph.inputs}
    for value in model.graph.inputs:
        if value.name not in known:
            dense.graph.inputs.append(ir.val(value.name or "", type=value.type, shape=value.shape))


def tensor(value: ir.Value) -> Tensor:
    """An input or output of a part as Triton has it, the batch left out; varying dims are -1."""
    assert value.name is not None and value.dtype is not None and value.shape is not None
    return Tensor(value.name, TRITON[value.dtype.name], tuple(size if isinstance(size, int) else -1 for size in value.shape[1:]))
