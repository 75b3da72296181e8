"""One value in the place of another."""

import onnx_ir as ir

from recsplit.graph.emit import Emit


def stand_in(emit: Emit, old: ir.Value, new: ir.Value) -> None:
    """Let `new` be what `old` was, everywhere: its name, type and shape."""
    new.type, new.shape = old.type, old.shape
    emit.names.hand_over(old, new, "before")
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
