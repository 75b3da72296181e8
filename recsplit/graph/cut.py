"""The cut: lower every lookup, pack what crosses, and take the graph apart at the boundary."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
from numpy.typing import NDArray

from recsplit.errors import InputError
from recsplit.graph import measure
from recsplit.graph.emit import Emit
from recsplit.graph.find import ragged, readings
from recsplit.graph.find.candidates import Candidate, find, tables_of
from recsplit.graph.flow import CONTROL, SEQUENCE, Array, part
from recsplit.graph.lower import lower
from recsplit.graph.lower.collected import Lowering, Part, mark_rows
from recsplit.graph.lower.fused_tables import FusedTable, fuse, policy
from recsplit.graph.lower.pack import pack
from recsplit.graph.lower.ragged_bags import BagForm, choose_form, lower_bags
from recsplit.graph.lower.stacked import restack
from recsplit.plan.plan import UNKNOWN_IDS, Bags, Lookup, PlainPooling
from recsplit.plan.ragged import bag_lengths


@dataclass(frozen=True)
class Packed:
    """A boundary tensor by name, and, part by part, the name of the Gather's output that it pools, the widths and the poolings.

    `parts` is None where the pooling is another one in any part (see lowering.Plain).
    """

    output: str
    parts: tuple[tuple[str, tuple[int, ...], tuple[PlainPooling, ...]], ...] | None


@dataclass(frozen=True)
class Cut:
    """A model taken apart: embedding and dense sub-models, and `whole`, the same operators in one graph.

    Inputs and outputs of all three have measured shapes. `fused` tables are not yet on disk: their initializers
    point into fused.TABLES_FILE. `marks`: whether `unknown_ids` is among the embedding model's outputs. `check`: from
    the ensemble's inputs to `unknown_ids` under any policy; it reads no table.
    """

    whole: ir.Model
    embedding: ir.Model
    dense: ir.Model
    check: ir.Model
    boundary: tuple[str, ...]
    fused: tuple[FusedTable, ...]
    lookups: tuple[Lookup, ...]
    bags: tuple[Bags, ...]
    candidates: tuple[Candidate, ...]
    marks: bool
    packed: tuple[Packed, ...]

    def known(self) -> Callable[[Mapping[str, Array]], NDArray[np.bool_]]:
        """A function of the ensemble's inputs: BOOL [batch], whether all ids of a row are inside their tables."""
        run = measure.runner(self.check, self.check.graph.outputs)
        return lambda inputs: np.less(run(inputs)[0][:, 0], 0)


def cut(
    model: ir.Model,
    *,
    unknown_ids: str = "error",
    int32_ids: bool = False,
    bag_form: BagForm | None = None,
    adding_up: bool = False,
    example: Mapping[str, Array] | None = None,
    loops: Mapping[str, str] | None = None,
) -> Cut:
    """Cut the IR, which is used up by it.

    Args:
        model: the IR; loops already collapsed where they are bags.
        unknown_ids: "error", "zero" or "row=N".
        int32_ids: ask clients for INT32 ids where the model has INT64, which halves their bytes.
        bag_form: how ragged bags are pooled; None chooses by the bag lengths of `example`, padded where there is none.
        adding_up: for a model that will be sharded: only pooling of which partial results can be joined is cut out.
        example: the source's own inputs.
        loops: why each Loop left in the graph isn't a bag.

    Raises:
        InputError: no lookup can be cut out, or an operator is left that the parts can't have.
    """
    unknown = policy(unknown_ids)
    _reserve(model, UNKNOWN_IDS)
    candidates = find(model, loops=loops)
    if not any(candidate.is_lookup for candidate in candidates):
        raise _no_lookup(candidates)
    _refuse_control(model)  # before anything is measured: sub-graphs with bodies can't be taken out
    found, refused = readings.read(model, candidates, adding_up=adding_up)
    nodes = [candidate.node for candidate in candidates if candidate.is_lookup and readings.is_ragged(candidate.node)]
    groups, ragged_refused = ragged.group(model, nodes)
    refused.update(ragged_refused)
    candidates = tuple(
        Candidate(item.node, item.kind, item.table, item.rows, item.dim, item.reason or refused.get(item.node, "")) for item in candidates
    )
    if not found and not groups:
        raise _no_lookup(candidates)
    _refuse_left(model, refused)
    emit = Emit(model)
    if int32_ids:
        _narrow_inputs(emit, found)
    tables = [reading.table for reading in found] + [table for group in groups for node in group.nodes for table in tables_of(node)]
    lowering = Lowering(emit, fuse(emit, tables, unknown), unknown)
    lower.fixed(lowering, [reading for reading in found if reading.width is not None])
    for reading in found:
        if reading.width is None:
            lower.varying(lowering, reading)
    for group in groups:
        lower_bags(lowering, group, bag_form or choose_form(_example_lengths(group, example)), int32_ids=int32_ids)
    marks = mark_rows(lowering)
    model.graph.outputs.append(marks)  # first of all, so that nothing takes it for dead code
    boundary = pack(lowering)
    restack(emit)
    _tidy(model)
    problem = ragged.drop_old_inputs(model, groups)
    if problem:
        raise InputError(
            f"the model can't be batched: {problem}", hint="make the batch size follow another input, or use fixed-length bags"
        )
    _measure_interface(model, boundary, [group.bags.lengths for group in groups])
    check = part(model, model.graph.inputs, [marks], "check")
    crossing = list(boundary)
    if unknown.marks:
        _poison(Emit(model, "recsplit/poison"), marks)
        crossing.append(marks)
    else:
        model.graph.outputs.remove(marks)
    _tidy(model)
    embedding = part(model, model.graph.inputs, crossing, "embedding")
    outputs = [value for value in model.graph.outputs if value is not marks]
    dense = part(model, [*model.graph.inputs, *crossing], outputs, "dense")
    _take_unread(dense, model, embedding)
    return Cut(
        whole=model,
        embedding=embedding,
        dense=dense,
        check=check,
        boundary=tuple(value.name or "" for value in boundary),
        fused=tuple({id(item): item for item in lowering.fused.values()}.values()),
        lookups=tuple(lowering.lookups),
        bags=tuple(group.bags for group in groups),
        candidates=candidates,
        marks=unknown.marks,
        packed=tuple(_packed(value, lowering.packed.get(value, ())) for value in boundary),
    )


def _packed(value: ir.Value, parts: Sequence[Part]) -> Packed:
    told = [part.plain for part in parts]
    if not told or None in told:
        return Packed(value.name or "", None)
    return Packed(value.name or "", tuple((item.vectors.name or "", item.widths, item.poolings) for item in told if item is not None))


def _reserve(model: ir.Model, name: str) -> None:
    """Free the name of an output of ours: inner values and weights of that name get another. Raises InputError for inputs and outputs."""
    if any(value.name == name for value in (*model.graph.inputs, *model.graph.outputs)):
        raise InputError(
            f"the model has an input or output {name!r}, as the output that marks rows with unknown ids is called", hint="rename it"
        )
    inner = [value for node in model.graph for value in node.outputs if value.name == name]
    weights = [value for value in model.graph.initializers.values() if value.name == name]
    for value in (*inner, *weights):
        value.name = Emit(model).fresh(name)


def _example_lengths(group: ragged.RaggedGroup, example: Mapping[str, Array] | None) -> Array | None:
    return None if example is None else bag_lengths(group.bags, example, len(example[group.bags.source_values]))


def told(candidates: Sequence[Candidate]) -> str:
    """One line a candidate that isn't cut out: node, table and reason."""
    return "\n".join(f"{item.kind} {item.node.name!r} on {item.table!r}: {item.reason}" for item in candidates if item.reason)


def _narrow_inputs(emit: Emit, found: Sequence[readings.Reading]) -> None:
    """INT64 inputs that carry ids become INT32; what else reads them gets a cast."""
    for value in tuple(emit.graph.inputs):
        if value.dtype != ir.DataType.INT64 or not any(_reaches(value, reading.ids) for reading in found):
            continue
        uses = list(value.uses())
        value.dtype = ir.DataType.INT32
        wide = emit.cast(value, ir.DataType.INT64)
        wide.dtype, wide.shape = ir.DataType.INT64, value.shape
        for use in uses:
            use.node.replace_input_with(use.idx, wide)


def _reaches(source: ir.Value, target: ir.Value) -> bool:
    stack, seen = [target], set()
    while stack:
        value = stack.pop()
        if value is source:
            return True
        if value in seen:
            continue
        seen.add(value)
        producer = value.producer()
        stack.extend(item for item in (producer.inputs if producer is not None else ()) if item is not None)
    return False


def _tidy(model: ir.Model) -> None:
    """Order the nodes, drop what nothing reads."""
    passes.TopologicalSortPass()(model)
    passes.RemoveUnusedNodesPass()(model)


def _no_lookup(candidates: Sequence[Candidate]) -> InputError:
    if not candidates:
        hint = "a table is a FLOAT, DOUBLE or FLOAT16 tensor [rows, dim] of the model that ids read: nn.Embedding, Gather"
        return InputError("the model reads no embedding table", hint=hint)
    return InputError(
        "the model has no lookup that can be cut out", hint="recsplit inspect tells why for every candidate", detail=told(candidates)
    )


def _refuse_control(model: ir.Model) -> None:
    """Loops and sequences have no place in the parts: TensorRT rejects them, and they are what makes exports slow."""
    for node in model.graph:
        if node.op_type in CONTROL - {"Scan"} | SEQUENCE:
            raise InputError(
                f"the model still has {node.op_type} {node.name!r}, which neither sub-model may have",
                hint="recsplit inspect tells why it isn't read as a bag; build from the .pt2 or the factory instead of the .onnx",
            )


def _refuse_left(model: ir.Model, refused: Mapping[ir.Node, str]) -> None:
    """A bag is a standard operator in neither part."""
    for node in model.graph:
        if node.domain == "recsplit" and node in refused:
            raise InputError(
                f"{node.op_type} {node.name!r} can't be cut out: {refused[node]}", hint="build from the factory, or use fixed-length bags"
            )


def _measure_interface(model: ir.Model, boundary: Sequence[ir.Value], lengths: Sequence[str]) -> None:
    """Write measured shapes on the boundary and the outputs. Raises InputError where one has no batch dimension."""
    values = [*boundary, *model.graph.outputs]
    for value, shape in zip(values, measure.shapes(model, values, zeros=lengths), strict=True):
        if not shape or shape[0] != "batch":
            raise InputError(
                f"output {value.name!r} has no batch dimension: its shape is {list(shape)} whatever the batch",
                hint="make the first dimension of every output the batch, for Triton cuts answers along it",
            )
        value.shape = ir.Shape(["batch", *(None if size == -1 else size for size in shape[1:])])


def _poison(emit: Emit, marks: ir.Value) -> None:
    """NaN in the float outputs of marked rows, so that nobody mistakes a clamped id's score for an answer."""
    bad = emit.op("GreaterOrEqual", emit.op("Gather", marks, emit.const([0]), axis=1), emit.const(0))
    for index, output in enumerate(tuple(emit.graph.outputs)):
        if output is marks or output.dtype is None or not output.dtype.is_floating_point() or output.shape is None:
            continue
        rank = len(output.shape)
        flag = bad if rank == 2 else emit.reshape(bad, [-1] + [1] * (rank - 1))
        nan = emit.const(np.array(np.nan), output.dtype.numpy(), name="nan")
        name = output.name
        output.name = f"{name}/unmarked"
        poisoned = emit.op("Where", flag, nan, output)
        poisoned.name, poisoned.dtype, poisoned.shape = name, output.dtype, output.shape
        emit.graph.outputs[index] = poisoned


def _take_unread(dense: ir.Model, model: ir.Model, embedding: ir.Model) -> None:
    """Inputs that nothing reads go to the dense model: clients may send them, and an ensemble has no input without a step."""
    known = {value.name for part in (dense, embedding) for value in part.graph.inputs}
    for value in model.graph.inputs:
        if value.name not in known:
            dense.graph.inputs.append(ir.val(value.name or "", type=value.type, shape=value.shape))
