"""What the engine is told of each lookup, collected while lowering writes the same as operators; and the recipe that it makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from recsplit.graph.engine.programs import Programs
from recsplit.graph.engine.registers import NotExpressedError
from recsplit.graph.find.candidates import table_name
from recsplit.graph.find.columns import Column
from recsplit.graph.find.ragged import RaggedGroup
from recsplit.graph.find.row_lookups import RowLookup
from recsplit.graph.flow import table_shape
from recsplit.graph.lower.fused_tables import FusedTable, UnknownIds, fallback
from recsplit.plan.plan import UNKNOWN_IDS, PlainPooling, Pooling, Tensor
from recsplit.plan.recipe import Check, EngineLookup, RaggedBags, Recipe

_ID_DTYPES = (ir.DataType.INT32, ir.DataType.INT64)
_FLATTENED = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})


@dataclass(frozen=True)
class Read:
    """One lookup of `table`, but for the place that its `vectors` have in an output: the fields are EngineLookup's."""

    table: ir.Value
    rows: int
    pooling: PlainPooling
    padding: int | None
    width: int
    bags: int
    input: int | None
    first: int
    program: int | None
    shifts: tuple[int, ...]
    group: int | None
    feature: int
    weights: int | None
    mark: int
    wrong: int

    @property
    def vectors(self) -> int:
        """Vectors a row; 0 where that varies."""
        return self.width if self.pooling == "none" else self.bags


@dataclass
class Reads:
    """Lookups as the engine does them. `reason`: why one can't be told; then the whole embedding model stays with ONNX Runtime."""

    unknown: UnknownIds
    programs: Programs = field(default_factory=Programs)
    groups: list[tuple[ir.Value, ir.Value, int]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    reason: str = ""

    def refuse(self, reason: str) -> None:
        """Remember the first reason."""
        self.reason = self.reason or reason

    def by_rows(self, lookup: RowLookup, position: int) -> tuple[Read, ...]:
        """A lookup whose ids form rows, of which the first is at this position in `unknown_ids`; () where the engine can't do it."""
        name = f"lookup {lookup.node.name or lookup.table.name!r}"
        try:
            if lookup.pooling == "graph":
                raise NotExpressedError("the model's own operators between the rows and what the dense model gets")
            source, first, program, shifts = self._ids(lookup)
            weights = self._weights(lookup)
        except NotExpressedError as error:
            self.refuse(f"{name} is computed by {error}")
            return ()
        padding = lookup.padding_idx if lookup.padding_idx >= 0 else None
        mark = position if self.unknown.marks else -1
        read = Read(
            lookup.table, _rows(lookup.table), _plain(lookup.pooling), padding, lookup.width or 0, lookup.bags,
            source, first, program, shifts, None, 0, weights, mark, -1,
        )  # fmt: skip
        return (read,)

    def _ids(self, lookup: RowLookup) -> tuple[int | None, int, int | None, tuple[int, ...]]:
        """(input, first column, program, shifts)."""
        columns = lookup.columns
        if lookup.width is None:
            if lookup.ids.is_graph_input() and lookup.ids.dtype in _ID_DTYPES:
                return self.programs.input(lookup.ids), 0, None, (0,)
        elif columns is not None and _contiguous(columns) and columns[0].source.dtype in _ID_DTYPES:
            return self.programs.input(columns[0].source), columns[0].column or 0, None, _same(tuple(column.shift for column in columns))
        program, (register,) = self.programs.of(lookup.ids)
        if register.width not in {lookup.width or 0, 1 if lookup.width else 0}:
            raise NotExpressedError(f"a program of {register.width} numbers a row")
        return None, 0, program, (0,)

    def _weights(self, lookup: RowLookup) -> int | None:
        value = lookup.weights
        if value is None:
            return None
        if not value.is_graph_input() or value.dtype != ir.DataType.FLOAT or lookup.table.dtype != ir.DataType.FLOAT:
            raise NotExpressedError("weights that aren't an FP32 input")
        width = value.shape[1] if value.shape is not None and len(value.shape) == 2 else None
        if lookup.width is not None and width != lookup.width:
            raise NotExpressedError("weights that aren't one for each id")
        return self.programs.input(value)

    def ragged(
        self,
        group: RaggedGroup,
        inputs: tuple[ir.Value, ir.Value, ir.Value | None],
        node: ir.Node,
        features: Sequence[tuple[ir.Value, Pooling, int]],
        shift: int | None,
        position: int,
    ) -> tuple[Read, ...]:
        """The lookups of a node over ragged bags, one for each feature: (table, pooling, padding_idx).

        `inputs`: the graph's inputs in rows: values, lengths, weights.
        """
        values, lengths, weights = inputs
        jagged = node.op_type == "JaggedBags"
        ids, factor = node.inputs[0 if jagged else 1], node.inputs[2 if jagged else 3] if len(node.inputs) > (2 if jagged else 3) else None
        try:
            source, program, shifts = self._ragged_ids(ids, group.values, values, shift)
            scale = self._ragged_weights(factor, group, weights, [table for table, _, _ in features])
        except NotExpressedError as error:
            self.refuse(f"lookup {node.name!r} is computed by {error}")
            return ()
        number = self._group(values, lengths, len(group.bags.features))
        return tuple(
            Read(
                table, _rows(table), _plain(pooling), padding if padding >= 0 else None, 0, 1,
                source, 0, program, shifts, number, feature, scale,
                position + feature if self.unknown.marks else -1, position,
            )
            for feature, (table, pooling, padding) in enumerate(features)
        )  # fmt: skip

    def _ragged_ids(
        self, ids: ir.Value | None, old: ir.Value, new: ir.Value, shift: int | None
    ) -> tuple[int | None, int | None, tuple[int, ...]]:
        """(input, program, shifts)."""
        assert ids is not None
        if shift is not None:
            return self.programs.input(new), None, (shift,)
        program, (register,) = self.programs.of(ids, stands_for={old: new})
        if register.width != 0:
            raise NotExpressedError("a program of other than its values")
        return None, program, (0,)

    def _ragged_weights(self, factor: ir.Value | None, group: RaggedGroup, new: ir.Value | None, tables: Sequence[ir.Value]) -> int | None:
        if factor is None:
            return None
        while (node := factor.producer()) is not None and node.op_type in _FLATTENED:
            assert node.inputs[0] is not None
            factor = node.inputs[0]
        dtypes = {factor.dtype, *(table.dtype for table in tables)}
        if factor is not group.weights or new is None or dtypes != {ir.DataType.FLOAT}:
            raise NotExpressedError("weights that aren't an FP32 input")
        return self.programs.input(new)

    def _group(self, values: ir.Value, lengths: ir.Value, features: int) -> int:
        for number, known in enumerate(self.groups):
            if known[0] is values and known[1] is lengths:
                return number
        self.groups.append((values, lengths, features))
        return len(self.groups) - 1

    def check(self, outside: ir.Value, ids: ir.Value, width: int | None, position: int) -> None:
        """Rows that are marked for what the dense model reads by these ids."""
        if not self.unknown.marks:
            return
        try:
            program, (numbers, bad) = self.programs.of(ids, outside)
        except NotExpressedError as error:
            self.refuse(f"what the dense model reads by ids is computed by {error}")
            return
        self.checks.append(Check(program, numbers.number, bad.number, width or 0, position))

    def recipe(
        self,
        outputs: Sequence[tuple[Tensor, Sequence[Read] | None]],
        fused: Mapping[ir.Value, FusedTable],
        tensors: Mapping[str, Tensor],
        marks: bool,
    ) -> Recipe | None:
        """The recipe, without the places of tables and buffers in files; None where there is a reason.

        `outputs`: each boundary tensor and its reads in order, None where they aren't known. `tensors`: the embedding model's inputs.
        """
        numbers = {id(table): number for number, table in enumerate({id(item): item for item in fused.values()}.values())}
        lookups: list[EngineLookup] = []
        for output, (tensor, reads) in enumerate(outputs):
            place = 0
            for read in reads or ():
                lookups.append(self._placed(read, fused[read.table], numbers[id(fused[read.table])], output, place))
                place += read.vectors
            if not reads or len(tensor.dims) != 2 or (tensor.dims[0] >= 0 and place != tensor.dims[0]):
                self.refuse(f"{tensor.name!r} is made by the model's own operators")
        inputs = [tensors.get(value.name or "") for value in self.programs.inputs]
        if None in inputs:
            self.refuse("it reads what is no input of the embedding model")
        if self.reason:
            return None
        # In the order of their positions, so that the first unknown id of a row is the one that is told.
        lookups.sort(key=lambda item: max(item.mark, item.wrong))
        bags = tuple(
            RaggedBags(self.programs.input(values), self.programs.input(lengths), features) for values, lengths, features in self.groups
        )
        known = tuple(tensor for tensor in inputs if tensor is not None)
        return Recipe(
            inputs=known + tuple(tensors[value.name or ""] for value in self.programs.inputs[len(known) :]),
            tables=(),
            buffers=(),
            vocabularies=tuple(self.programs.vocabularies),
            programs=tuple(self.programs.programs),
            bags=bags,
            outputs=tuple(tensor for tensor, _ in outputs),
            lookups=tuple(lookups),
            checks=tuple(self.checks),
            marks=UNKNOWN_IDS if marks else None,
        )

    def _placed(self, read: Read, fused: FusedTable, table: int, output: int, place: int) -> EngineLookup:
        return EngineLookup(
            name=table_name(read.table),
            table=table,
            base=fused.bases[read.table],
            rows=read.rows,
            fallback=fallback(fused, read.table, self.unknown),
            pooling=read.pooling,
            padding=read.padding,
            width=read.width,
            bags=read.bags,
            input=read.input,
            first=read.first,
            program=read.program,
            shifts=read.shifts,
            group=read.group,
            feature=read.feature,
            weights=read.weights,
            output=output,
            place=place,
            mark=read.mark,
            wrong=read.wrong,
        )


def _rows(table: ir.Value) -> int:
    shape = table_shape(table)
    assert shape is not None
    return shape[0]


def _contiguous(columns: Sequence[Column]) -> bool:
    """Whether they are columns of one input, side by side."""
    first = columns[0]
    return all(
        column.source is first.source and (column.column or 0) == (first.column or 0) + number for number, column in enumerate(columns)
    )


def _same(shifts: tuple[int, ...]) -> tuple[int, ...]:
    return shifts[:1] if len(set(shifts)) == 1 else shifts


def _plain(pooling: Pooling) -> PlainPooling:
    assert pooling != "graph"
    return pooling
