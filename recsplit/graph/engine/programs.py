"""Programs: the integer arithmetic between a client's ids and rows, as steps over registers instead of ONNX operators.

A register holds the numbers of one row, flat and row-major. Operators that only move numbers become one `pick` of columns, found by moving
the columns' own numbers with numpy; those that compute go number by number. What takes numbers of several rows, or floats, isn't one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from recsplit.graph.engine.moves import MOVES
from recsplit.graph.engine.registers import NotExpressedError, Register, common, dtype_of
from recsplit.graph.flow import Array, constant, int_of
from recsplit.plan.dtypes import TRITON
from recsplit.plan.recipe import Step, Vocabulary

_BINARY = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Min": "min", "Max": "max", "And": "bit_and", "Or": "bit_or", "Xor": "bit_xor",
    "BitwiseAnd": "bit_and", "BitwiseOr": "bit_or", "BitwiseXor": "bit_xor", "Equal": "equal", "Less": "less", "LessOrEqual": "less_equal",
    "Greater": "greater", "GreaterOrEqual": "greater_equal",
}  # fmt: skip
_UNARY = {"Neg": "negate", "Abs": "absolute", "Sign": "sign", "Not": "not", "BitwiseNot": "bit_not"}
_TO_BOOL = frozenset({"equal", "less", "less_equal", "greater", "greater_equal", "not"})
_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_MOST_COLUMNS = 1 << 16
#: Keys of all vocabularies that go into engine.json; with more the model stays with ONNX Runtime.
_MOST_KEYS = 1 << 17


@dataclass
class Programs:
    """What programs share: inputs, buffers and vocabularies by their numbers, which are given as they are first met."""

    inputs: list[ir.Value] = field(default_factory=list)
    buffers: list[ir.Value] = field(default_factory=list)
    vocabularies: list[Vocabulary] = field(default_factory=list)
    programs: list[tuple[Step, ...]] = field(default_factory=list)

    def input(self, value: ir.Value) -> int:
        """The number of a graph input."""
        return _number(self.inputs, value)

    def of(self, *values: ir.Value, stands_for: Mapping[ir.Value, ir.Value] | None = None) -> tuple[int, list[Register]]:
        """A new program that ends with these values' registers; its number. `stands_for`: inputs that are read in the place of others.

        Raises NotExpressedError.
        """
        writer = _Writer(self, dict(stands_for or {}))
        registers = [writer.numbers(value) for value in values]
        if registers[-1].number != len(writer.steps) - 1:
            last = registers[-1]
            registers[-1] = writer.add(Step("cast", writer.steps[last.number].dtype, of=(last.number,)), last.shape, last.width)
        self.programs.append(tuple(writer.steps))
        return len(self.programs) - 1, registers


def _number(items: list[ir.Value], value: ir.Value) -> int:
    for number, item in enumerate(items):
        if item is value:
            return number
    items.append(value)
    return len(items) - 1


@dataclass
class _Writer:
    """One program that is being written."""

    shared: Programs
    stands_for: dict[ir.Value, ir.Value]
    steps: list[Step] = field(default_factory=list)
    known: dict[ir.Value, Register] = field(default_factory=dict)

    def add(self, step: Step, shape: tuple[int, ...] | None, width: int, *, constant: bool = False, floats: bool = False) -> Register:
        """Append a step."""
        self.steps.append(step)
        return Register(len(self.steps) - 1, shape, width, constant, floats)

    def numbers(self, value: ir.Value | None) -> Register:
        """The register of a value that is computed with. Raises NotExpressedError."""
        register = self.register(value)
        if register.floats:
            raise NotExpressedError("arithmetic of floats")
        return register

    def register(self, value: ir.Value | None) -> Register:
        """The register of a value. Raises NotExpressedError."""
        if value is None:
            raise NotExpressedError("an operator without its input")
        if value not in self.known:
            self.known[value] = self._register(value)
        return self.known[value]

    def _register(self, value: ir.Value) -> Register:
        small = constant(value)
        if small is not None:
            return self._constant(small)
        if value in self.stands_for or value.is_graph_input():
            floats = value.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
            register = self._input(self.stands_for.get(value, value), "INT64" if floats else dtype_of(value))
            return replace(register, floats=floats)
        node = value.producer()
        if node is None:
            raise NotExpressedError(f"the constant {value.name!r}")
        if (node.domain, node.op_type) == ("ai.onnx.ml", "LabelEncoder"):
            return self._vocabulary(node)
        if node.domain not in ("", "ai.onnx"):
            raise NotExpressedError(f"{node.op_type} {node.name!r}")
        return self._operator(node, value)

    def _operator(self, node: ir.Node, value: ir.Value) -> Register:
        kind, first = node.op_type, node.inputs[0] if node.inputs else None
        if kind == "Identity":
            return self.register(first)
        if kind == "Cast":
            return self._cast(first, value)
        if kind in _RESHAPES:
            return self._reshaped(node, value)
        if kind in _BINARY:
            return self._chain(_BINARY[kind], node.inputs, value)
        if kind in _UNARY:
            return self._single(_UNARY[kind], self.numbers(first), value)
        if kind in ("Mod", "BitShift", "Where"):
            shift = "shift_left" if node.attributes.get_string("direction") == "LEFT" else "shift_right"
            names = {"Mod": "fmod" if int_of(node, "fmod", 0) else "mod", "BitShift": shift, "Where": "where"}
            return self._elementwise(names[kind], [self.numbers(item) for item in node.inputs], value)
        if kind == "Clip":
            bounds = [("max", item) for item in node.inputs[1:2] if item is not None]
            bounds += [("min", item) for item in node.inputs[2:3] if item is not None]
            register = self.numbers(first)
            for name, bound in bounds:
                register = self._elementwise(name, [register, self.numbers(bound)], value)
            return register
        if kind == "Gather" and first is not None and first.is_initializer():
            return self._buffer(node, first)
        if kind == "Concat" or kind in MOVES:
            return self._moved(node, value)
        raise NotExpressedError(f"{kind} {node.name!r}")

    def _constant(self, data: Array) -> Register:
        if data.dtype.kind not in "iub" or (data.dtype == np.uint64 and data.size and int(data.max()) >= 1 << 63):
            raise NotExpressedError(f"a constant of {data.dtype}")
        shape = tuple(data.shape)
        if data.size == 0 or data.size > _MOST_COLUMNS:
            raise NotExpressedError(f"a constant of {data.size} elements")
        dtype = "BOOL" if data.dtype == np.bool_ else str(data.dtype).upper()
        step = Step("constant", dtype, values=tuple(int(number) for number in data.reshape(-1)))
        return self.add(step, shape, data.size, constant=True)

    def _input(self, value: ir.Value, dtype: str) -> Register:
        number = self.shared.input(value)
        dims = [] if value.shape is None else list(value.shape[1:])
        if value.shape is None or len(value.shape) == 0:
            raise NotExpressedError(f"input {value.name!r} without a shape")
        sizes = [dim for dim in dims if isinstance(dim, int)]
        if len(sizes) == len(dims):
            width = math.prod(sizes)
            if not 0 < width <= _MOST_COLUMNS:
                raise NotExpressedError(f"an input of {width} columns")
            return self.add(Step("input", dtype, input=number, columns=tuple(range(width))), (1, *sizes), width)
        if len(dims) != 1:
            raise NotExpressedError(f"input {value.name!r}, of which several dimensions vary")
        return self.add(Step("input", dtype, input=number), None, 0)

    def _cast(self, first: ir.Value | None, value: ir.Value) -> Register:
        operand = self.register(first)
        if not operand.floats:
            return self._single("cast", operand, value)
        if value.dtype != ir.DataType.INT64:  # a cast to INT32 isn't one to INT64 and then to INT32
            raise NotExpressedError("a cast of floats to another type than INT64")
        return replace(operand, floats=False)

    def _single(self, name: str, operand: Register, value: ir.Value) -> Register:
        step = Step(name, self._type(name, [operand], value), of=(operand.number,))
        return self.add(step, operand.shape, operand.width, constant=operand.constant)

    def _type(self, name: str, operands: Sequence[Register], value: ir.Value) -> str:
        """The dtype of what a step gives; of operators of recsplit's own, whose values may have none, by that of their operands."""
        if value.dtype is not None or name == "cast":
            return dtype_of(value)
        return "BOOL" if name in _TO_BOOL else self.steps[operands[-1].number].dtype

    def _reshaped(self, node: ir.Node, value: ir.Value) -> Register:
        operand = self.register(node.inputs[0])
        if operand.constant:
            raise NotExpressedError(f"{node.op_type} {node.name!r} of a constant")
        if operand.width == 0:
            # Of a request's whole row nothing but its one dimension is known.
            if value.shape is None or len(value.shape) != 2:
                raise NotExpressedError(f"{node.op_type} {node.name!r}")
            return operand
        sizes = [] if value.shape is None else [size for size in value.shape[1:] if isinstance(size, int)]
        rank = 0 if value.shape is None else len(value.shape)
        whole = rank > 0 and len(sizes) == rank - 1 and math.prod(sizes) == operand.width
        return replace(operand, shape=(1, *sizes) if whole else None)

    def _chain(self, name: str, inputs: Sequence[ir.Value | None], value: ir.Value) -> Register:
        """An operator of two operands or, as Min and Max, of more."""
        register = self.numbers(inputs[0])
        for item in inputs[1:]:
            register = self._elementwise(name, [register, self.numbers(item)], value)
        return register

    def _elementwise(self, name: str, operands: Sequence[Register], value: ir.Value) -> Register:
        """A step whose operands are brought to one shape first, as ONNX broadcasts."""
        shape, width = common(operands)
        numbers = tuple(self._broadcast(operand, shape).number for operand in operands)
        constant = all(operand.constant for operand in operands)
        return self.add(Step(name, self._type(name, operands, value), of=numbers), shape, width, constant=constant)

    def _broadcast(self, operand: Register, shape: tuple[int, ...] | None) -> Register:
        if operand.width <= 1 or shape is None:
            return operand  # one number stands for any width; what has no known shape is as wide as the others
        assert operand.shape is not None
        columns = np.broadcast_to(np.arange(operand.width).reshape(operand.shape), shape).reshape(-1)
        return self._pick(operand, columns, shape)

    def _pick(self, operand: Register, columns: NDArray[np.int64], shape: tuple[int, ...]) -> Register:
        if len(columns) == operand.width and np.array_equal(columns, np.arange(operand.width)):
            return replace(operand, shape=shape)
        if not 0 < len(columns) <= _MOST_COLUMNS:
            raise NotExpressedError(f"{len(columns)} columns")
        step = Step("pick", self.steps[operand.number].dtype, of=(operand.number,), columns=tuple(int(column) for column in columns))
        return self.add(step, shape, len(columns), constant=operand.constant, floats=operand.floats)

    def _moved(self, node: ir.Node, value: ir.Value) -> Register:
        """Columns moved, repeated, left out: what ONNX does with numbers is done with their places."""
        if node.op_type == "Concat":
            return self._concatenated(node)
        operand = self.register(node.inputs[0])
        if operand.shape is None or operand.constant:
            raise NotExpressedError(f"{node.op_type} {node.name!r}")
        places = np.arange(operand.width).reshape(operand.shape)
        moved = MOVES[node.op_type](node, value, places)
        if moved is None or moved.ndim == 0 or moved.shape[0] != 1:
            raise NotExpressedError(f"{node.op_type} {node.name!r}")
        return self._pick(operand, moved.reshape(-1), tuple(moved.shape))

    def _concatenated(self, node: ir.Node) -> Register:
        operands = [self.register(item) for item in node.inputs]
        shapes = [operand.shape for operand in operands if operand.shape is not None]
        axis = int_of(node, "axis", 0) % len(shapes[0]) if shapes else 0
        # A constant beside ids would have one row for each of the batch.
        mixed = len({operand.floats for operand in operands}) > 1
        if len(shapes) != len(operands) or axis == 0 or mixed or any(operand.constant for operand in operands):
            raise NotExpressedError(f"Concat {node.name!r}")
        starts = np.cumsum([0, *(operand.width for operand in operands)])
        places = [start + np.arange(operand.width).reshape(shape) for start, operand, shape in zip(starts, operands, shapes, strict=False)]
        moved = np.concatenate(places, axis)
        step = Step("concat", self.steps[operands[0].number].dtype, of=tuple(operand.number for operand in operands))
        joined = self.add(step, None, int(starts[-1]), floats=any(operand.floats for operand in operands))
        return self._pick(joined, moved.reshape(-1), tuple(moved.shape))

    def _buffer(self, node: ir.Node, data: ir.Value) -> Register:
        """Entries of a constant [n, ...] of integers: of a flat one, at the entry's number times its size."""
        tensor = data.const_value
        if tensor is None or tensor.dtype not in (ir.DataType.INT64, ir.DataType.INT32) or int_of(node, "axis", 0) != 0:
            raise NotExpressedError(f"Gather {node.name!r}")
        behind = [int(size) for size in tensor.shape.numpy()[1:]]
        size = math.prod(behind)
        place = self.numbers(node.inputs[1])
        shape = None if place.shape is None else (*place.shape, *behind)
        if size != 1:
            if shape is None or place.shape is None or not 0 < place.width * size <= _MOST_COLUMNS:
                raise NotExpressedError(f"Gather {node.name!r} of several numbers each")
            times = self.add(Step("constant", "INT64", values=(size,)), None, 1)
            offsets = self.add(Step("constant", "INT64", values=tuple(range(size)) * place.width), None, size * place.width)
            repeated = self._pick(place, np.repeat(np.arange(place.width), size), shape)
            scaled = self.add(Step("mul", "INT64", of=(repeated.number, times.number)), None, repeated.width)
            place = self.add(Step("add", "INT64", of=(scaled.number, offsets.number)), None, repeated.width)
        number = _number(self.shared.buffers, data)
        step = Step("buffer", TRITON[tensor.dtype.name], of=(place.number,), buffer=number)
        return self.add(step, shape, place.width)

    def _vocabulary(self, node: ir.Node) -> Register:
        operand = self.numbers(node.inputs[0])
        keys, values = node.attributes.get("keys_int64s"), node.attributes.get("values_int64s")
        if keys is None or values is None:
            raise NotExpressedError(f"LabelEncoder {node.name!r} of other than INT64")
        first: dict[int, int] = {}
        for key, number in zip(keys.as_ints(), values.as_ints(), strict=True):
            first.setdefault(key, number)
        if len(first) + sum(len(known.keys) for known in self.shared.vocabularies) > _MOST_KEYS:
            raise NotExpressedError(f"LabelEncoder {node.name!r} of {len(first)} keys")
        order = sorted(first)
        vocabulary = Vocabulary(tuple(order), tuple(first[key] for key in order), int_of(node, "default_int64", -1))
        self.shared.vocabularies.append(vocabulary)
        step = Step("vocabulary", "INT64", of=(operand.number,), vocabulary=len(self.shared.vocabularies) - 1)
        return self.add(step, operand.shape, operand.width)
