"""The user's own rows with labels, and a model's scores of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsplit.disk import archive
from recsplit.errors import InputError

LABEL, QUERY = "label", "query"
#: A set that is larger isn't read: no accuracy needs so many rows.
LIMIT_BYTES = 1 << 32
_ROWS = 4096
_HINT = "numpy.savez('eval.npz', label=clicks, ids=ids, ...): the source's own inputs by name, and 0 or 1 for each row"

Array = NDArray[np.generic]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Rows of the source's own inputs, and what each should have been answered: 0 or 1, [rows]. `by_rows`: see `read`.

    `queries` [rows]: rows of one number were candidates of one query; None: that isn't known.
    """

    inputs: Mapping[str, Array]
    labels: NDArray[np.bool_]
    by_rows: bool
    queries: Array | None = None


def read(path: Path, inputs: Sequence[str], *, by_rows: bool) -> Evaluation:
    """Read an .npz file. `by_rows`: whether every input has a row for each label, which bags that vary don't.

    Raises InputError where it is none, isn't of these inputs, or its labels aren't 0 and 1, some of each.
    """
    arrays = archive.arrays(path, "is no .npz file of numbers", LIMIT_BYTES, hint=_HINT)
    missing = [name for name in (*inputs, LABEL) if name not in arrays]
    strange = [name for name in arrays if name not in inputs and name not in (LABEL, QUERY)]
    if missing or strange:
        raise InputError(
            f"{path} {'lacks ' + repr(missing[0]) if missing else 'has ' + repr(strange[0]) + ', which the model has not'}", hint=_HINT
        )
    scalar = next((name for name, data in arrays.items() if data.ndim == 0), None)
    if scalar is not None:
        raise InputError(f"{scalar!r} in {path} is a single number, and no array of rows", hint=_HINT)
    labels = arrays[LABEL].reshape(-1)
    if arrays[LABEL].size != len(arrays[LABEL]) or set(np.unique(labels)) != {0, 1}:
        raise InputError(f"the labels in {path} aren't 0 and 1, one a row and some of each", hint=_HINT)
    other = next((name for name in inputs if by_rows and len(arrays[name]) != len(labels)), None)
    if other is not None:
        raise InputError(f"{path} has {len(labels)} labels, and {len(arrays[other])} rows of {other!r}", hint=_HINT)
    queries = None if QUERY in inputs else arrays.get(QUERY)
    if queries is not None and (queries.shape != labels.shape or queries.dtype.kind not in "iu"):
        raise InputError(f"{QUERY!r} in {path} is no whole number for each of {len(labels)} rows", hint=_HINT)
    return Evaluation({name: arrays[name] for name in inputs}, labels.astype(np.bool_), by_rows, queries)


def scores(run: Run, of: Evaluation) -> Scores:
    """The source's score of each row, [rows]: its first output, which has one number a row. Raises InputError where it hasn't."""
    rows = len(of.labels)
    step = _ROWS if of.by_rows else rows
    parts = []
    for first in range(0, rows, step):
        answers = run({name: data[first : first + step] if of.by_rows else data for name, data in of.inputs.items()})
        name, answer = next(iter(answers.items()))
        if answer.size != min(step, rows - first) or answer.dtype.kind != "f":
            raise InputError(
                f"output {name!r} is no score: it has the shape {list(answer.shape)} for {min(step, rows - first)} rows", hint=_HINT
            )
        parts.append(answer.reshape(-1).astype(np.float64))
    together = np.concatenate(parts)
    if np.isnan(together).any():
        raise InputError(f"the model's score of row {int(np.argmax(np.isnan(together)))} is NaN", hint="leave such rows out of the file")
    return together
