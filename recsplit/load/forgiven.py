"""What onnxruntime forgives an .onnx file and onnx's checker doesn't: nodes out of order, outputs without a type, data behind links."""

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir

from recsplit.errors import InputError
from recsplit.graph.infer import infer_shapes


def sort_nodes(model: ir.Model, origin: str) -> bool:
    """Sort every graph so that what is read is made before, in place; whether anything moved.

    Raises InputError, with the nodes' names, where nodes read each other in a circle.
    """
    before = [node for graph in model.graphs() for node in graph]
    try:
        model.graph.sort()
        for function in model.functions.values():
            function.sort()
    except ValueError as error:
        names = " -> ".join(f"{node.op_type} {node.name!r}" for node in _circle(model.graph))
        raise InputError(
            f"nodes of {origin} read each other in a circle: {names}", hint="export it again: no runtime can run it"
        ) from error
    return before != [node for graph in model.graphs() for node in graph]


def _circle(graph: ir.Graph) -> list[ir.Node]:
    """Nodes of which each reads the one before it, and the first the last."""
    finished: set[ir.Node] = set()
    for start in graph:
        way: dict[ir.Node, Iterator[ir.Node]] = {start: _read(start)}
        while way:
            node, ahead = next(reversed(way.items()))
            source = next((source for source in ahead if source not in finished), None)
            if source is None:
                finished.add(node)
                del way[node]
            elif source in way:
                nodes = list(way)
                return [*reversed(nodes[nodes.index(source) :]), nodes[-1]]
            else:
                way[source] = _read(source)
    return []


def _read(node: ir.Node) -> Iterator[ir.Node]:
    return (producer for value in node.inputs if value is not None and (producer := value.producer()) is not None)


def infer_outputs(model: ir.Model) -> list[str]:
    """Give outputs that tell no type or shape what follows from the nodes, in place; the names of those that told no dtype.

    Raises InputError where no dtype follows.
    """
    silent = [value for value in model.graph.outputs if value.dtype is None]
    names = [value.name or "" for value in silent]
    if silent or any(value.shape is None for value in model.graph.outputs):
        infer_shapes(model)
    unknown = [value.name for value in silent if value.dtype is None]
    if unknown:
        raise InputError(
            f"output {unknown[0]!r} has no dtype, and none follows from the nodes", hint="export it again with the type of its outputs"
        )
    return names


def resolve_links(model: ir.Model) -> list[Path]:
    """Point each tensor in another file at that file itself, where a link or one of several hard links leads to it; these files, each once.

    A cache of downloads keeps files as links. onnx and onnxruntime refuse them, for fear of an archive whose links lead anywhere.
    """
    resolved: dict[Path, None] = {}
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and _is_linked(tensor):
                value.const_value = _plain(tensor)
                resolved[Path(tensor.path).resolve()] = None
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if (
                    attribute.type == ir.AttributeType.TENSOR
                    and isinstance(attribute.value, ir.ExternalTensor)
                    and _is_linked(attribute.value)
                ):
                    node.attributes[name] = ir.AttrTensor(name, _plain(attribute.value))
                    resolved[Path(attribute.value.path).resolve()] = None
    return list(resolved)


def _is_linked(tensor: ir.ExternalTensor) -> bool:
    folder, path = Path(tensor.base_dir).resolve(), Path(tensor.path)
    return not path.resolve().is_relative_to(folder) or path.stat().st_nlink > 1


def _plain(tensor: ir.ExternalTensor) -> ir.ExternalTensor:
    path = Path(tensor.path).resolve()  # without a base_dir onnx_ir takes the path as it is
    return ir.ExternalTensor(path, tensor.offset, tensor.length, tensor.dtype, shape=tensor.shape, name=tensor.name or "")


def skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model for onnx's checker, without what it would look for in other files: such tensors are inputs here."""
    copy = model.clone()
    for graph in list(copy.graphs()):
        for name, value in list(graph.initializers.items()):
            if isinstance(value.const_value, ir.ExternalTensor):
                del graph.initializers[name]
                outside = ir.Value(name=name, type=ir.TensorType(value.const_value.dtype), shape=value.const_value.shape)
                copy.graph.inputs.append(value if graph is copy.graph else outside)
    for value in copy.graph.outputs:
        if value.shape is None:
            value.shape = ir.Shape([])
    return ir.to_proto(copy)
