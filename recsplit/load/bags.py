"""aten.embedding_bag in an exported program, kept as one recsplit::EmbeddingBag node."""

import operator
from typing import Any

import torch
from onnx_ir.tensor_adapters import from_torch_dtype
from torch.onnx.ops import _symbolic_impl

aten = torch.ops.aten
BAGS = (
    aten.embedding_bag.default,
    aten.embedding_bag.padding_idx,
    aten._embedding_bag.default,
    aten._embedding_bag_forward_only.default,
)
MODES = ("sum", "mean", "max")
#: Defaults of the arguments that follow (weight, indices, offsets).
DEFAULTS = (False, 0, False, None, False, None)


def keep_bags(program: torch.export.ExportedProgram) -> None:
    """Replace every embedding_bag of `program`, in place, by an ONNX node of the contract.

    A two-dimensional input, which torch flattens and gives offsets 0, length, 2 * length, ..., gets its shape back.
    """
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in BAGS:
            _replace(graph, node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def _replace(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    arguments = list(node.args) + list(DEFAULTS[len(node.args) - 3 :])
    names = ("scale_grad_by_freq", "mode", "sparse", "per_sample_weights", "include_last_offset", "padding_idx")
    for n, name in enumerate(names):
        arguments[3 + n] = node.kwargs.get(name, arguments[3 + n])
    weight, indices, offsets, _, mode, _, weights, include_last, padding_idx = arguments
    rows = weight.meta["val"].shape[0]
    if padding_idx is None or (padding_idx < 0 and node.target is not aten.embedding_bag.padding_idx):
        padding_idx = -1
    elif padding_idx < 0:
        padding_idx += rows
    rectangle = _rectangle(indices, offsets)
    with graph.inserting_before(node):
        if rectangle is not None:
            if weights is not None:
                weights = graph.call_function(aten.reshape.default, (weights, [_size(graph, rectangle, 0), _size(graph, rectangle, 1)]))
            indices, offsets = rectangle, None
            batch = _size(graph, rectangle, 0)
        else:
            batch = _size(graph, offsets, 0)
            if include_last:
                batch = graph.call_function(operator.sub, (batch, 1))
        attributes = {"mode": MODES[mode], "padding_idx": int(padding_idx), "include_last_offset": int(include_last and offsets is not None)}
        new = symbolic(graph, "EmbeddingBag", [weight, indices, offsets, weights], attributes, weight.meta["val"], [batch, weight.meta["val"].shape[1]])
    for user in list(node.users):
        if user.target is operator.getitem and user.args[1] == 0:
            user.replace_all_uses_with(new)


def _rectangle(indices: torch.fx.Node, offsets: torch.fx.Node) -> torch.fx.Node | None:
    """The two-dimensional ids of which `indices` is the flat form and `offsets` the row starts, or None."""
    if indices.target not in (aten.reshape.default, aten.view.default, aten._unsafe_view.default) or indices.args[1] != [-1]:
        return None
    source: Any = indices.args[0]
    if source.meta["val"].ndim != 2 or offsets.target not in (aten.arange.start_step, aten.arange.start, aten.arange.default):
        return None
    start, end, step = {1: (0, *offsets.args, 1), 2: (*offsets.args, 1), 3: offsets.args}[len(offsets.args)]
    shape = source.meta["val"].shape
    same = start == 0 and _value(step) == shape[1] and _value(end) == shape[0] * shape[1]
    return source if same else None


def _value(argument: Any) -> Any:
    return argument.meta["val"] if isinstance(argument, torch.fx.Node) else argument


def _size(graph: torch.fx.Graph, node: torch.fx.Node, dim: int) -> Any:
    """Size of a dimension as an argument: an int where static, else a node."""
    size = node.meta["val"].shape[dim]
    if isinstance(size, int):
        return size
    new = graph.call_function(aten.sym_size.int, (node, dim))
    new.meta["val"] = size
    return new


def symbolic(graph: torch.fx.Graph, op: str, inputs: list[Any], attributes: dict[str, Any], like: torch.Tensor, shape: list[Any]) -> torch.fx.Node:
    """A node that torch.onnx writes as recsplit::`op`, and that otherwise stands for zeros of `shape`."""
    encoded = _symbolic_impl.EncodedAttrs.from_dict(attributes)
    return graph.call_function(
        torch.ops.onnx_symbolic._symbolic.default,
        (inputs, op, int(from_torch_dtype(like.dtype))),
        {
            "shape": shape,
            "attr_keys": encoded.attr_keys,
            "attr_types": encoded.attr_types,
            "attr_pos": [list(position) for position in encoded.attr_pos],
            "attr_ints": encoded.attr_ints,
            "attr_floats": encoded.attr_floats,
            "attr_strs": encoded.attr_strs,
            "metadata_props_keys": [],
            "metadata_props_values": [],
            "domain": "recsplit",
            "version": 1,
        },
    )
