"""Each id looked up once, and the vectors spread again: the same as looking up every id.

Unique mixes the rows of a batch, so no part of it could be batched; without it a vector depends on its own id alone.
"""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from recsplit.graph.emit import Emit
from recsplit.graph.flow import int_of
from recsplit.load.by_rows.stand_in import stand_in

#: Only gives the places another shape or dtype, and reads nothing of them.
_SHAPES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Identity"})


def rows_of_uniques(emit: Emit) -> None:
    """Gather(Gather(table, uniques), places) becomes Gather(table, ids), where `uniques` and `places` are what one Unique made of `ids`."""
    for unique in list(emit.graph):
        if unique.op_type != "Unique" or unique.domain != "" or len(unique.outputs) < 3 or unique.inputs[0] is None:
            continue
        if "axis" in unique.attributes and len(unique.inputs[0].shape or ()) != 1:
            continue
        ids, uniques, places = unique.inputs[0], unique.outputs[0], unique.outputs[2]
        flat: dict[ir.Value, ir.Value] = {}
        for lookup in [use.node for use in uniques.uses() if _reads(use.node) and use.idx == 1]:
            for spread in [use.node for use in lookup.outputs[0].uses() if _reads(use.node) and use.idx == 0]:
                way = _way(spread.inputs[1], places)
                if way is None:
                    continue
                if places not in flat:
                    flat[places] = emit.reshape(ids, [-1])
                    flat[places].type = ids.type
                every = _again(emit, way, flat)
                stand_in(emit, spread.outputs[0], emit.op("Gather", lookup.inputs[0], every, axis=0, name="vectors"))


def _reads(node: ir.Node) -> bool:
    return node.op_type == "Gather" and node.domain == "" and int_of(node, "axis", 0) == 0


def _way(value: ir.Value | None, places: ir.Value) -> list[ir.Node] | None:
    """The nodes that lead from `places` to `value`, in order, where they are only shapes; None where there is no such way."""
    nodes: list[ir.Node] = []
    while value is not None and value is not places:
        node = value.producer()
        if node is None or node.domain != "" or node.op_type not in _SHAPES:
            return None
        nodes.insert(0, node)
        value = node.inputs[0]
    return None if value is None else nodes


def _again(emit: Emit, way: list[ir.Node], start: Mapping[ir.Value, ir.Value]) -> ir.Value:
    """The same nodes once more, from another value on; of casts none, for ids keep their dtype."""
    (value,) = start.values()
    for node in way:
        if node.op_type != "Cast":
            attributes: dict[str, Any] = dict(node.attributes)
            shaped = emit.op(node.op_type, value, *node.inputs[1:], **attributes)
            shaped.type, shaped.shape = value.type, node.outputs[0].shape
            value = shaped
    return value
