"""The one form of the IR: functions inlined, constants as initializers, nothing idle, names unique."""

import onnx_ir as ir
from onnx_ir.passes import common

from recsplit.errors import InputError

MIN_OPSET = 13


def normalize(model: ir.Model, *, origin: str) -> None:
    """Bring `model` into the form that the rest of recsplit reads, in place; tensors are never copied.

    Raises InputError where the opset is too old or an input's batch dimension is fixed.
    """
    check_opset(model, origin)
    common.InlinePass()(model)
    drop_initializer_inputs(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.LiftSubgraphInitializersToMainGraphPass()(model)
    drop_dropout(model.graph)
    common.IdentityEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedFunctionsPass()(model)
    common.RemoveUnusedOpsetsPass()(model)
    common.NameFixPass()(model)
    check_inputs(model, origin)


def check_opset(model: ir.Model, origin: str) -> None:
    """Refuse opsets under 13: their Squeeze, ReduceSum and others take axes as attributes."""
    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx"))
    if opset is None or opset < MIN_OPSET:
        raise InputError(
            f"{origin} uses ONNX opset {opset}, and recsplit needs {MIN_OPSET} or newer",
            hint=f"export with opset_version=17, or convert: onnx.version_converter.convert_version(model, {MIN_OPSET})",
        )


def drop_initializer_inputs(model: ir.Model) -> None:
    """Initializers that an old exporter also lists as inputs are constants here."""
    inputs = model.graph.inputs
    for value in [value for value in inputs if value.is_initializer()]:
        inputs.remove(value)


def drop_dropout(graph: ir.Graph) -> None:
    """Dropout is the identity when serving."""
    for node in graph:
        if node.op_type == "Dropout" and node.domain == "" and not (len(node.outputs) > 1 and node.outputs[1].uses()):
            node.outputs[0].replace_all_uses_with(node.inputs[0], replace_graph_outputs=True)
            graph.remove(node, safe=True)


def check_inputs(model: ir.Model, origin: str) -> None:
    """Every input is a tensor of known rank whose first dimension, the batch, may vary."""
    inputs = model.graph.inputs
    if not inputs:
        raise InputError(f"{origin} has no inputs", hint="a recommender takes at least the ids as an input")
    for value in inputs:
        shape = value.shape
        if shape is None or len(shape) == 0:
            raise InputError(
                f"input {value.name!r} has no batch dimension",
                hint="the first dimension of every input is the batch; export again with inputs of shape [batch, ...]",
            )
        if isinstance(shape[0], int):
            raise InputError(
                f"the batch dimension of input {value.name!r} is fixed at {shape[0]}",
                hint=f"export again with a dynamic first dimension: dynamic_axes={{{value.name!r}: {{0: 'batch'}}}} "
                "or dynamic_shapes with torch.export.Dim.AUTO",
            )
