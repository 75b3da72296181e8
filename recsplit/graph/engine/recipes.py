"""The recipe of a model that is cut: which reads make each tensor that crosses the boundary."""

from collections.abc import Sequence

import onnx_ir as ir

from recsplit.graph import border
from recsplit.graph.engine.reads import Read
from recsplit.graph.lower.collected import Lowering
from recsplit.plan.plan import Tensor
from recsplit.plan.recipe import Recipe


def recipe_of(lowering: Lowering, boundary: Sequence[ir.Value], embedding: ir.Model, *, marks: bool) -> Recipe | None:
    """The embedding model as the engine does it; None where it can't, for the reason that `lowering.reads` has then."""
    outputs: list[tuple[Tensor, Sequence[Read] | None]] = []
    for value in boundary:
        parts = lowering.packed.get(value)
        if parts is None:
            reads: Sequence[Read] | None = lowering.alone_reads.get(value)
        else:
            reads = [read for part in parts for read in part.reads] if all(part.reads for part in parts) else None
        outputs.append((border.tensor(value), reads))
    tensors = {value.name or "": border.tensor(value) for value in embedding.graph.inputs}
    return lowering.reads.recipe(outputs, lowering.fused, tensors, marks)
