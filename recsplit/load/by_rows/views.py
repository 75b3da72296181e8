"""Stored tables seen in another shape, without being read: the same bytes, wherever they lie."""

import math

import numpy as np
import onnx_ir as ir

from recsplit.graph.emit import Emit


class Views:
    """Tables of one graph as [rows, dim], each seen once however many nodes read it."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._flattened: dict[ir.Value, ir.Value] = {}
        self._transposed: dict[ir.Value, ir.Value] = {}

    def flattened(self, table: ir.Value) -> ir.Value:
        """An initializer [rows, ...] as [rows, dim]."""
        if table not in self._flattened:
            tensor = _tensor(table)
            rows, *others = (int(size) for size in tensor.shape.numpy())
            shape = (rows, math.prod(others))
            self._flattened[table] = self._registered(table, _reshaped(tensor, shape), shape)
        return self._flattened[table]

    def transposed(self, table: ir.Value) -> ir.Value:
        """An initializer [dim, rows] as [rows, dim]; it is turned in memory when it is written."""
        if table not in self._transposed:
            tensor = _tensor(table)
            dim, rows = (int(size) for size in tensor.shape.numpy())
            turned = ir.LazyTensor(lambda: ir.tensor(np.asarray(tensor.numpy()).T), dtype=tensor.dtype, shape=ir.Shape([rows, dim]))
            self._transposed[table] = self._registered(table, turned, (rows, dim))
        return self._transposed[table]

    def hand_over_names(self) -> None:
        """A view is called as its table was if nothing reads the table any more: users know their tables by name."""
        for table, view in (*self._flattened.items(), *self._transposed.items()):
            name = table.name or ""
            if not table.uses() and not table.is_graph_output() and view.uses():
                self._emit.graph.initializers.pop(name, None)
                view.name = name

    def _registered(self, table: ir.Value, tensor: ir.TensorProtocol, shape: tuple[int, int]) -> ir.Value:
        name = self._emit.names.fresh(f"{table.name}_rows")
        view = ir.val(name, dtype=tensor.dtype, shape=list(shape), const_value=tensor)
        self._emit.graph.register_initializer(view)
        return view


def _tensor(table: ir.Value) -> ir.TensorProtocol:
    assert table.const_value is not None
    return table.const_value


def _reshaped(tensor: ir.TensorProtocol, shape: tuple[int, int]) -> ir.TensorProtocol:
    if isinstance(tensor, ir.ExternalTensor):
        place = tensor.location, tensor.offset, tensor.length
        return ir.ExternalTensor(*place, tensor.dtype, shape=ir.Shape(shape), name=tensor.name or "", base_dir=tensor.base_dir)
    return ir.LazyTensor(lambda: ir.tensor(np.asarray(tensor.numpy()).reshape(shape)), dtype=tensor.dtype, shape=ir.Shape(shape))
