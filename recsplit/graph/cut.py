"""The cut: lower every lookup, pack what crosses, and take the graph apart at the boundary. CUT lists the passes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from recsplit.errors import InputError
from recsplit.graph import border, conditions, measure, passes, refusals
from recsplit.graph.emit import Emit
from recsplit.graph.engine.recipes import recipe_of
from recsplit.graph.extract import part
from recsplit.graph.find import ragged
from recsplit.graph.find.candidates import Candidate, find, tables_of
from recsplit.graph.find.row_lookups import RowLookup, is_ragged, read_rows
from recsplit.graph.find.vocabularies import Vocabulary, vocabularies
from recsplit.graph.flow import Array, is_lookup_shaped
from recsplit.graph.int64 import rewrite_int64
from recsplit.graph.lower.buffers import guard
from recsplit.graph.lower.collected import Lowering, Packed, mark_rows, mark_wrong_lengths, packed
from recsplit.graph.lower.dense_reads import DenseRead, guard_dense_reads, mark_dense_reads
from recsplit.graph.lower.dense_weights import weigh_after_lookup
from recsplit.graph.lower.fused_tables import FusedTable, UnknownIds, fuse, policy
from recsplit.graph.lower.pack import pack
from recsplit.graph.lower.ragged_bags import BagForm, choose_form, lower_bags
from recsplit.graph.lower.ragged_inputs import drop_old_inputs
from recsplit.graph.lower.row_lookups import lower_fixed, lower_varying
from recsplit.graph.lower.stacked import restack
from recsplit.graph.source_tables import SourceTable, Store, as_they_are, source_table
from recsplit.plan.plan import UNKNOWN_IDS, Bags, Lookup
from recsplit.plan.ragged import bag_lengths
from recsplit.plan.recipe import Recipe


@dataclass(frozen=True)
class Cut:
    """A model taken apart: embedding and dense sub-models, and `whole`, the same operators in one graph.

    Inputs and outputs of all three have measured shapes. `fused` tables are not yet on disk: their initializers point into
    files.TABLES_FILE. `marks`: whether `unknown_ids` is among the embedding model's outputs: it marks unknown ids where those are an error,
    and bags' lengths that can't be read under any policy. `recipe`: the embedding model as the engine does it, without the places of tables
    (in the order of `fused`) and `buffers` in files; None where the engine can't, for the reason `no_recipe`. `check`: from the ensemble's
    inputs to the marks of all unknown ids and wrong lengths, under any policy; it reads no table. `stored`: each
    table, and how its rows are to be stored.
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
    recipe: Recipe | None
    buffers: tuple[ir.Value, ...]
    no_recipe: str
    stored: tuple[tuple[SourceTable, str], ...]

    def vocabularies(self) -> Sequence[Vocabulary]:
        """Keys that the ensemble's inputs are looked up by, before rows are."""
        return vocabularies(self.whole)

    def known(self) -> Callable[[Mapping[str, Array]], NDArray[np.bool_]]:
        """A function of the ensemble's inputs: BOOL [batch], whether all ids of a row are inside their tables."""
        run = measure.runner(self.check, self.check.graph.outputs)
        return lambda inputs: np.less(run(inputs)[0][:, 0], 0)


@dataclass
class Cutting:
    """A model that is being cut: what was asked for, and what the passes have learnt and made so far."""

    model: ir.Model
    unknown: UnknownIds
    int32_ids: bool
    bag_form: BagForm | None
    adding_up: bool
    example: Mapping[str, Array] | None
    loops: Mapping[str, str]
    store: Store
    candidates: tuple[Candidate, ...] = ()
    row_lookups: Sequence[RowLookup] = ()
    ragged_groups: Sequence[ragged.RaggedGroup] = ()
    buffer_reads: frozenset[ir.Node] = frozenset()
    dense_reads: Sequence[DenseRead] = ()
    stored: tuple[tuple[SourceTable, str], ...] = ()
    lowering: Lowering = field(init=False)
    all_marks: ir.Value = field(init=False)  # of unknown ids and wrong lengths
    marks: ir.Value | None = None  # those that leave the model under the policy
    boundary: Sequence[ir.Value] = ()
    parts: dict[str, ir.Model] = field(default_factory=dict)

    def models(self) -> list[ir.Model]:
        """The whole, and the parts as soon as there are any."""
        return [self.model, *self.parts.values()]


def cut(
    model: ir.Model,
    *,
    unknown_ids: str = "error",
    int32_ids: bool = False,
    bag_form: BagForm | None = None,
    adding_up: bool = False,
    example: Mapping[str, Array] | None = None,
    loops: Mapping[str, str] | None = None,
    store: Store = as_they_are,
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
        store: asked once how the rows of the tables are to be stored.

    Raises:
        InputError: no lookup can be cut out, or an operator is left that the parts can't have.
    """
    state = Cutting(model, policy(unknown_ids), int32_ids, bag_form, adding_up, example, loops or {}, store)
    passes.run(CUT, state, Cutting.models)
    lowering = state.lowering
    recipe = recipe_of(lowering, state.boundary, state.parts["embedding"], marks=state.marks is not None)
    return Cut(
        whole=model,
        embedding=state.parts["embedding"],
        dense=state.parts["dense"],
        check=state.parts["check"],
        boundary=tuple(value.name or "" for value in state.boundary),
        fused=tuple({id(table): table for table in lowering.fused.values()}.values()),
        lookups=tuple(lowering.lookups),
        bags=tuple(group.bags for group in state.ragged_groups),
        candidates=state.candidates,
        marks=state.marks is not None,
        packed=tuple(packed(value, lowering.packed.get(value, ())) for value in state.boundary),
        recipe=recipe,
        buffers=tuple(lowering.reads.programs.buffers),
        no_recipe=lowering.reads.reason,
        stored=state.stored,
    )


def _rewrite_int64(state: Cutting) -> None:
    rewrite_int64(state.model)


def _find(state: Cutting) -> None:
    """Every candidate. Raises InputError where none is a lookup, and for operators that no part may have."""
    state.candidates = find(state.model, loops=state.loops)
    if not any(candidate.is_lookup for candidate in state.candidates):
        raise refusals.no_lookup(state.candidates)
    refusals.refuse_control(state.model)


def _guard(state: Cutting) -> None:
    """Buffers that ids come out of are read inside their bounds; they move along, so their reading is cut out too."""
    guarded = guard(state.model, state.candidates)
    state.buffer_reads = guarded.reads
    refusals.refuse_left(state.model, guarded.refused)
    _tidy(state.model)
    reasons = {**guarded.refused, **dict.fromkeys(guarded.reads, "")}
    state.candidates = tuple(replace(item, reason=reasons.get(item.node, item.reason)) for item in state.candidates)


def _read(state: Cutting) -> None:
    """What each lookup reads, by rows or in ragged bags; a lookup that can't be cut out after all gets its reason."""
    lookups = [candidate for candidate in state.candidates if is_lookup_shaped(candidate.node)]
    state.row_lookups, refused = read_rows(state.model, lookups, adding_up=state.adding_up)
    nodes = [candidate.node for candidate in lookups if candidate.is_lookup and is_ragged(candidate.node)]
    state.ragged_groups, ragged_refused = ragged.group(state.model, nodes)
    refused.update(ragged_refused)
    state.candidates = tuple(
        replace(candidate, reason=candidate.reason or refused.get(candidate.node, "")) for candidate in state.candidates
    )
    if not state.row_lookups and not state.ragged_groups:
        raise refusals.no_lookup(state.candidates)
    refusals.refuse_left(state.model, {candidate.node: candidate.reason for candidate in state.candidates if candidate.reason})


def _guard_rest(state: Cutting) -> None:
    """What else is read by a client's ids stays in the dense model, and is read inside its bounds there."""
    lookups = {lookup.node for lookup in state.row_lookups} | {node for group in state.ragged_groups for node in group.nodes}
    state.dense_reads = guard_dense_reads(state.model, lookups | state.buffer_reads)


def _lower(state: Cutting) -> None:
    """Standard operators over fused tables in the place of every lookup; what crosses, packed; `unknown_ids` as the last output."""
    emit = Emit(state.model)
    if state.int32_ids:
        border.narrow_inputs(emit, state.row_lookups)
    tables = [lookup.table for lookup in state.row_lookups]
    tables += [table for group in state.ragged_groups for node in group.nodes for table in tables_of(node)]
    tables = list(dict.fromkeys(tables))
    lookups = {lookup.node for lookup in state.row_lookups} | {node for group in state.ragged_groups for node in group.nodes}
    known = [source_table(table, lookups) for table in tables]
    state.stored = tuple(zip(known, state.store(known), strict=True))
    by_table = {table: stored for table, (_, stored) in zip(tables, state.stored, strict=True)}
    state.lowering = Lowering(emit, fuse(emit, tables, state.unknown, by_table), state.unknown)
    lower_fixed(state.lowering, [lookup for lookup in state.row_lookups if lookup.width is not None])
    for lookup in state.row_lookups:
        if lookup.width is None:
            lower_varying(state.lowering, lookup)
    for group in state.ragged_groups:
        form = state.bag_form or choose_form(_example_lengths(group, state.example))
        lower_bags(state.lowering, group, form, int32_ids=state.int32_ids)
    mark_dense_reads(state.lowering, state.dense_reads)
    state.all_marks = mark_rows(state.lowering)
    state.marks = state.all_marks if state.unknown.marks else mark_wrong_lengths(state.lowering)
    if state.marks is not None:
        state.marks.name = UNKNOWN_IDS
    state.model.graph.outputs.extend(dict.fromkeys(marks for marks in (state.all_marks, state.marks) if marks is not None))
    state.boundary = pack(state.lowering)
    restack(emit)
    _tidy(state.model)


def _drop_ragged_inputs(state: Cutting) -> None:
    problem = drop_old_inputs(state.model, state.ragged_groups)
    if problem:
        raise InputError(
            f"the model can't be batched: {problem}", hint="make the batch size follow another input, or use fixed-length bags"
        )


def _measure(state: Cutting) -> None:
    border.forget_symbols(state.model)
    border.measure_interface(state.model, state.boundary, [group.bags.lengths for group in state.ragged_groups])
    state.parts["check"] = part(state.model, state.model.graph.inputs, [state.all_marks], "check")


def _answer_marked_rows(state: Cutting) -> None:
    """NaN in the rows that are marked under the policy; the other marks don't leave the model."""
    if state.marks is not state.all_marks:
        state.model.graph.outputs.remove(state.all_marks)
    if state.marks is not None:
        border.poison(Emit(state.model, "recsplit/poison"), state.marks)
    _tidy(state.model)


def _take_apart(state: Cutting) -> None:
    graph = state.model.graph
    crossing = [*state.boundary, *([] if state.marks is None else [state.marks])]
    outputs = [value for value in graph.outputs if value is not state.marks]
    state.parts["embedding"] = part(state.model, graph.inputs, crossing, "embedding")
    state.parts["dense"] = part(state.model, [*graph.inputs, *crossing], outputs, "dense")
    border.take_unread(state.parts["dense"], state.model, state.parts["embedding"])


def _example_lengths(group: ragged.RaggedGroup, example: Mapping[str, Array] | None) -> Array | None:
    return None if example is None else bag_lengths(group.bags, example, len(example[group.bags.source_values]))


def _tidy(model: ir.Model) -> None:
    """Order the nodes, drop what nothing reads."""
    common.TopologicalSortPass()(model)
    common.RemoveUnusedNodesPass()(model)


_WHOLE = (conditions.SORTED, conditions.UNIQUE_NAMES)

CUT: tuple[passes.Pass[Cutting], ...] = (
    passes.Pass(
        "reserve names",
        lambda state: border.reserve(state.model, UNKNOWN_IDS),
        (conditions.NO_FUNCTIONS, conditions.NO_CONSTANTS, conditions.BATCHED_INPUTS),
        (conditions.UNIQUE_NAMES,),
    ),
    passes.Pass("rewrite INT64 operators", _rewrite_int64, ensures=(conditions.UNIQUE_NAMES,)),
    passes.Pass("weigh after the lookup", lambda state: weigh_after_lookup(state.model), ensures=(conditions.UNIQUE_NAMES,)),
    passes.Pass("find lookups", _find, ensures=(conditions.SERVED,)),
    passes.Pass("guard buffers", _guard, (conditions.SERVED,), (conditions.SORTED, conditions.UNIQUE_NAMES)),
    passes.Pass("read lookups", _read, requires=(conditions.SERVED,)),  # what has bodies can't be taken out and measured
    passes.Pass("guard what stays", _guard_rest, (conditions.SERVED,), (conditions.SORTED, conditions.UNIQUE_NAMES)),
    passes.Pass("lower lookups", _lower, (conditions.SERVED, conditions.UNIQUE_NAMES), (conditions.SORTED, conditions.NO_BAGS)),
    # Until now the inputs in rows stand beside the ragged ones, under the same names.
    passes.Pass("drop ragged inputs", _drop_ragged_inputs, (conditions.NO_BAGS,), _WHOLE),
    passes.Pass("measure the interface", _measure, _WHOLE, (conditions.BATCHED_INPUTS, conditions.BATCHED_OUTPUTS)),
    passes.Pass("answer marked rows", _answer_marked_rows, (conditions.BATCHED_OUTPUTS,), _WHOLE),
    passes.Pass(
        "take apart",
        _take_apart,
        (conditions.BATCHED_INPUTS, conditions.BATCHED_OUTPUTS, *_WHOLE),
        (conditions.NO_BAGS, conditions.SERVED, conditions.BATCHED_INPUTS, conditions.BATCHED_OUTPUTS, *_WHOLE),
    ),
)
