"""Branches that only ask for shapes: the legacy exporter's squeeze becomes an If that always goes the same way."""

import numpy as np
import onnx_ir as ir

from recsplit.graph import measure
from recsplit.graph.extract import evaluate
from recsplit.graph.flow import Flow, constant, ints_of
from recsplit.graph.names import Names

#: (batch, every other varying dimension) at which a condition is asked for.
_LARGER, _ONE_ROW, _LENGTH_ONE = ((3, 5), (4, 7)), (1, 5), (3, 1)


def settle_branches(model: ir.Model) -> None:
    """Put the branch taken in the place of every If that always goes the same way, in place.

    A condition qualifies if no input's data reaches it, only shapes, and if it is the same at any batch size and any size of the other
    varying dimensions. Where it asks whether the batch is one row, to squeeze that away, the batch stays, as in every larger one. An
    If that stays is refused later, by name.
    """
    for node in [node for node in model.graph if node.op_type == "If"]:
        condition = node.inputs[0]
        if condition is None or Flow(model.graph).sources(condition):
            continue
        larger = {_answer(model, condition, *sizes) for sizes in _LARGER}
        others = {"one row": _answer(model, condition, *_ONE_ROW), "length one": _answer(model, condition, *_LENGTH_ONE)}
        if len(larger) != 1 or None in larger or others["length one"] not in (None, *larger):
            continue
        (holds,) = larger
        if others["one row"] in larger or (others["one row"] is not None and squeezes_what_is_one(condition, _branch(node, not holds))):
            _inline(model.graph, node, _branch(node, bool(holds)))


def _branch(node: ir.Node, holds: bool) -> ir.Graph:
    return node.attributes["then_branch" if holds else "else_branch"].as_graph()


def squeezes_what_is_one(condition: ir.Value, branch: ir.Graph) -> bool:
    """Whether the branch is Squeeze(x, axis), and the condition that axis of x being 1."""
    inner = [node for node in branch if node.op_type != "Constant"]
    equal = condition.producer()
    if [node.op_type for node in inner] != ["Squeeze"] or equal is None or equal.op_type != "Equal":
        return False
    sizes = [value.producer() for value in equal.inputs if value is not None and constant(value) is None]
    ones = [int(array.reshape(-1)[0]) for value in equal.inputs if (array := constant(value)) is not None and array.size == 1]
    if len(sizes) != 1 or ones != [1] or sizes[0] is None or sizes[0].op_type != "Gather":
        return False
    shape, axis = sizes[0].inputs
    asked = shape.producer() if shape is not None else None
    axes = ints_of(inner[0], "axes", 1)
    index = constant(axis)
    if asked is None or asked.op_type != "Shape" or index is None or asked.inputs[0] is not inner[0].inputs[0]:
        return False
    return axes == [int(item) for item in index.reshape(-1)]


def _answer(model: ir.Model, condition: ir.Value, batch: int, length: int) -> bool | None:
    try:
        (answer,) = evaluate(model, [condition], measure.feeds(model, batch, length, np.random.default_rng(0)), shapes_only=True)
    except Exception:  # onnxruntime's own kinds, undocumented: a condition that can't be evaluated is not settled
        return None
    return bool(answer.reshape(-1)[0])


def _inline(graph: ir.Graph, node: ir.Node, branch: ir.Graph) -> None:
    """The branch's nodes instead of the If; values of the main graph that it captured are already its inputs."""
    names = Names(graph)
    outputs = list(branch.outputs)
    for value in tuple(branch.initializers.values()):
        del branch.initializers[value.name or ""]
        if value.name in graph.initializers:
            value.name = names.fresh(f"{value.name}")
        graph.register_initializer(value)
    inner = list(branch)
    branch.outputs.clear()
    branch.remove(inner)
    graph.insert_before(node, inner)
    for old, new in zip(node.outputs, outputs, strict=True):
        if old.is_graph_output():
            names.hand_over(old, new, "if")
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
