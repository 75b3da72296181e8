"""Rewrites of an exported program before torch.onnx: bags stay one node, integer division and squeezes stay exact."""

import operator
from typing import Any

import torch
from onnx_ir.tensor_adapters import from_torch_dtype
from torch.fx.experimental.symbolic_shapes import free_symbols, statically_known_true
from torch.onnx.ops import _symbolic_impl

from recsplit.errors import InputError

aten = torch.ops.aten
BAGS = (
    aten.embedding_bag.default,
    aten.embedding_bag.padding_idx,
    aten._embedding_bag.default,
    aten._embedding_bag_forward_only.default,
)
MODES = ("sum", "mean", "max")
#: A traced program reads the result of an in-place one from then on, never what it changed.
SQUEEZES = (
    *(aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims),
    *(aten.squeeze_.default, aten.squeeze_.dim, aten.squeeze_.dims),
)
#: What `a << b` and `a <<= b` of two tensors trace as, and the operators that torch.onnx knows for it.
SHIFTS = {
    aten.__lshift__.Tensor: aten.bitwise_left_shift.Tensor,
    aten.__rshift__.Tensor: aten.bitwise_right_shift.Tensor,
    aten.__ilshift__.Tensor: aten.bitwise_left_shift_.Tensor,
    aten.__irshift__.Tensor: aten.bitwise_right_shift_.Tensor,
}
#: Into one piece they do nothing, and onnxscript fails on it.
SPLITS = (aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default)
RESHAPES = (aten.reshape.default, aten.view.default, aten._unsafe_view.default, aten.flatten.using_ints)
#: The arguments that follow (weight, indices, offsets), with their defaults.
OPTIONS = {
    "scale_grad_by_freq": False,
    "mode": 0,
    "sparse": False,
    "per_sample_weights": None,
    "include_last_offset": False,
    "padding_idx": None,
}


def rewrite(program: torch.export.ExportedProgram) -> None:
    """Rewrite `program` in place.

    1. Every embedding_bag becomes one recsplit::EmbeddingBag. A two-dimensional input, which torch flattens and
       gives the offsets 0, length, 2 * length, ..., gets its shape back.
    2. Rounded division of integers becomes aten.floor_divide: torch.onnx would divide as float32, which is wrong
       for hashed ids above 2**24.
    3. Shifts by a tensor become the operators that torch.onnx has.
    4. A query that attention may ask nobody gets zeros, where the exporter's softmax would give NaN.
    5. An unbind whose pieces are counted becomes a select for each: torch.onnx would make a sequence.
    6. A squeeze names the axes that it takes away: torch leaves alone what isn't 1, and ONNX fails there.

    Raises InputError where a squeeze takes an axis away or not, by the length of a request.
    """
    graph = program.graph_module.graph
    batches = _batches(program)
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in BAGS:
            _keep_bag(graph, node)
        if node.op == "call_function" and node.target in (aten.div.Tensor_mode, aten.div.Scalar_mode):
            _divide_exactly(graph, node)
        if node.op == "call_function" and node.target in SQUEEZES:
            _squeeze_exactly(node, batches)
        if node.op == "call_function" and node.target is aten.scaled_dot_product_attention.default:
            _answer_masked_queries(graph, node)
        if node.op == "call_function" and node.target in SPLITS and len(node.meta["val"]) == 1:
            for user in [user for user in node.users if user.target is operator.getitem]:
                user.replace_all_uses_with(node.args[0])
        if node.op == "call_function" and node.target is aten.unbind.int:
            _select_pieces(graph, node)
        if node.op == "call_function" and node.target in SHIFTS:
            node.target = SHIFTS[node.target]
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def _divide_exactly(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    """div(a, b, rounding_mode="floor" or "trunc") of integers by floor_divide; towards zero: (a - fmod(a, b)) // b."""
    mode = node.kwargs.get("rounding_mode")
    if mode is None or any(_is_float(argument) for argument in node.args):
        return
    kind = "default" if node.target is aten.div.Tensor_mode else "Scalar"
    dividend, divisor = node.args
    if mode == "trunc":
        with graph.inserting_before(node):
            rest = graph.call_function(aten.fmod.Tensor if isinstance(divisor, torch.fx.Node) else aten.fmod.Scalar, (dividend, divisor))
            dividend = graph.call_function(aten.sub.Tensor, (dividend, rest))
    node.args = (dividend, divisor)
    node.kwargs = {}
    node.target = getattr(aten.floor_divide, kind)


def _is_float(argument: Any) -> bool:
    value = _value(argument)
    return value.is_floating_point() if isinstance(value, torch.Tensor) else isinstance(value, float)


def _batches(program: torch.export.ExportedProgram) -> set[Any]:
    """The symbols of the first dimensions of the inputs."""
    inputs = set(program.graph_signature.user_inputs)
    examples = [node.meta.get("val") for node in program.graph_module.graph.nodes if node.op == "placeholder" and node.name in inputs]
    return {symbol for tensor in examples if isinstance(tensor, torch.Tensor) and tensor.ndim for symbol in free_symbols(tensor.shape[0])}


def _squeeze_exactly(node: torch.fx.Node, batches: set[Any]) -> None:
    """Name the axes whose size is always 1; where there is none the squeeze is a copy.

    The batch stays, also where it is one row: it is taken away from one row only, and the parts answer a row as in a larger batch.
    """
    source: Any = node.args[0]
    shape = _value(source).shape
    named: Any = node.args[1] if len(node.args) > 1 else range(len(shape))
    axes = [named] if isinstance(named, int) else list(named)
    gone = []
    for axis in sorted({axis % len(shape) for axis in axes if len(shape)}):
        size = shape[axis]
        if isinstance(size, int):
            gone += [axis] * (size == 1)
        elif not statically_known_true(size != 1) and not free_symbols(size) <= batches:
            raise InputError(
                f"a squeeze takes dimension {axis} of {list(map(str, shape))} away where it is 1, and leaves it where it is more",
                hint="name an axis that is 1 in every request, x.squeeze(-1) for example, or give the varying dimension a "
                "torch.export.Dim with min=2",
                detail="\n".join((node.meta.get("stack_trace") or "").strip().splitlines()[-2:]),
            )
    node.target = aten.squeeze.dims if gone else aten.clone.default
    node.args = (source, gone) if gone else (source,)


def _select_pieces(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    source, *rest = node.args
    axis = rest[0] if rest else node.kwargs.get("dim", 0)
    for user in list(node.users):
        if user.target is operator.getitem:
            with graph.inserting_before(user):
                piece = graph.call_function(aten.select.int, (source, axis, user.args[1]))
            piece.meta["val"] = _value(user)
            user.replace_all_uses_with(piece)


def _answer_masked_queries(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    """Zeros, as torch has it, in the rows of an attention whose mask leaves no key: a history of padding alone."""
    mask: Any = node.args[3] if len(node.args) > 3 else node.kwargs.get("attn_mask")
    if mask is None:
        return
    users = list(node.users)
    with graph.inserting_after(node):
        result = graph.call_function(aten.where.ScalarSelf, (None, 0.0, node))
    with graph.inserting_before(result):
        closed = graph.call_function(aten.logical_not.default, (mask,))
        if _is_float(mask):
            closed = graph.call_function(aten.eq.Scalar, (mask, float("-inf")))
        nobody = graph.call_function(aten.all.dim, (closed, -1, True))
    result.args = (nobody, 0.0, node)
    result.meta["val"] = _value(node)
    for user in users:
        user.replace_input_with(node, result)


def _keep_bag(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    weight, indices, offsets, *rest = node.args
    options: dict[str, Any] = {**OPTIONS, **dict(zip(OPTIONS, rest, strict=False)), **node.kwargs}
    scale, include_last, padding_idx = options["per_sample_weights"], bool(options["include_last_offset"]), options["padding_idx"]
    table = _value(weight)
    if padding_idx is None:
        padding_idx = -1
    elif padding_idx < 0 and node.target is aten.embedding_bag.padding_idx:
        padding_idx += table.shape[0]  # this overload counts from the end; in the others -1 means none
    rectangle = _rectangle(indices, offsets)
    with graph.inserting_before(node):
        if rectangle is not None:
            size = [_size(graph, rectangle, dim) for dim in (0, 1)]
            if scale is not None:
                scale = _unflattened(scale, rectangle) or graph.call_function(aten.reshape.default, (scale, size))
            indices, offsets, include_last, batch = rectangle, None, False, size[0]
        else:
            batch = _size(graph, offsets, 0)
            batch = graph.call_function(operator.sub, (batch, 1)) if include_last else batch
        attributes = {"mode": MODES[options["mode"]], "padding_idx": int(padding_idx), "include_last_offset": int(include_last)}
        bag = _symbolic(graph, "EmbeddingBag", [weight, indices, offsets, scale], attributes, table.dtype, [batch, table.shape[1]])
    for user in list(node.users):
        if user.target is operator.getitem and user.args[1] == 0:
            user.replace_all_uses_with(bag)


def _rectangle(indices: Any, offsets: Any) -> torch.fx.Node | None:
    """The two-dimensional ids of which `indices` is the flat form and `offsets` the row starts, or None."""
    source = _flattened(indices)
    if source is None or offsets.target not in (aten.arange.start_step, aten.arange.start, aten.arange.default):
        return None
    start, end, step = {1: (0, *offsets.args, 1), 2: (*offsets.args, 1), 3: offsets.args}[len(offsets.args)]
    rows, length = _value(source).shape
    return source if _value(start) == 0 and _value(step) == length and _value(end) == rows * length else None


def _flattened(node: Any) -> torch.fx.Node | None:
    """The two-dimensional tensor that `node` flattens, or None."""
    if node.target not in RESHAPES or _value(node).ndim != 1:
        return None
    source: torch.fx.Node = node.args[0]
    return source if _value(source).ndim == 2 else None


def _unflattened(scale: Any, like: torch.fx.Node) -> torch.fx.Node | None:
    source = _flattened(scale)
    return source if source is not None and _value(source).shape == _value(like).shape else None


def _value(argument: Any) -> Any:
    return argument.meta["val"] if isinstance(argument, torch.fx.Node) else argument


def _size(graph: torch.fx.Graph, node: Any, dim: int) -> Any:
    """The size of a dimension as an argument: an int where it is fixed, else a node."""
    size = _value(node).shape[dim]
    if isinstance(size, int):
        return size
    new = graph.call_function(aten.sym_size.int, (node, dim))
    new.meta["val"] = size
    return new


def _symbolic(
    graph: torch.fx.Graph, op: str, inputs: list[Any], attributes: dict[str, Any], dtype: torch.dtype, shape: list[Any]
) -> torch.fx.Node:
    """A node that torch.onnx writes as recsplit::`op`: torch.onnx.ops.symbolic, put into a graph that is traced already."""
    encoded = _symbolic_impl.EncodedAttrs.from_dict(attributes)
    return graph.call_function(
        torch.ops.onnx_symbolic._symbolic.default,
        (inputs, op, int(from_torch_dtype(dtype))),
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
