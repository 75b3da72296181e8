"""Down to the opset that a Triton's onnxruntime reads, where that says the same: operators are written out, or were the same before."""

from collections.abc import Iterator
from typing import Any

import onnx
import onnx_ir as ir
from onnx import defs

from recsplit.errors import InputError
from recsplit.plan.triton_releases import Release, first_that_reads

_WRITTEN_OUT = "recsplit.written_out"


def needs_lowering(model: ir.Model, release: Release) -> bool:
    """Whether the model's opset is newer than what the release's onnxruntime reads."""
    return _opset(model) > release.opset


def write_out(model: ir.Model, release: Release) -> None:
    """Make a function of each operator that the release's opset lacks and whose definition is one, in place; types must be inferred."""
    opset = _opset(model)
    for number, node in enumerate(list(_standard_nodes(model))):
        if _schema(node, release.opset) is not None:
            continue
        schema = _schema(node, opset)
        body = None if schema is None else _body(schema, node, opset)
        if schema is None or body is None:
            continue
        function = ir.serde.deserialize_function(body)
        function.domain, function.name = _WRITTEN_OUT, f"{node.op_type}_{number}"
        function.opset_imports[""] = opset
        for name, attribute in schema.attributes.items():
            if name in function.attributes and name not in node.attributes and attribute.default_value.type:
                node.attributes[name] = ir.serde.deserialize_attribute(attribute.default_value)
        model.functions[function.identifier()] = function
        node.domain, node.op_type = function.domain, function.name
    model.opset_imports[_WRITTEN_OUT] = 1


def lower(model: ir.Model, release: Release, origin: str) -> None:
    """Declare the release's opset, in place, where every operator has the same definition there.

    Same are: inputs, outputs and attributes, and the dtypes that the model uses among those allowed. Raises InputError, with both
    opsets, at an operator that hasn't.
    """
    opset = _opset(model)
    for node in _standard_nodes(model):
        reason = _difference(node, opset, release.opset)
        if reason is not None:
            newer = first_that_reads(opset)
            raise InputError(
                f"{origin} uses ONNX opset {opset}, and onnxruntime {release.onnxruntime} of Triton {release.name} reads up to "
                f"{release.opset}: {node.op_type} {node.name!r} {reason}",
                hint=f"export it again with opset_version={release.opset}" + (f", or build with --triton {newer.name}" if newer else ""),
            )
    for node in _standard_nodes(model):
        older = _schema(node, release.opset)
        for name in [name for name in node.attributes if older is not None and name not in older.attributes]:
            del node.attributes[name]  # it has its default, which the older operator always had
    for graph in model.graphs():
        graph.opset_imports[""] = release.opset
    model.opset_imports[""] = release.opset


def _opset(model: ir.Model) -> int:
    return model.opset_imports.get("", 0)


def _standard_nodes(model: ir.Model) -> Iterator[ir.Node]:
    return (node for node in ir.traversal.RecursiveGraphIterator(model.graph) if node.domain == "")


def _schema(node: ir.Node, opset: int) -> defs.OpSchema | None:
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return None
    return None if schema.deprecated else schema


def _body(schema: Any, node: ir.Node, opset: int) -> onnx.FunctionProto | None:
    """The operator's definition as a function of standard operators, for the types of this node's inputs."""
    body = onnx.FunctionProto()
    versions = [version for version in schema.context_dependent_function_opset_versions if version <= opset]
    if schema.has_function:
        body.CopyFrom(schema.function_body)
    elif versions and all(value is None or value.type is not None for value in node.inputs):
        types = [b"" if value is None else ir.to_proto(value).type.SerializeToString() for value in node.inputs]
        text = schema.get_context_dependent_function_with_opset_version(versions[-1], ir.to_proto(node).SerializeToString(), types)
        body.ParseFromString(text)
    del body.output[len(node.outputs) :]  # those that the node leaves out aren't always made
    outputs = {name for inner in body.node for name in inner.output}
    return body if len(body.output) == len(node.outputs) and outputs.issuperset(body.output) else None


def _difference(node: ir.Node, opset: int, older: int) -> str | None:
    """Why the node means something else in the older opset, or nothing; None where it means the same."""
    now, then = _schema(node, opset), _schema(node, older)
    if now is None:  # not an operator that onnx knows: the checker has seen to that
        return None
    if then is None:
        return f"came with opset {now.since_version}"
    if now.since_version == then.since_version:
        return None
    for name, attribute in node.attributes.items():
        default = now.attributes[name].default_value if name in now.attributes else None
        if name not in then.attributes and (default is None or ir.serde.deserialize_attribute(default).value != attribute.value):
            return f"has {name}, which came with opset {now.since_version}"
    for formals, values in ((then.inputs, node.inputs), (then.outputs, node.outputs)):
        for place, value in enumerate(values):
            formal = formals[min(place, len(formals) - 1)]
            if value is not None and value.dtype is not None and _type_text(value.dtype) not in formal.types:
                return f"takes {value.dtype.name} since opset {now.since_version}"
    return None


def _type_text(dtype: ir.DataType) -> str:
    """As onnx's schemas write it."""
    names = {ir.DataType.FLOAT: "float", ir.DataType.DOUBLE: "double"}
    return f"tensor({names.get(dtype, dtype.name.lower())})"
