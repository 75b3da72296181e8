"""The one form of the IR: functions inlined, constants as initializers, nothing idle, lookups as Gather, names unique."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from recsplit.errors import InputError
from recsplit.graph import conditions, passes
from recsplit.graph.flow import int_of, ints_of
from recsplit.graph.infer import infer_shapes
from recsplit.graph.names import Names
from recsplit.load import opset
from recsplit.load.by_rows import read_by_rows
from recsplit.load.fold import fold_constants
from recsplit.load.squeezes import settle_squeezes
from recsplit.plan.dtypes import ONNX
from recsplit.plan.triton_releases import Release

MIN_OPSET = 13
#: What numpy, ONNX and Triton all know, and what can be drawn at random for a proof: numbers.
NUMBERS = frozenset(ir.DataType[onnx_name] for triton, onnx_name in ONNX.items() if triton != "BF16")


@dataclass
class Normalizing:
    """A model on its way to the one form, and what its inputs and outputs will be called."""

    model: ir.Model
    inputs: Sequence[str]
    outputs: Sequence[str]
    origin: str
    release: Release | None


def normalize(
    model: ir.Model,
    *,
    origin: str,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    release: Release | None = None,
) -> None:
    """Bring `model` into the form that the rest of recsplit reads, in place; large tensors are neither read nor copied.

    `inputs` and `outputs` rename the graph's own; without them the names stay what they are. `release` says how new the opset may be.

    Raises InputError where the opset is too old, or too new and can't be lowered, an input or output is no tensor of numbers, or the batch
    is fixed.
    """
    check_opset(model, origin)
    drop_initializer_inputs(model)
    check_inputs(model, origin)
    check_outputs(model, origin)
    state = Normalizing(
        model,
        inputs if inputs is not None else [value.name or "" for value in model.graph.inputs],
        outputs if outputs is not None else [value.name or "" for value in model.graph.outputs],
        origin,
        release,
    )
    passes.run(NORMALIZE, state, lambda state: [state.model])


def check_opset(model: ir.Model, origin: str) -> None:
    """Refuse opsets under 13, whose Squeeze, ReduceSum and others take axes as attributes, and those that onnx doesn't know yet."""
    version = model.opset_imports.get("", model.opset_imports.get("ai.onnx"))
    if version is None or version < MIN_OPSET:
        raise InputError(
            f"{origin} uses ONNX opset {version}, and recsplit needs {MIN_OPSET} or newer",
            hint="export it again with opset_version=17, or convert it with onnx.version_converter",
        )
    newest = onnx.defs.onnx_opset_version()
    if version > newest:
        raise InputError(
            f"{origin} uses ONNX opset {version}, and the newest that onnx {onnx.__version__} knows is {newest}",
            hint="export it again with opset_version=17, or try pip install --upgrade onnx onnxruntime",
        )


def check_inputs(model: ir.Model, origin: str) -> None:
    """Every input is a tensor of known rank whose first dimension, the batch, may vary."""
    if not model.graph.inputs:
        raise InputError(f"{origin} has no inputs", hint="a recommender takes at least the ids as an input")
    batches = {str(value.shape[0]) for value in model.graph.outputs if value.shape and isinstance(value.shape[0], ir.SymbolicDim)} - {
        "None"
    }
    for value in model.graph.inputs:
        check_numbers("input", value)
        if value.shape is None or len(value.shape) == 0:
            raise InputError(
                f"input {value.name!r} has no batch dimension",
                hint="the first dimension of every input is the batch; export again with inputs of shape [batch, ...]",
            )
        is_across = conditions.may_be_offsets(value.shape) or any(
            isinstance(size, ir.SymbolicDim) and size.value in batches for size in value.shape[1:]
        )
        if isinstance(value.shape[0], int) and not is_across:
            raise InputError(
                f"the batch dimension of input {value.name!r} is fixed at {value.shape[0]}",
                hint=f"export again with dynamic_axes={{{value.name!r}: {{0: 'batch'}}}}, or dynamic_shapes for the dynamo exporter",
            )


def check_outputs(model: ir.Model, origin: str) -> None:
    """There are outputs, and every one is a tensor of numbers."""
    if not model.graph.outputs:
        raise InputError(f"{origin} has no outputs", hint="export the model with what it answers as an output")
    for value in model.graph.outputs:
        check_numbers("output", value)


def check_numbers(kind: str, value: ir.Value) -> None:
    """An input or output is a tensor, and of a dtype that clients, numpy and the model all have."""
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise InputError(f"{kind} {value.name!r} is a {value.type}, not a tensor", hint=f"export the model with tensors as {kind}s")
    if value.dtype is not None and value.dtype not in NUMBERS:
        advice = (
            "map text to numbers before the model" if value.dtype == ir.DataType.STRING else "cast it in the model, to float32 for example"
        )
        raise InputError(f"{kind} {value.name!r} is {value.dtype.name}, which recsplit can't serve", hint=advice)


def drop_initializer_inputs(model: ir.Model) -> None:
    """Initializers that an old exporter also lists as inputs are constants here."""
    for value in [value for value in model.graph.inputs if value.is_initializer()]:
        model.graph.inputs.remove(value)


def drop_idle(model: ir.Model) -> None:
    """Remove Identity, Dropout and transpositions that move nothing, in every graph."""
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        moves_nothing = node.op_type == "Transpose" and _permutation(node) == sorted(_permutation(node))
        mask_unused = len(node.outputs) == 1 or not (node.outputs[1].uses() or node.outputs[1].is_graph_output())
        if node.domain == "" and (moves_nothing or (node.op_type == "Dropout" and mask_unused)):
            identity = ir.node("Identity", [node.inputs[0]], name=node.name)
            old, new = node.outputs[0], identity.outputs[0]
            new.name, new.type, new.shape = old.name, old.type, old.shape
            assert node.graph is not None
            ir.convenience.replace_nodes_and_values(node.graph, node, [node], [identity], [old], [new])
    common.IdentityEliminationPass()(model)


def _permutation(node: ir.Node) -> list[int]:
    """A Transpose's permutation; [1, 0], which is never in order, where it isn't given."""
    return list(node.attributes.get_ints("perm") or [1, 0])


def gather_rows(graph: ir.Graph) -> None:
    """GatherND on an initializer by one index, which torch.onnx makes of `weight[ids]`, is Gather by rows."""
    names = Names(graph)
    for node in list(graph):
        if node.op_type != "GatherND" or node.domain != "":
            continue
        table, indices = node.inputs
        if table is None or indices is None or not table.is_initializer() or int_of(node, "batch_dims", 0) != 0:
            continue
        if indices.shape is None or indices.shape[-1] != 1:
            continue
        maker = indices.producer()
        added = []
        if maker is not None and maker.op_type == "Unsqueeze" and _last_axis(maker, len(indices.shape)):
            ids = maker.inputs[0]
        else:
            int64 = ir.TensorType(ir.DataType.INT64)
            axes = ir.Value(name=names.fresh(f"{indices.name}_axes"), const_value=ir.tensor([-1]), type=int64, shape=ir.Shape([1]))
            graph.register_initializer(axes)
            squeeze = ir.node("Squeeze", [indices, axes], name=f"{node.name}_ids")
            ids = squeeze.outputs[0]
            ids.name, ids.type, ids.shape = names.fresh(f"{indices.name}_ids"), indices.type, ir.Shape(list(indices.shape)[:-1])
            added.append(squeeze)
        gather = ir.node("Gather", [table, ids], {"axis": 0}, name=node.name)
        old, new = node.outputs[0], gather.outputs[0]
        new.name, new.type, new.shape = old.name, old.type, old.shape
        ir.convenience.replace_nodes_and_values(graph, node, [node], [*added, gather], [old], [new])


def _last_axis(node: ir.Node, rank: int) -> bool:
    return ints_of(node, "axes", 1) in ([-1], [rank - 1])


def name_boundary(graph: ir.Graph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Name inputs and outputs; an output that is an input, or another output too, gets a copy of its own."""
    for value, name in zip(graph.inputs, inputs, strict=True):
        value.name = name
    seen: set[ir.Value] = set()
    for n, (value, name) in enumerate(zip(graph.outputs, outputs, strict=True)):
        if value.is_graph_input() or value.is_initializer() or value in seen:
            copied = ir.node("Identity", [value])
            copied.outputs[0].type, copied.outputs[0].shape = value.type, value.shape
            graph.append(copied)
            value = graph.outputs[n] = copied.outputs[0]
        value.name = name
        seen.add(value)


def name_everything(model: ir.Model) -> None:
    """Unique names for nodes and values; lookups of the contract are called after what they do; tensors as their values."""
    for node in model.graph:
        if node.domain == "recsplit":
            name = "embedding_bag" if node.op_type == "EmbeddingBag" else "jagged_bags"
            node.name = name
            if not node.outputs[0].is_graph_output():
                node.outputs[0].name = name
    common.NameFixPass()(model)
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        value.const_value.name = value.name


def _lower_opset(model: ir.Model, release: Release | None, origin: str) -> None:
    if release is None or not opset.needs_lowering(model, release):
        return
    opset.write_out(model, release)
    _inline_functions(model)
    _lift_constants(model)
    infer_shapes(model)
    opset.lower(model, release, origin)


def _inline_functions(model: ir.Model) -> None:
    if model.functions:
        common.InlinePass()(model)


def _lift_constants(model: ir.Model) -> None:
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.LiftSubgraphInitializersToMainGraphPass()(model)


def _remove_unused(model: ir.Model) -> None:
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedFunctionsPass()(model)
    common.RemoveUnusedOpsetsPass()(model)
    common.ClearMetadataAndDocStringPass()(model)


#: How a model comes to its one form. Shapes are inferred again once axes are named: more can be told then.
NORMALIZE: tuple[passes.Pass[Normalizing], ...] = (
    passes.Pass("inline functions", lambda state: _inline_functions(state.model), ensures=(conditions.NO_FUNCTIONS,)),
    passes.Pass("lift constants", lambda state: _lift_constants(state.model), ensures=(conditions.NO_CONSTANTS,)),
    passes.Pass("infer shapes", lambda state: infer_shapes(state.model), (conditions.NO_FUNCTIONS,), (conditions.SHAPES_INFERRED,)),
    passes.Pass(
        "lower the opset",
        lambda state: _lower_opset(state.model, state.release, state.origin),
        (conditions.NO_FUNCTIONS, conditions.SHAPES_INFERRED),
        (conditions.NO_FUNCTIONS, conditions.NO_CONSTANTS, conditions.SHAPES_INFERRED),
    ),
    passes.Pass("drop idle nodes", lambda state: drop_idle(state.model), ensures=(conditions.NOTHING_IDLE,)),
    passes.Pass("gather rows", lambda state: gather_rows(state.model.graph), (conditions.SHAPES_INFERRED,), (conditions.SHAPES_INFERRED,)),
    passes.Pass("settle squeezes", lambda state: settle_squeezes(state.model), (conditions.SHAPES_INFERRED,), (conditions.NOTHING_IDLE,)),
    passes.Pass("infer shapes again", lambda state: infer_shapes(state.model), ensures=(conditions.SHAPES_INFERRED,)),
    passes.Pass("fold constants", lambda state: fold_constants(state.model), (conditions.SHAPES_INFERRED, conditions.NO_CONSTANTS)),
    # What was folded is known now: the target of an Expand, the numbers that ids are compared with.
    passes.Pass("read by rows", lambda state: read_by_rows(state.model), (conditions.SHAPES_INFERRED,)),
    passes.Pass("infer shapes of rows", lambda state: infer_shapes(state.model), ensures=(conditions.SHAPES_INFERRED,)),
    passes.Pass("remove what nothing reads", lambda state: _remove_unused(state.model)),
    passes.Pass(
        "name the boundary",
        lambda state: name_boundary(state.model.graph, state.inputs, state.outputs),
        ensures=(conditions.BATCHED_INPUTS,),
    ),
    passes.Pass(
        "name everything",
        lambda state: name_everything(state.model),
        (conditions.NO_FUNCTIONS, conditions.NO_CONSTANTS, conditions.NOTHING_IDLE),
        (conditions.UNIQUE_NAMES,),
    ),
)
