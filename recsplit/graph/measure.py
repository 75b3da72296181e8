"""Shapes and row order of values, measured by running the sub-graph that makes them at two batch sizes.

Exporters leave many shapes unknown or wrong; two small runs tell which dimensions follow the batch.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from recsplit.errors import RecsplitError
from recsplit.graph.flow import Array, evaluate

#: A measured dimension: its size, "batch", or -1 where it varies with something else.
Dim = int | str
_PROBES = ((3, 5), (4, 7))  # (batch, every other dynamic dimension)


def feeds(model: ir.Model, batch: int, length: int, rng: np.random.Generator) -> dict[str, Array]:
    """Inputs of small whole numbers (0 or 1) in each input's dtype: valid as ids of any table with two rows."""
    made: dict[str, Array] = {}
    for value in model.graph.inputs:
        assert value.name and value.shape is not None and value.dtype is not None
        sizes = [batch] + [size if isinstance(size, int) else length for size in value.shape[1:]] if len(value.shape) else []
        made[value.name] = rng.integers(0, 2, size=sizes).astype(value.dtype.numpy())
    return made


def shapes(model: ir.Model, values: Sequence[ir.Value]) -> list[tuple[Dim, ...]]:
    """The measured shape of each value. Raises RecsplitError if the sub-graph does not run."""
    if not values:
        return []
    first, second = (_run(model, values, *probe) for probe in _PROBES)
    return [
        tuple(
            "batch" if (a, b) == (_PROBES[0][0], _PROBES[1][0]) and axis == 0 else int(a) if a == b else -1
            for axis, (a, b) in enumerate(zip(one.shape, two.shape, strict=True))
        )
        for one, two in zip(first, second, strict=True)
    ]


def row_widths(model: ir.Model, values: Sequence[ir.Value]) -> list[int | None]:
    """How many elements of each value belong to one row of the batch; None where that varies or can't be told.

    A value qualifies only if its elements, read in order, are row after row: a batch of three gives what three
    single rows give, one after the other.
    """
    if not values:
        return []
    batch, length = _PROBES[0]
    whole = feeds(model, batch, length, np.random.default_rng(0))
    together = _evaluate(model, values, whole)
    alone = [_evaluate(model, values, {name: data[row : row + 1] for name, data in whole.items()}) for row in range(batch)]
    other = _run(model, values, *_PROBES[1])
    widths: list[int | None] = []
    for index, value in enumerate(together):
        rows = [single[index].reshape(-1) for single in alone]
        joined = np.concatenate(rows) if rows else value.reshape(-1)
        steady = value.size % batch == 0 and other[index].size * batch == value.size * _PROBES[1][0]
        same = joined.shape == value.reshape(-1).shape and bool(np.array_equal(joined, value.reshape(-1)))
        widths.append(value.size // batch if steady and same else None)
    return widths


def _run(model: ir.Model, values: Sequence[ir.Value], batch: int, length: int) -> list[Array]:
    return _evaluate(model, values, feeds(model, batch, length, np.random.default_rng(0)))


def _evaluate(model: ir.Model, values: Sequence[ir.Value], inputs: dict[str, Array]) -> list[Array]:
    try:
        return evaluate(model, values, inputs, shapes_only=True)
    except Exception as error:  # onnxruntime raises its own kinds, undocumented
        names = ", ".join(sorted({value.name or "?" for value in values})[:5])
        raise RecsplitError(
            f"the part of the graph that makes {names} does not run at another batch size than the exported one",
            hint="export with a dynamic batch dimension, and avoid Python numbers taken from shapes",
            detail=str(error),
        ) from error
