"""The user's own rows with labels, and a model's scores of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsplit.disk import archive
from recsplit.errors import InputError

LABEL = "label"
#: A set that is larger isn't read: no accuracy needs so many rows.
LIMIT_BYTES = 1 << 32
_ROWS = 4096
_HINT = "numpy.savez('eval.npz', label=clicks, ids=ids, ...): the source's own inputs by name, and 0 or 1 for each row"

Array = NDArray[np.generic]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Rows of the source's own inputs, and what each should have been answered: 0 or 1, [rows]."""

    inputs: Mapping[str, Array]
    labels: NDArray[np.bool_]


def read(path: Path, inputs: Sequence[str]) -> Evaluation:
    """Read an .npz file. Raises InputError where it is none, isn't of these inputs, or its labels aren't 0 and 1, some of each."""
    arrays = archive.arrays(path, "is no .npz file of numbers", LIMIT_BYTES, hint=_HINT)
    missing = [name for name in (*inputs, LABEL) if name not in arrays]
    strange = [name for name in arrays if name not in inputs and name != LABEL]
    if missing or strange:
        raise InputError(
            f"{path} {'lacks ' + repr(missing[0]) if missing else 'has ' + repr(strange[0]) + ', which the model has not'}", hint=_HINT
        )
    labels = arrays[LABEL].reshape(-1)
    if arrays[LABEL].size != len(arrays[LABEL]) or set(np.unique(labels)) != {0, 1}:
        raise InputError(f"the labels in {path} aren't 0 and 1, one a row and some of each", hint=_HINT)
    return Evaluation({name: arrays[name] for name in inputs}, labels.astype(np.bool_))


def scores(run: Run, of: Evaluation) -> Scores:
    """The source's score of each row, [rows]: its first output, which has one number a row. Raises InputError where it hasn't."""
    rows = len(of.labels)
    step = _ROWS if all(len(data) == rows for data in of.inputs.values()) else rows  # bags that vary can't be taken apart here
    parts = []
    for first in range(0, rows, step):
        answers = run({name: data if step == rows else data[first : first + step] for name, data in of.inputs.items()})
        name, answer = next(iter(answers.items()))
        if answer.size != min(step, rows - first) or answer.dtype.kind != "f":
            raise InputError(
                f"output {name!r} is no score: it has the shape {list(answer.shape)} for {min(step, rows - first)} rows", hint=_HINT
            )
        parts.append(answer.reshape(-1).astype(np.float64))
    return np.concatenate(parts)
