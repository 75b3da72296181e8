"""Shapes and row order of values, measured by running the sub-graph that makes them at two batch sizes.

Exporters leave many shapes unknown or wrong; two small runs tell which dimensions follow the batch.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnxruntime

from recsplit.errors import RecsplitError
from recsplit.graph.extract import session_for
from recsplit.graph.flow import Array

#: A measured dimension: its size, "batch", or -1 where it varies with something else.
Dim = int | str
_PROBES = ((3, 5), (4, 7))  # (batch, every other dynamic dimension)
_TRIALS = 8  # zeros and ones tell rows apart by chance: one trial in 16 would take mixed rows of two ids for rows in order
_Run = Callable[[Mapping[str, Array]], list[Array]]


@dataclass(frozen=True)
class Rows:
    """How a value's elements belong to the rows of the batch.

    `width`: elements of one row, if the value, read in order, is row after row; None where that varies or isn't so.
    `mixed`: the first dimension is the batch, and yet what stands in a row depends on the other rows.
    """

    width: int | None
    mixed: bool


def feeds(model: ir.Model, batch: int, length: int, rng: np.random.Generator, *, low: int = 0, high: int = 1) -> dict[str, Array]:
    """Inputs of whole numbers in each input's dtype, `length` long where a dimension varies.

    By default of 0 and 1, which are ids of any table with two rows; else from low to high, as far as the dtype counts
    without gaps.
    """
    arrays_by_name: dict[str, Array] = {}
    for value in model.graph.inputs:
        assert value.name and value.shape is not None and value.dtype is not None
        sizes = [batch] + [size if isinstance(size, int) else length for size in value.shape[1:]] if len(value.shape) else []
        dtype = value.dtype.numpy()
        least, most = _whole(dtype)
        arrays_by_name[value.name] = rng.integers(max(low, least), min(high, most), size=sizes, endpoint=True).astype(dtype)
    return arrays_by_name


def _whole(dtype: np.dtype[np.generic]) -> tuple[int, int]:
    """The smallest and the largest of the whole numbers that a dtype holds without gaps."""
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind in "iu":
        return int(np.iinfo(dtype.name).min), int(np.iinfo(dtype.name).max)
    digits = {"float16": 11, "bfloat16": 8, "float32": 24}.get(dtype.name, 53)
    return -(2**digits), 2**digits


def shapes(
    model: ir.Model, values: Sequence[ir.Value], *, zeros: Collection[str] = (), lengths: Collection[str] = ()
) -> list[tuple[Dim, ...]]:
    """The measured shape of each value. Raises RecsplitError if the sub-graph does not run.

    `zeros`: inputs that must be 0; `lengths`: those [batch, features] where the first feature's bags take all slots there are.
    """
    if not values:
        return []
    run = runner(model, values)

    def sizes(batch: int, length: int) -> list[Array]:
        inputs = feeds(model, batch, length, np.random.default_rng(0))
        for name in {*zeros, *lengths} & set(inputs):
            inputs[name] = np.zeros_like(inputs[name])
            inputs[name][:, :1] = length if name in lengths else 0
        return run(inputs)

    first, second = (sizes(*probe) for probe in _PROBES)
    other = _with_larger_numbers(model, run) if not zeros and not lengths else None
    return [
        tuple(
            "batch" if (a, b) == (_PROBES[0][0], _PROBES[1][0]) and axis == 0 else int(a) if a == b == c else -1
            for axis, (a, b, c) in enumerate(zip(one.shape, two.shape, three.shape, strict=True))
        )
        for one, two, three in zip(first, second, other or first, strict=True)
    ]


class Measured:
    """Dims and dtypes of values of one model, `lengths` being inputs as for `shapes`; remembered."""

    def __init__(self, model: ir.Model, lengths: Collection[str] = ()) -> None:
        self._model = model
        self._lengths = lengths
        self._known: dict[ir.Value, tuple[tuple[Dim, ...], ir.DataType]] = {}

    def all(self, values: Sequence[ir.Value]) -> Sequence[ir.Value]:
        """Measure several at once; returns them."""
        unmeasured_values = [value for value in dict.fromkeys(values) if value not in self._known]
        if unmeasured_values:
            measured_dims = shapes(self._model, unmeasured_values, lengths=self._lengths)
            inputs = feeds(self._model, *_PROBES[0], np.random.default_rng(0))
            once = runner(self._model, unmeasured_values)(
                {name: np.zeros_like(data) if name in self._lengths else data for name, data in inputs.items()}
            )
            self._known.update(
                {
                    value: (dims, ir.DataType.from_numpy(data.dtype))
                    for value, dims, data in zip(unmeasured_values, measured_dims, once, strict=True)
                }
            )
        return values

    def dims(self, value: ir.Value) -> tuple[Dim, ...]:
        """The measured shape."""
        self.all([value])
        return self._known[value][0]

    def dtype(self, value: ir.Value) -> ir.DataType:
        """The dtype."""
        self.all([value])
        return self._known[value][1]


def _with_larger_numbers(model: ir.Model, run: _Run) -> list[Array] | None:
    """The values at the first probe's size for larger numbers, which lengths of histories may be; None if they can't be run."""
    try:
        return run(feeds(model, *_PROBES[0], np.random.default_rng(0), high=_PROBES[0][1]))
    except RecsplitError:  # no length, but an id beyond a small table of integers, say
        return None


def rows(model: ir.Model, values: Sequence[ir.Value]) -> list[Rows]:
    """How each value lies in rows: a batch is compared with its rows run one by one, on several random inputs."""
    if not values:
        return []
    run = runner(model, values)
    batch, length = _PROBES[0]
    other = run(feeds(model, *_PROBES[1], np.random.default_rng(0)))
    widths: list[int | None] = []
    mixed = [False] * len(values)
    for trial in range(_TRIALS):
        whole = feeds(model, batch, length, np.random.default_rng(trial))
        together = run(whole)
        alone = [run({name: data[row : row + 1] for name, data in whole.items()}) for row in range(batch)]
        if trial == 0:
            sizes = zip(together, other, _with_larger_numbers(model, run) or together, strict=True)
            widths = [_width(one.size, two.size) if one.size == three.size else None for one, two, three in sizes]
        for index, value in enumerate(together):
            singles = [single[index] for single in alone]
            if not np.array_equal(np.concatenate([single.reshape(-1) for single in singles]), value.reshape(-1)):
                widths[index] = None
            leads = [item.shape[:1] for item in (value, other[index])] == [(batch,), (_PROBES[1][0],)]
            mixed[index] = mixed[index] or (leads and _mixed(value, singles))
    return [Rows(width, mix) for width, mix in zip(widths, mixed, strict=True)]


def _width(size: int, other: int) -> int | None:
    """Elements a row, if both probes' sizes say the same."""
    batch, other_batch = _PROBES[0][0], _PROBES[1][0]
    return size // batch if size % batch == 0 and other * batch == size * other_batch else None


def _mixed(value: Array, alone: Sequence[Array]) -> bool:
    """Whether a row of [batch, ...] differs from the row run alone, as far as both go (a batch may be padded to its longest)."""
    for row, single in zip(value, alone, strict=True):
        if single.ndim != value.ndim or len(single) != 1:
            return True
        common = tuple(slice(0, min(sizes)) for sizes in zip(row.shape, single[0].shape, strict=True))
        if not np.array_equal(row[common], single[0][common]):
            return True
    return False


def runner(model: ir.Model, values: Sequence[ir.Value]) -> _Run:
    """The values as a function of all graph inputs; lookups answer zeros. It raises RecsplitError where it can't run."""

    try:
        session = session_for(model, tuple(values), shapes_only=True)
    except Exception as error:  # onnxruntime raises its own kinds, undocumented
        raise RecsplitError(
            f"onnxruntime can't load the graph: {str(error).rpartition(' : ')[2]}",
            hint=f"is every operator one that onnxruntime {onnxruntime.__version__} has, and do the weights' shapes fit?",
        ) from error
    needed = [item.name for item in session.get_inputs()]

    def ask(inputs: Mapping[str, Array]) -> list[Array]:
        return [np.asarray(item) for item in session.run(None, {name: inputs[name] for name in needed})]

    def run(inputs: Mapping[str, Array]) -> list[Array]:
        try:
            return ask(inputs)
        except Exception as error:
            names = ", ".join(sorted({value.name or "?" for value in values})[:5])
            size = _runs_at(model, ask)
            if size is None:
                raise RecsplitError(
                    f"onnxruntime can't run the part of the graph that makes {names}",
                    hint="does the model run in onnxruntime, and with ids 0 and 1?",
                    detail=str(error),
                ) from error
            raise RecsplitError(
                f"the part of the graph that makes {names} does not run at another batch size than the exported one, {size}",
                hint="export with a dynamic batch dimension, and avoid Python numbers taken from shapes",
                detail=str(error),
            ) from error

    return run


def _runs_at(model: ir.Model, ask: _Run) -> int | None:
    """A batch size at which a graph runs, after it failed at one of the probes; None where it runs at none of those tried."""
    sizes: tuple[int, ...] = (*range(1, 33), 64, 128, 256, 512, 1024)
    for batch in sizes:
        for _, length in _PROBES:
            try:
                ask(feeds(model, batch, length, np.random.default_rng(0)))
            except Exception:  # onnxruntime raises its own kinds, undocumented
                continue
            return batch
    return None
