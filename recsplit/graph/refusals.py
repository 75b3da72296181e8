"""What can't be cut, and why: the reasons that `recsplit inspect` shows, as errors."""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from recsplit.errors import InputError
from recsplit.graph.conditions import UNSERVED
from recsplit.graph.find.candidates import Candidate
from recsplit.graph.loops.branches import squeezes_what_is_one


def no_lookup(candidates: Sequence[Candidate]) -> InputError:
    """The error for a model of which nothing can be cut out."""
    if not candidates:
        hint = "a table is a FLOAT, DOUBLE or FLOAT16 tensor [rows, dim] of the model that ids read: nn.Embedding, Gather"
        return InputError("the model reads no embedding table", hint=hint)
    return InputError(
        "the model has no lookup that can be cut out", hint="recsplit inspect tells why for every candidate", detail=reasons(candidates)
    )


def refuse_control(model: ir.Model) -> None:
    """Raise InputError for loops, branches and sequences, which have no place in the parts."""
    for node in model.graph.all_nodes():
        condition = node.inputs[0] if node.op_type == "If" else None
        if condition is not None and squeezes_what_is_one(condition, node.attributes["then_branch"].as_graph()):
            raise InputError(
                f"If {node.name!r} squeezes a dimension away where it is 1, and leaves it where it is more",
                hint="in forward, squeeze an axis that is 1 in every request, x.squeeze(-1) for example, and export again",
            )
        if node.op_type in UNSERVED:
            raise InputError(
                f"the model still has {node.op_type} {node.name!r}, which neither sub-model may have",
                hint="recsplit inspect tells why it isn't read as a bag; build from the .pt2 or the factory instead of the .onnx",
            )


def refuse_left(model: ir.Model, refused: Mapping[ir.Node, str]) -> None:
    """Raise InputError for bags that stay in the model: they are no standard operators."""
    for node in model.graph:
        if node.domain == "recsplit" and node in refused:
            raise InputError(
                f"{node.op_type} {node.name!r} can't be cut out: {refused[node]}", hint="build from the factory, or use fixed-length bags"
            )


def reasons(candidates: Sequence[Candidate]) -> str:
    """One line a candidate that isn't cut out: node, table and reason."""
    return "\n".join(f"{item.kind} {item.node.name!r} on {item.table!r}: {item.reason}" for item in candidates if item.reason)
