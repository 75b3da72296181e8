"""What crosses into the shards besides places: masks, counts, weights; and what they make themselves, such as shapes."""

from dataclasses import dataclass

import onnx_ir as ir

from recsplit.graph import measure
from recsplit.graph.shards.joins import Followed


@dataclass(frozen=True)
class Side:
    """A value that crosses into the shards besides places, by its name, and the name under which it crosses."""

    value: str
    name: str
    dtype: ir.DataType
    dims: tuple[measure.Dim, ...]


def free(name: str, used_names: set[str]) -> str:
    """`name`, or where `used_names` has it the first numbered one that is free; added to `used_names`."""
    free_name = next(item for item in (name, *(f"{name}_{number}" for number in range(2, len(used_names) + 3))) if item not in used_names)
    used_names.add(free_name)
    return free_name


def sides(followed: Followed, measured: measure.Measured, used_names: set[str]) -> tuple[list[Side], dict[str, list[int]]]:
    """What the shards need besides places, down to what has a batch dimension; and shapes of which only the batch varies, by name."""
    stack = [value for node in followed.nodes for value in node.inputs if value is not None and value not in followed.derived]
    side_values: dict[ir.Value, None] = {}
    known: dict[str, list[int]] = {}
    seen: set[ir.Value] = set()
    while stack:
        level = [value for value in dict.fromkeys(stack) if value not in seen and not value.is_initializer()]
        seen.update(level)
        stack = []
        for value in measured.all(level):
            node = value.producer()
            if node is None or measured.dims(value)[:1] == ("batch",):
                side_values[value] = None
            elif node.op_type == "Shape" and not node.attributes and (sizes := _fixed(measured, node.inputs[0])) is not None:
                known[value.name or ""] = sizes
            else:
                stack += [item for item in node.inputs if item is not None]
    shard_sides: list[Side] = []
    for value in side_values:
        # A client's input goes from the client to the shard, under its own name.
        name = value.name or "" if value.is_graph_input() else free(f"pooling_{len(shard_sides)}", used_names)
        shard_sides.append(Side(value.name or "", name, measured.dtype(value), measured.dims(value)))
    return shard_sides, known


def _fixed(measured: measure.Measured, value: ir.Value | None) -> list[int] | None:
    """The dims of a value behind the batch, None where one varies."""
    dims = measured.dims(value) if value is not None else ()
    return [int(size) for size in dims[1:]] if dims[:1] == ("batch",) and -1 not in dims else None
