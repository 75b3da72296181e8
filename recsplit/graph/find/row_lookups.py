"""Lookups by rows: where the ids of each come from, how it is pooled, what the dense model gets of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from recsplit.graph import measure
from recsplit.graph.find import linear
from recsplit.graph.find.candidates import Candidate, ids_of, reduce_axes, tables_of
from recsplit.graph.find.columns import Column, proved
from recsplit.graph.flow import SHAPE_ONLY, Flow, int_of
from recsplit.plan.plan import Pooling

#: What may stand between a lookup and its pooling and move to the embedding side with it.
_LIGHT = frozenset(
    "Add Cast Clip DequantizeLinear Div Expand Identity Max Min Mul Neg ReduceMax ReduceMean ReduceMin ReduceSum Reshape Sqrt Squeeze Sub "
    "Transpose Unsqueeze Where".split()
)
_REDUCE = {"ReduceSum": "sum", "ReduceMean": "mean", "ReduceMax": "max"}


@dataclass(frozen=True)
class RowLookup:
    """One lookup of a table by ids that form rows.

    `out` is the value that the dense model gets: the lookup's own output, or a later one where the pooling
    moved along (`pooling` "graph": by the model's own operators). `width`: ids a row, None if it varies.
    `columns`: where each of them comes from, None if that can't be told. `bags`: pooled vectors a row; its ids are
    shared out among them. `out_shape`: as measured; one whose first dimension isn't the batch (a model that flattens
    [batch, 3] ids to [3 * batch]) holds row after row, and has no other dimension that varies.
    """

    node: ir.Node
    table: ir.Value
    ids: ir.Value
    weights: ir.Value | None
    pooling: Pooling
    padding_idx: int
    width: int | None
    columns: tuple[Column, ...] | None
    bags: int
    out: ir.Value
    out_shape: tuple[measure.Dim, ...]


def read_rows(model: ir.Model, candidates: Sequence[Candidate], *, adding_up: bool = False) -> tuple[list[RowLookup], dict[ir.Node, str]]:
    """The lookups by rows among the candidates, and the reason for each that isn't one after all.

    With `adding_up` only such pooling moves along of which shards can make partial results; the rest stays in the dense model.

    Bags with offsets and jagged bags are ragged groups: see ragged.py.
    """
    flow = Flow(model.graph)
    nodes = [candidate.node for candidate in candidates if candidate.is_lookup and not is_ragged(candidate.node)]
    ids = [ids_of(node) for node in nodes]
    lie = measure.rows(model, ids)
    columns = proved(model, ids, [item.width for item in lie])
    ids_shapes = measure.shapes(model, ids)
    walks = [_walk(node.outputs[0], flow) if node.op_type == "Gather" else [node.outputs[0]] for node in nodes]
    if adding_up:
        walks = [list(linear.prefix(walk)) for walk in walks]
    probed = [value for node, walk in zip(nodes, walks, strict=True) if node.op_type == "Gather" for value in walk]
    shapes = dict(zip(probed, measure.shapes(model, probed), strict=True))
    row_lookups: list[RowLookup] = []
    refused: dict[ir.Node, str] = {}
    for node, item, picked, ids_shape, walk in zip(nodes, lie, columns, ids_shapes, walks, strict=True):
        table, width = tables_of(node)[0], item.width
        if item.mixed:
            refused[node] = "a row's ids depend on other rows of the batch, which may be another client's; it stays in the dense model"
            continue
        if width is None and (not ids_shape or ids_shape[0] != "batch"):
            refused[node] = "its ids have no leading batch dimension, so requests could not be batched; it stays in the dense model"
            continue
        if node.op_type == "EmbeddingBag":
            bags = _bags(width, ids_shape)
            if bags is None:
                refused[node] = "its bags don't follow the batch row by row"
                continue
            dim = int(table.shape[1]) if table.shape is not None else 0  # type: ignore[arg-type]
            mode = node.attributes["mode"].as_string()
            pad = int_of(node, "padding_idx", -1)
            weights = node.inputs[3] if len(node.inputs) > 3 else None
            shape: tuple[measure.Dim, ...] = ("batch" if ids_shape[0] == "batch" else -1, dim)
            row_lookups.append(
                RowLookup(node, table, ids_of(node), weights, _pooling(mode), pad, width, picked, bags, node.outputs[0], shape)
            )
            continue
        out, pooling = _choose(walk, [shapes[value] for value in walk], ids_shape)
        shape = shapes[out]
        if shape[:1] != ("batch",) and (width is None or shape[:1] != (-1,) or -1 in shape[1:]):
            refused[node] = "its vectors have no leading batch dimension, so requests could not be batched; it stays in the dense model"
            continue
        bags = _bags(width, ids_shape) or 1
        row_lookups.append(RowLookup(node, table, ids_of(node), None, pooling, -1, width, picked, bags, out, shape))
    return row_lookups, refused


def is_ragged(node: ir.Node) -> bool:
    """Whether the lookup reads bags given by offsets or lengths."""
    if node.op_type == "JaggedBags":
        return True
    return node.op_type == "EmbeddingBag" and len(node.inputs) > 2 and node.inputs[2] is not None


def _bags(width: int | None, ids_shape: Sequence[measure.Dim]) -> int | None:
    """Bags a row where each row of the ids, of rank 2, is a bag; None where they don't come out even."""
    if ids_shape[:1] == ("batch",):
        return 1
    length = ids_shape[1] if len(ids_shape) == 2 else -1
    return width // length if width and isinstance(length, int) and length > 0 and width % length == 0 else None


def _pooling(mode: str) -> Pooling:
    poolings: dict[str, Pooling] = {"sum": "sum", "mean": "mean", "max": "max"}
    return poolings[mode]


def _walk(value: ir.Value, flow: Flow) -> list[ir.Value]:
    """The values on the one way from a lookup onwards, as long as light operators with portable operands follow.

    The shape of the lookup itself may be read by others, for it is that of the ids and the dim (lower.shape_by_ids).
    """
    walk = [value]
    while not value.is_graph_output():
        consumers = {node for node in value.consumers() if len(walk) > 1 or node.op_type not in SHAPE_ONLY}
        if len(consumers) != 1:
            break
        (node,) = consumers
        others = [item for item in node.inputs if item is not None and item is not value]
        if node.op_type not in _LIGHT or node.domain not in ("", "ai.onnx") or any(flow.blocker(item) is not None for item in others):
            break
        value = node.outputs[0]
        walk.append(value)
    return walk


def _choose(
    walk: Sequence[ir.Value], shapes: Sequence[tuple[measure.Dim, ...]], ids_shape: tuple[measure.Dim, ...]
) -> tuple[ir.Value, Pooling]:
    """Where to cut along the walk, and the pooling that this moves to the embedding side.

    1. A single ReduceSum, ReduceMean or ReduceMax over axis 1 of [bags, length, dim]: pooling by name.
    2. Anything that ends smaller behind a Reduce (masked sums, means over a mask's count): "graph".
    3. No pooling: the lookup's own output, or, if that has no leading batch dimension, the first value that has.
    """
    if len(walk) > 1 and len(ids_shape) == 2 and (ids_shape[0] == "batch" or ids_shape[1] != -1):
        first = walk[1].producer()
        assert first is not None
        if first.op_type in _REDUCE and _axes(first, 3) == [1] and _no_keepdims(first) and not _shrinks(shapes[1:]):
            return walk[1], _pooling(_REDUCE[first.op_type])
    best: int | None = None
    reduced = False
    for index in range(1, len(walk)):
        node = walk[index].producer()
        assert node is not None
        reduced = reduced or node.op_type.startswith("Reduce")
        leads = bool(shapes[index]) and shapes[index][0] == "batch"
        if reduced and leads and _size(shapes[index]) <= _size(shapes[best if best is not None else index]):
            best = index
    if best is not None and _size(shapes[best]) < _size(shapes[0]):
        return walk[best], "graph"
    for value, shape in zip(walk, shapes, strict=True):
        if shape and shape[0] == "batch":
            return value, "none" if value is walk[0] else "graph"
    return walk[0], "none"


def _shrinks(shapes: Sequence[tuple[measure.Dim, ...]]) -> bool:
    """Whether some later value of the walk is smaller than the first behind another Reduce."""
    return any(_size(shape) < _size(shapes[0]) for shape in shapes[1:])


def _size(shape: tuple[measure.Dim, ...]) -> float:
    """Elements a row; a varying dimension counts as large."""
    size = 1.0
    for dim in shape:
        size *= 1 if dim == "batch" else 1e6 if dim == -1 else float(dim)
    return size


def _axes(node: ir.Node, rank: int) -> list[int]:
    return [axis % rank for axis in reduce_axes(node) or []]


def _no_keepdims(node: ir.Node) -> bool:
    return int_of(node, "keepdims", 1) == 0
