"""What is simplified of an exported graph before it is read: nothing that could change a value.

onnxscript's whole optimizer (`optimize_ir`) isn't used. Of its rewrite rules some drop `x + c` and `x * (1 + c)` for c up to 1e-8, so that
the epsilon of a masked mean is lost; some fold batch normalizations into weights, which rounds otherwise; some make Clip of Min and Max,
which treats NaN, and INT64 from 2**31 on, otherwise. What runs, and why it is exact:

* InlinePass: a function's body in the place of its call.
* fold_constants_ir: what follows from shapes, sequences and branches that are settled; and operators on constants, but only those that
  every implementation answers alike (fold.is_exact).
* One rewrite rule, materialize_reshape_shape: a Reshape whose sizes are all known but one, however they were computed, says them. It
  moves no element. (Else the dense model would take an input of ids only to learn the batch size of it.)
* LiftConstantsToInitializersPass, LiftSubgraphInitializersToMainGraphPass: constants move.
* DeduplicateInitializersPass: small constants that are equal byte for byte become one.
* CommonSubexpressionEliminationPass: one operator on the same values is computed once; random ones are left alone.
* RemoveUnused*Pass, OutputFixPass, NameFixPass: no value is touched.
"""

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants_ir
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules.common import materialize_reshape_shape_rule

from recsplit.graph.flow import table_shape
from recsplit.graph.source_tables import equal, stand_for
from recsplit.load.fold import is_exact

#: Never compute with a table: its transpose, say, would be a second copy in memory.
FOLD_LIMIT_BYTES = 1 << 20

#: What the first round of folding settles lets a second one settle more.
_ROUNDS = 2


def simplify(model: ir.Model) -> None:
    """Simplify an exported model in place."""
    common.InlinePass()(model)
    for _ in range(_ROUNDS):
        fold_constants_ir(model, onnx_shape_inference=True, should_fold=may_fold)
        RewritePass([materialize_reshape_shape_rule])(model)
        common.RemoveUnusedNodesPass()(model)
    for tidy in (
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        _deduplicate,
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    ):
        tidy(model)


def _deduplicate(model: ir.Model) -> None:
    """Let small constants that are equal be one; a table that stands for another too says so."""
    before = {value.name or "": value for value in model.graph.initializers.values() if table_shape(value) is not None}
    common.DeduplicateInitializersPass()(model)
    kept = [value for name, value in before.items() if name in model.graph.initializers]
    for name, gone in before.items():
        if name not in model.graph.initializers:
            stand_for([value for value in kept if equal(value, gone)], gone)


def may_fold(node: ir.Node) -> bool | None:
    """False where folding might round otherwise than running does, or would copy a table; None leaves it to onnxscript."""
    tensors = [value.const_value for value in node.inputs if value is not None]
    if any(tensor is not None and tensor.nbytes > FOLD_LIMIT_BYTES for tensor in tensors):
        return False
    return None if is_exact(node) else False
