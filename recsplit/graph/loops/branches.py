"""Branches that only ask for shapes: the legacy exporter's squeeze becomes an If that always goes the same way."""

import numpy as np
import onnx_ir as ir

from recsplit.graph import measure
from recsplit.graph.extract import evaluate
from recsplit.graph.flow import Array, Flow
from recsplit.graph.names import Names


def settle_branches(model: ir.Model) -> None:
    """Put the branch taken in the place of every If whose condition is the same at any batch size, in place.

    A condition qualifies if no input's data reaches it, only shapes, and if it is the same for batches of 1, 3 and 4 and two
    sizes of every other varying dimension. An If that stays is refused later, by name.
    """
    for node in [node for node in model.graph if node.op_type == "If"]:
        condition = node.inputs[0]
        if condition is None or Flow(model.graph).sources(condition):
            continue
        answers = [_answer(model, condition, batch, length) for batch, length in ((1, 5), (3, 5), (4, 7))]
        if any(answer is None for answer in answers) or len({bool(answer.reshape(-1)[0]) for answer in answers if answer is not None}) != 1:
            continue
        condition_holds = bool(answers[0].reshape(-1)[0]) if answers[0] is not None else False
        _inline(model.graph, node, node.attributes["then_branch" if condition_holds else "else_branch"].as_graph())


def _answer(model: ir.Model, condition: ir.Value, batch: int, length: int) -> Array | None:
    try:
        return evaluate(model, [condition], measure.feeds(model, batch, length, np.random.default_rng(0)), shapes_only=True)[0]
    except Exception:  # onnxruntime's own kinds, undocumented: a condition that can't be evaluated is not settled
        return None


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
