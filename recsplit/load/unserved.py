"""What no served model may compute with: refused with its true reason, before an exporter or onnxruntime fails on it."""

import onnx_ir as ir

from recsplit.errors import InputError

#: Operators of which onnxruntime has bfloat16 on a CPU: they move numbers, or turn them into others that it computes with.
_MOVES = frozenset(
    "Cast CastLike Concat Constant ConstantOfShape Expand Flatten Gather GatherElements GatherND Identity LayerNormalization Reshape "
    "Shape Size Slice Split Squeeze Tile Transpose Unsqueeze Where".split()
)


def refuse_bfloat16(model: ir.Model) -> None:
    """Raise InputError where a node computes in bfloat16: the proof runs the model with onnxruntime on a CPU, which can't."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        values = [value for value in (*node.inputs, *node.outputs) if value is not None]
        if node.domain == "" and node.op_type not in _MOVES and any(value.dtype == ir.DataType.BFLOAT16 for value in values):
            raise InputError(
                f"the model computes in bfloat16 ({node.op_type} {node.name!r}), for which onnxruntime has no kernels on a CPU",
                hint="build from a float32 model: no torch.autocast in forward, and module.float() in the factory",
            )
