"""How the partial results of shards join: by sum or by maximum, followed from each Gather to the boundary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from recsplit.errors import InputError
from recsplit.graph.emit import Emit
from recsplit.graph.find import linear
from recsplit.graph.flow import constant, int_of
from recsplit.plan.plan import Partial

#: One truth for all of a tensor's dimension 1, or one for each of its indices: whether a maximum is taken, or else a sum.
Maxima = bool | tuple[bool, ...]


@dataclass(frozen=True)
class Followed:
    """The way of the tables' vectors to the boundary.

    `nodes`: those that read vectors, in order, without the Gathers; `gathers`: whether what each column of ids reads goes into a
    maximum; `boundary`: whether each of the boundary's vectors came out of one.
    """

    nodes: tuple[ir.Node, ...]
    derived: frozenset[ir.Value]
    gathers: Mapping[ir.Node, Maxima]
    boundary: Mapping[ir.Value, Maxima]


def follow(graph: ir.Graph, gathers: Sequence[ir.Node], boundary: Sequence[ir.Value], counts: Mapping[ir.Value, int]) -> Followed:
    """Follow the vectors of the Gathers, node by node, by cases. `counts`: the size of dimension 1 of what is joined (`joined_parts`).

    1. The Split that alone shares out a Gather's columns: each section is followed on its own.
    2. The Concat that packs a boundary tensor: its parts keep their own kind, sums beside maxima.
    3. A maximum, and whatever reads one: what comes out of it is a maximum.
    4. Anything else reads vectors of one kind, and none from which a maximum is taken and that then goes another way too.

    In cases 2 to 4 partial results must add up through the node (linear.problem), or keep their order below a maximum. Raises InputError
    where they don't.
    """
    derived = {gather.outputs[0] for gather in gathers}
    nodes = []
    for node in graph:
        if node not in gathers and any(value in derived for value in node.inputs):
            nodes.append(node)
            derived.update(node.outputs)
    sections = {gather: split for gather in gathers if (split := _sections(gather)) is not None}
    before = _before(nodes, derived, set(sections.values()))
    after: set[ir.Value] = set()
    packs = {value.producer() for value in boundary}
    for node in nodes:
        if node in sections.values():  # case 1
            continue
        if node in packs and _side_by_side(node):  # case 2
            wrong = linear.problem(node, derived, maximum=False)
        else:
            vectors = [value for value in node.inputs if value is not None and value in derived]
            if node.op_type == linear.MAXIMUM or any(value in after for value in vectors):  # case 3
                after.update(node.outputs)
            wrong = _mixture(node, vectors, derived, before, after)  # case 4
        if wrong is not None:
            raise InputError(
                f"the model can't be cut into shards: {wrong}, so partial results don't join",
                hint="leave the table whole: build without --partition; or pool by sum, mean or max only",
            )
    return Followed(
        tuple(nodes),
        frozenset(derived),
        {gather: _of_gather(gather, sections.get(gather), before) for gather in gathers},
        {value: _of_boundary(value, before | after, counts) for value in boundary},
    )


def _mixture(node: ir.Node, vectors: Sequence[ir.Value], derived: set[ir.Value], before: set[ir.Value], after: set[ir.Value]) -> str | None:
    """Why partial results don't pass a node: it doesn't add up, or it reads vectors of both kinds; None where they do."""
    kinds = {value in before or value in after for value in vectors}
    maximum = True in kinds
    wrong = linear.problem(node, derived, maximum=maximum)
    lost = [value for value in node.outputs if maximum and value not in before and value not in after]
    if wrong is None and (len(kinds) > 1 or lost):
        return f"{node.op_type} {node.name!r} reads vectors that a maximum is taken of, and others"
    return wrong


def _side_by_side(node: ir.Node) -> bool:
    return node.op_type == "Concat" and int_of(node, "axis", 0) == 1


def joined_parts(boundary: Sequence[ir.Value]) -> list[ir.Value]:
    """The values that stand side by side in the boundary's tensors."""
    nodes = [node for value in boundary if (node := value.producer()) is not None and _side_by_side(node)]
    return [value for node in nodes for value in node.inputs if value is not None]


def _sections(gather: ir.Node) -> ir.Node | None:
    """The Split that alone reads a Gather's vectors and shares out its columns."""
    uses = list(gather.outputs[0].uses())
    if len(uses) != 1 or gather.outputs[0].is_graph_output():
        return None
    node = uses[0].node
    sizes = constant(node.inputs[1]) if node.op_type == "Split" and len(node.inputs) > 1 else None
    return node if sizes is not None and int_of(node, "axis", 0) == 1 else None


def _before(nodes: Sequence[ir.Node], derived: set[ir.Value], sections: set[ir.Node]) -> set[ir.Value]:
    """The vectors that go into a maximum later."""
    maximum_sources: set[ir.Value] = set()
    for node in reversed(nodes):
        if node not in sections and (node.op_type == linear.MAXIMUM or any(value in maximum_sources for value in node.outputs)):
            maximum_sources.update(value for value in node.inputs if value is not None and value in derived)
    return maximum_sources


def _of_gather(gather: ir.Node, section: ir.Node | None, before: set[ir.Value]) -> Maxima:
    if section is None:
        return gather.outputs[0] in before
    sizes = constant(section.inputs[1])
    assert sizes is not None
    return _short(tuple(value in before for value, size in zip(section.outputs, sizes, strict=True) for _ in range(int(size))))


def _of_boundary(value: ir.Value, maxima: set[ir.Value], counts: Mapping[ir.Value, int]) -> Maxima:
    node = value.producer()
    if node is not None and _side_by_side(node):
        return _short(tuple(item in maxima for item in node.inputs if item is not None for _ in range(counts[item])))
    return value in maxima


def _short(maxima: tuple[bool, ...]) -> Maxima:
    return maxima[0] if len(set(maxima)) == 1 else maxima


def join(dense: ir.Model, partials: Sequence[Sequence[Partial]], kinds: Mapping[str, Maxima]) -> None:
    """Let the dense model take partial tensors in the place of whole ones.

    `partials`: what each shard gives; `kinds`: what came out of a maximum.
    """
    emit = Emit(dense, "recsplit/join")
    for value in [value for value in dense.graph.inputs if value.name in kinds]:
        name = value.name or ""
        outputs = [partial.output for shard in partials for partial in shard if partial.boundary == name]
        partial_inputs = [ir.val(output, type=value.type, shape=value.shape) for output in outputs]
        position = list(dense.graph.inputs).index(value)
        dense.graph.inputs.remove(value)
        for place, partial in enumerate(partial_inputs, position):
            dense.graph.inputs.insert(place, partial)
        kind = kinds[name]
        joined = partial_inputs[0]
        if len(partial_inputs) > 1:
            joined = emit.op("Max" if kind is True else "Sum", *partial_inputs, name="joined")
            if not isinstance(kind, bool):
                rank = len(value.shape) if value.shape is not None else 3
                chosen = emit.const(np.reshape(kind, (1, -1, *[1] * (rank - 2))), np.bool_, name="maxima")
                joined = emit.op("Where", chosen, emit.op("Max", *partial_inputs), joined)
            joined.type, joined.shape = value.type, value.shape
        ir.convenience.replace_all_uses_with(value, joined, replace_graph_outputs=True)
    passes.TopologicalSortPass()(dense)
