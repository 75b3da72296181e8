"""Inputs whose batch is another dimension than the first, [tables, batch] say: clients send it first, and the model turns it back."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from recsplit.errors import InputError
from recsplit.graph.flow import is_lookup_shaped, upstream
from recsplit.graph.names import Names
from recsplit.load import Loaded
from recsplit.load.arrays import Array, SourceRun


def turn(loaded: Loaded) -> Loaded:
    """`loaded` with the batch first in every input, its model changed in place; its example and its source take the same.

    Offsets [features, batch], which the rest of recsplit reads as they are, stay.
    """
    graph = loaded.model.graph
    batches = {name for value in graph.outputs if value.shape and (name := _name(value.shape, 0))}
    turned: dict[str, int] = {}
    for value in list(graph.inputs):
        axis = _batch_axis(graph, value, batches)
        if axis and value.name:
            _transpose(graph, value, axis)
            turned[value.name] = axis
    if not turned:
        return loaded
    example = loaded.example
    notes = tuple(
        f"Note: the batch is dimension {axis} of the source's input {name!r}; clients send it first, as {_shape_text(graph, name)}."
        for name, axis in turned.items()
    )
    if example is not None:
        example = {name: np.moveaxis(data, turned[name], 0) if name in turned else data for name, data in example.items()}
    return dataclasses.replace(loaded, run=_Turned(loaded.run, turned), example=example, notes=(*loaded.notes, *notes))


@dataclass(frozen=True)
class _Turned:
    """A source whose inputs have their batch at `axes`, as one that has it first."""

    source: SourceRun
    axes: Mapping[str, int]

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return self.source({name: np.moveaxis(data, 0, self.axes[name]) if name in self.axes else data for name, data in inputs.items()})

    def weight(self, name: str) -> Array | None:
        return self.source.weight(name)

    def with_weights(self, weights: Mapping[str, Array]) -> "_Turned":
        return _Turned(self.source.with_weights(weights), self.axes)


def refuse_across(model: ir.Model) -> None:
    """Raise InputError where the batch of an input is still another dimension than the first; loops that are bags must be nodes."""
    for value in model.graph.inputs:
        first = value.shape[0] if value.shape else None
        if isinstance(first, int) and not _is_of_offsets(model.graph, value):
            raise InputError(
                f"the batch is dimension 1 of input {value.name!r}: its first dimension is {first} in every request",
                hint=f"take [batch, {first}] in forward and transpose it there, or take an input of its own for each table in a list",
            )


def _name(shape: ir.Shape, axis: int) -> str | None:
    size = shape[axis]
    return size.value if isinstance(size, ir.SymbolicDim) else None


def _batch_axis(graph: ir.Graph, value: ir.Value, batches: set[str]) -> int:
    """The dimension of an input that is the batch, as the outputs name it; 0 too where nothing says another."""
    shape = value.shape
    if shape is None or len(shape) < 2 or _name(shape, 0) in batches or _is_of_offsets(graph, value):
        return 0
    return next((axis for axis in range(1, len(shape)) if _name(shape, axis) in batches), 0)


def _is_of_offsets(graph: ir.Graph, value: ir.Value) -> bool:
    """Whether the input may be [features, batch] offsets: whole numbers that no lookup reads as ids."""
    may_be_offsets = value.shape is not None and len(value.shape) == 2 and value.dtype is not None and value.dtype.is_integer()
    return may_be_offsets and not _is_of_ids(graph, value)


def _is_of_ids(graph: ir.Graph, value: ir.Value) -> bool:
    """Whether the input is read as ids by a lookup, not only as the offsets of one."""
    lookups = [node for node in graph if is_lookup_shaped(node) and len(node.inputs) > 1 and node.inputs[1] is not None]
    return any(value in upstream(node.inputs[1], data_only=True) for node in lookups if node.inputs[1] is not None)


def _transpose(graph: ir.Graph, value: ir.Value, axis: int) -> None:
    assert value.shape is not None
    order = [axis, *(other for other in range(len(value.shape)) if other != axis)]
    node = ir.node("Transpose", [value], {"perm": [order.index(place) for place in range(len(order))]})
    turned_back = node.outputs[0]
    names = Names(graph)
    node.name = turned_back.name = names.fresh(f"{value.name}_turned")
    turned_back.type, turned_back.shape = value.type, value.shape
    ir.convenience.replace_all_uses_with(value, turned_back)
    node.replace_input_with(0, value)
    value.shape = ir.Shape([turned_back.shape[place] for place in order])
    first = next(iter(graph))
    graph.insert_before(first, [node])


def _shape_text(graph: ir.Graph, name: str) -> str:
    (value,) = (value for value in graph.inputs if value.name == name)
    assert value.shape is not None
    return f"[batch, {', '.join(str(size) if isinstance(size, int) else 'varies' for size in value.shape[1:])}]"
