"""Adding standard operators to a graph, at the opset that the graph has (13 or newer)."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import ArrayLike, DTypeLike

from recsplit.graph.names import Names


class Emit:
    """Appends nodes to one graph; the caller sorts the graph topologically when it is done.

    Every value gets a readable name, `<prefix>/<what>`, that nothing else in the graph has (`names`).
    """

    def __init__(self, model: ir.Model, prefix: str = "recsplit") -> None:
        self.graph = model.graph
        self.opset = model.graph.opset_imports.get("", 13)
        self.new_nodes: set[ir.Node] = set()
        self._prefix = prefix
        self.names = Names(model.graph)
        self._count = 0

    def op(self, kind: str, *inputs: ir.Value | None, name: str = "", **attributes: object) -> ir.Value:
        """One node with one output."""
        return self.ops(kind, *inputs, outputs=1, name=name, **attributes)[0]

    def ops(self, kind: str, *inputs: ir.Value | None, outputs: int, name: str = "", **attributes: object) -> Sequence[ir.Value]:
        """One node with several outputs."""
        node = ir.node(kind, list(inputs), attributes, num_outputs=outputs)  # type: ignore[arg-type]
        label = self._label(name or kind)
        node.name = label
        for index, value in enumerate(node.outputs):
            value.name = label if outputs == 1 else f"{label}_{index}"
        self.graph.append(node)
        self.new_nodes.add(node)
        return node.outputs

    def const(self, data: ArrayLike, dtype: DTypeLike = np.int64, *, name: str = "const") -> ir.Value:
        """A small initializer."""
        label = self._label(name)
        value = ir.val(label, const_value=ir.tensor(np.asarray(data, dtype=dtype), name=label))
        self.graph.register_initializer(value)
        return value

    def reduce(self, kind: str, data: ir.Value, axis: int, *, keepdims: bool = False) -> ir.Value:
        """ReduceSum, ReduceMax, ...: axes are an input from opset 13 (ReduceSum) or 18 (the others) on."""
        if kind == "ReduceSum" or self.opset >= 18:
            return self.op(kind, data, self.const([axis], name="axes"), keepdims=int(keepdims))
        return self.op(kind, data, axes=[axis], keepdims=int(keepdims))

    def reshape(self, data: ir.Value, shape: Sequence[int]) -> ir.Value:
        """Reshape; 0 keeps a dimension, -1 takes the rest."""
        return self.op("Reshape", data, self.const(list(shape), name="shape"))

    def unsqueeze(self, data: ir.Value, axis: int) -> ir.Value:
        """A new dimension of size 1 at `axis`."""
        return self.op("Unsqueeze", data, self.const([axis], name="axes"))

    def cast(self, data: ir.Value, to: ir.DataType) -> ir.Value:
        """`data` as dtype `to`."""
        return self.op("Cast", data, to=int(to))

    def split(self, data: ir.Value, sizes: Sequence[int], axis: int) -> Sequence[ir.Value]:
        """Parts of `data` along `axis`; no node for a single part."""
        if len(sizes) == 1:
            return [data]
        return self.ops("Split", data, self.const(list(sizes), name="sizes"), outputs=len(sizes), axis=axis)

    def concat(self, parts: Sequence[ir.Value], axis: int, *, name: str = "") -> ir.Value:
        """Parts joined along `axis`; no node for a single part."""
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=axis, name=name)

    def _label(self, name: str) -> str:
        self._count += 1
        return self.names.fresh(f"{self._prefix}/{name}_{self._count}")
