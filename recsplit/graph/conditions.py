"""What can hold of a model, as conditions for passes: each is one walk over the graph, and reads no tensor."""

from collections import Counter
from collections.abc import Iterator, Sequence

import onnx_ir as ir

from recsplit.graph.flow import CONTROL, SEQUENCE
from recsplit.graph.infer import SHAPELESS
from recsplit.graph.passes import Condition

#: Operators that neither sub-model may have: TensorRT rejects them, and they are what makes exports slow.
UNSERVED = CONTROL - {"Scan"} | SEQUENCE


def may_be_offsets(shape: Sequence[object] | ir.Shape) -> bool:
    """Whether this is the shape [features, batch], in which facebookresearch/dlrm takes its offsets."""
    return len(shape) == 2 and not isinstance(shape[1], int)


def _functions(model: ir.Model) -> str | None:
    return f"function {next(iter(model.functions))}" if model.functions else None


def _constants(model: ir.Model) -> str | None:
    return next((f"Constant {node.name!r}" for node in model.graph if node.op_type == "Constant" and node.domain == ""), None)


def _idle(model: ir.Model) -> str | None:
    """Identity that copies an input or a weight to an output stays: a value has one name."""
    copies = (node for node in model.graph if node.op_type == "Identity" and node.domain == "")
    return next((f"Identity {node.name!r}" for node in copies if not node.outputs[0].is_graph_output()), None)


def _shapeless(model: ir.Model) -> str | None:
    known = model.graph.meta.get(SHAPELESS)
    if known is None:
        return "shapes were never inferred"
    return next((f"{value.name!r} has no shape" for value in _made(model) if value.shape is None and value not in known), None)


def _repeated(model: ir.Model) -> str | None:
    values = [*model.graph.inputs, *model.graph.initializers.values(), *_made(model)]
    count = Counter(value.name for value in dict.fromkeys(values))
    name, times = count.most_common(1)[0] if count else ("", 1)
    if times > 1 or None in count:
        return f"{times} values are called {name!r}" if times > 1 else "a value has no name"
    return next((f"{value.name!r} is registered as {key!r}" for key, value in model.graph.initializers.items() if value.name != key), None)


def _unsorted(model: ir.Model) -> str | None:
    earlier_outputs: set[ir.Value] = set()
    for node in model.graph:
        for value in node.inputs:
            if value is not None and value.producer() is not None and value not in earlier_outputs:
                return f"{node.op_type} {node.name!r} reads {value.name!r} before it is made"
        earlier_outputs.update(node.outputs)
    return None


def _bags(model: ir.Model) -> str | None:
    return next((f"{node.op_type} {node.name!r}" for node in model.graph if node.domain == "recsplit"), None)


def _unserved(model: ir.Model) -> str | None:
    return next((f"{node.op_type} {node.name!r}" for node in model.graph.all_nodes() if node.op_type in UNSERVED), None)


def _fixed_inputs(model: ir.Model) -> str | None:
    for value in model.graph.inputs:
        if value.shape is None or len(value.shape) == 0:
            return f"input {value.name!r} has no dimensions"
        if all(isinstance(size, int) for size in value.shape):
            return f"input {value.name!r} has {value.shape[0]} rows"
    return None


def _fixed_outputs(model: ir.Model) -> str | None:
    for value in model.graph.outputs:
        if value.shape is None or len(value.shape) == 0 or isinstance(value.shape[0], int):
            return f"output {value.name!r} has the shape {value.shape}"
    return None


def _made(model: ir.Model) -> Iterator[ir.Value]:
    return (value for node in model.graph for value in node.outputs)


NO_FUNCTIONS = Condition("functions are inlined", _functions)
NO_CONSTANTS = Condition("constants are initializers", _constants)
NOTHING_IDLE = Condition("no node is idle", _idle)
SHAPES_INFERRED = Condition("shapes are inferred", _shapeless)
UNIQUE_NAMES = Condition("names are unique", _repeated)
SORTED = Condition("nodes are sorted", _unsorted)
NO_BAGS = Condition("no lookup of recsplit's own domain is left", _bags)
SERVED = Condition("no loop, branch or sequence is left", _unserved)
#: That the batch is the first dimension is another matter: load/batch_first sees to that, and [features, batch], in which
#: facebookresearch/dlrm takes its offsets, stays.
BATCHED_INPUTS = Condition("a dimension of every input is the batch", _fixed_inputs)
BATCHED_OUTPUTS = Condition("the first dimension of every output is the batch", _fixed_outputs)
