"""Rewrites Loops that are bags into single nodes."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common

from recsplit.graph.infer import infer_shapes
from recsplit.graph.loops.as_bag import Bag, read_bag
from recsplit.graph.loops.numbers import Number
from recsplit.graph.loops.turns import NotABag
from recsplit.graph.names import Names

DOMAIN = "recsplit"


@dataclass(frozen=True)
class Collapsed:
    """A Loop of the model: the node's name, whether it became a recsplit::EmbeddingBag, and why not ("" where it did)."""

    name: str
    rewritten: bool
    reason: str


def collapse_loops(model: ir.Model) -> tuple[Collapsed, ...]:
    """Rewrite every Loop that torch's exporters make of an EmbeddingBag into one recsplit::EmbeddingBag node, in place.

    Read are the forms of both exporters (torch.onnx.export with dynamo=False and dynamo=True), by their structure:
    a Loop over bags whose body takes rows of one table and pools them, and what surrounds it. A two-dimensional
    input, which torch flattens and gives offsets 0, length, 2 * length, ..., becomes ids [batch, length] again.

    The node means what torch.nn.functional.embedding_bag means, also where the export does not: an empty bag gives
    zeros (the old exporter's Loop gives -inf for max and nan for mean), the mean of the last bag is that of its own
    ids, and a double table isn't rounded to float on the way. Nodes and initializers that nothing needs any more are
    removed; the value that held the result keeps its name, dtype and shape. Shapes that the file doesn't tell are
    filled in. No table is read.

    Returns one record per Loop, in the order of the graph. A Loop in the body of another belongs to that one; one in
    a branch of an If stays, since lookups are cut out of the main graph only.
    """
    loops = loops_of(model)
    if loops:
        infer_shapes(model)
    records = [_collapse(loop, model.graph) for loop in loops]
    if any(record.rewritten for record in records):
        model.graph.opset_imports.setdefault(DOMAIN, 1)
        common.RemoveUnusedNodesPass()(model)
    return tuple(records)


def loop_name(loop: ir.Node) -> str:
    """What a Loop is called in reports."""
    return loop.name or loop.outputs[0].name or "Loop"


def loops_of(model: ir.Model) -> list[ir.Node]:
    """The Loops of the main graph and of branches, without those in the bodies of others."""
    return [node for node in _nodes(model.graph) if node.op_type == "Loop" and node.domain in ("", "ai.onnx")]


def _nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Every node but those in bodies of Loops and Scans."""
    for node in graph:
        yield node
        for attribute in node.attributes.values() if node.op_type == "If" else ():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _nodes(attribute.as_graph())


def _collapse(loop: ir.Node, main: ir.Graph) -> Collapsed:
    try:
        if loop.graph is not main:
            raise NotABag("it is in a branch of an If, and lookups are cut out of the main graph only")
        _rewrite(main, loop, read_bag(loop))
    except NotABag as refusal:
        return Collapsed(loop_name(loop), False, str(refusal))
    return Collapsed(loop_name(loop), True, "")


def _rewrite(graph: ir.Graph, loop: ir.Node, bag: Bag) -> None:
    """Put one node in the place of the Loop and of what follows it up to the result."""
    tensor = ir.convenience.get_const_tensor(bag.table)
    assert tensor is not None
    result, nodes = bag.result, list(bag.nodes)
    dtype = bag.dtype
    while (follower := _conversion(result, graph, tensor.dtype)) is not None:
        result = follower.outputs[0]
        dtype = dtype if follower.op_type == "Identity" else tensor.dtype
        nodes.insert(0, follower)
    ids = _shaped(bag.ids, bag, graph, loop, "ids")
    weights = None if bag.weights is None else _shaped(bag.weights, bag, graph, loop, "weights")
    inputs: list[ir.Value | None] = [bag.table, ids, bag.offsets, weights]
    while inputs[-1] is None:
        inputs.pop()
    attributes: dict[str, str | int] = {
        "mode": bag.mode,
        "padding_idx": bag.padding_idx,
        "include_last_offset": int(bag.include_last_offset),
    }
    new = [ir.node("EmbeddingBag", inputs, attributes, domain=DOMAIN, version=1, name=loop_name(loop))]
    if dtype != tensor.dtype:  # a half or double table whose bags are used as floats
        new.append(ir.node("Cast", new[0].outputs, {"to": dtype.value}, name=f"{loop_name(loop)}_cast"))
        new[0].outputs[0].name = Names(graph).fresh(f"{result.name}_{tensor.dtype.name.lower()}")
    new[-1].outputs[0].name = result.name
    for node, kind in zip(new, (tensor.dtype, dtype), strict=False):
        node.outputs[0].type = ir.TensorType(kind)
        node.outputs[0].shape = ir.Shape([_first_dim(bag, result), int(tensor.shape[1])])  # type: ignore[arg-type]
    ir.convenience.replace_all_uses_with(result, new[-1].outputs[0], replace_graph_outputs=True)
    result.name = None
    _detach(loop)
    graph.insert_after(loop, new)
    graph.remove(nodes, safe=True)


def _shaped(flat: ir.Value, bag: Bag, graph: ir.Graph, loop: ir.Node, what: str) -> ir.Value:
    """Ids or weights of bags of one length as [bags, length], where they don't have that shape yet."""
    if bag.length is None:
        return flat
    names = Names(graph)
    name = names.fresh(f"{bag.result.name}_{what}")
    shape_name = names.fresh(f"{name}_shape")
    shape = ir.val(shape_name, const_value=ir.tensor([-1, bag.length], ir.DataType.INT64, name=shape_name))
    graph.register_initializer(shape)
    node = ir.node("Reshape", [flat, shape], name=name)
    node.outputs[0].name = name
    node.outputs[0].shape = ir.Shape([_first_dim(bag, bag.result), bag.length])
    node.outputs[0].type = flat.type
    graph.insert_before(loop, node)
    return node.outputs[0]


def _first_dim(bag: Bag, result: ir.Value) -> int | ir.SymbolicDim | str | None:
    """The number of bags: by the name of the dimension that it comes from, else as the file has it."""
    if bag.bags.constant is not None:
        return bag.bags.constant
    for unknown in bag.bags.unknowns():
        if unknown[0] == "name" and bag.bags == Number.unknown(*unknown):
            return str(unknown[1])
    return None if result.shape is None else result.shape[0]


def _conversion(value: ir.Value, graph: ir.Graph, dtype: ir.DataType) -> ir.Node | None:
    """The one consumer of a value, where it only brings it to the table's dtype."""
    consumers = list(value.consumers())
    if len(value.uses()) != 1 or value.is_graph_output():
        return None
    node = consumers[0]
    if node.graph is not graph or node.domain not in ("", "ai.onnx") or node.inputs[0] is not value:
        return None
    if node.op_type == "CastLike":
        other = node.inputs[1]
        return node if other is not None and other.dtype == dtype else None
    return node if node.op_type == "Identity" or (node.op_type == "Cast" and node.attributes["to"].as_int() == dtype.value) else None


def _detach(loop: ir.Node) -> None:
    """Let go of the values that the body reads from outside, which count as uses of them."""
    body = loop.attributes["body"].as_graph()
    for graph in (body, *body.subgraphs()):
        for node in tuple(graph):
            for position in range(len(node.inputs)):
                node.replace_input_with(position, None)
        graph.outputs.clear()
