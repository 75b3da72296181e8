"""Judging a batch: the source and the parts side by side, row by row, and what of a difference is rounding."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsplit.errors import RecsplitError
from recsplit.plan.plan import UNKNOWN_IDS, Plan
from recsplit.proof.compare import by_row
from recsplit.proof.parts import Array, Run
from recsplit.proof.rounding import Rounding, rounded, untold

#: Where FP64 can't tell what is rounding, numbers that overflow or cancel may differ by so much.
_UNSURE = 1e-3
#: Numbers from which on a square may leave FP32's range, and below which nothing but rounding makes a difference of _UNSURE.
_OVERFLOWING, _EXTREME = 1e15, 1e3


@dataclass(frozen=True)
class Judged:
    """One batch: each row's differences and the output that they are in, 0 and "" where a row isn't compared.

    `problem`: why the parts fail as a whole, else empty; `compared`: how many rows were.
    """

    relative: NDArray[np.float64]
    absolute: NDArray[np.float64]
    output: tuple[str, ...]
    limit: float
    compared: int
    problem: str = ""

    @property
    def worst(self) -> int:
        """The row that differs most."""
        return int(np.argmax(self.relative))

    @property
    def fails(self) -> bool:
        """Whether the parts answer otherwise than the source."""
        return bool(self.problem) or float(self.relative.max(initial=0.0)) > self.limit


@dataclass(frozen=True)
class Judge:
    """Source and parts side by side. `parts`: every way in which they may be served, by ONNX Runtime and by recsplit's engine.

    `known`: which rows' ids are all inside their tables; `scales`: the median magnitude of each output.

    `rounding` is asked where a difference might be rounding. `infinite_rows`: rows that the source answers with NaN or infinity aren't
    compared, as in cases.make_cases.
    """

    plan: Plan
    source: Run
    parts: Sequence[Run]
    known: Callable[[Mapping[str, Array]], NDArray[np.bool_]]
    scales: Mapping[str, float]
    rounding: Rounding
    infinite_rows: bool = False

    def __call__(self, inputs: Mapping[str, Array]) -> Judged:
        """Judge one batch."""
        rows = len(next(iter(inputs.values())))
        zeros = np.zeros(rows)
        try:
            fine = self.known(inputs) & ~self._any(inputs, np.isnan)  # by the operators that check ids, which are the parts' own
            ways = [run(inputs) for run in self.parts]
        except Exception as error:  # onnxruntime raises its own kinds, undocumented
            return Judged(zeros, zeros, ("",) * rows, 0.0, rows, f"the parts fail: {_first_line(error)}")
        marks = [answers[UNKNOWN_IDS][fine] for answers in ways if UNKNOWN_IDS in answers]
        if any((of_way[:, 0] != -1).any() for of_way in marks):
            return Judged(zeros, zeros, ("",) * rows, 0.0, rows, "a row without an unknown id is marked")
        index, truth = self._truth(inputs, np.flatnonzero(fine))
        if not len(index):
            return Judged(zeros, zeros, ("",) * rows, self.plan.tolerance, 0)
        relative, absolute, output = zeros.copy(), zeros.copy(), [""] * rows
        for name, want in truth.items():
            if want.dtype.kind not in "fc":
                continue  # numbers of a class: a tie, or rounding, decides
            for answers in ways:
                row_absolute, row_relative = by_row(want, answers[name][index], self.scales.get(name, 0.0))
                for position, row in enumerate(index):
                    if row_relative[position] > relative[row] or not output[row]:
                        relative[row], absolute[row], output[row] = row_relative[position], row_absolute[position], name
        limit = self.plan.tolerance
        if relative.max() > limit:
            relative, limit = self._rounded(inputs, index, relative)
        return Judged(relative, absolute, tuple(output), limit, len(index))

    def answers(self, row: Mapping[str, Array]) -> bool:
        """Whether the source can answer one row, or isn't to be asked about it."""
        if self._any(row, np.isnan)[0]:
            return True
        try:
            known = bool(self.known(row)[0])
        except RecsplitError:  # operators before the lookups fail on the row: a place outside of it, perhaps, or a fault of ours
            known = True
        return not known or bool(len(self._truth(row, np.array([0]))[0]))

    def _truth(self, inputs: Mapping[str, Array], index: NDArray[np.intp]) -> tuple[NDArray[np.intp], dict[str, Array]]:
        """The source's answers for the rows that it can answer, and which these are."""
        if not len(index):
            return index, {}
        try:
            truth = self.source({name: data[index] for name, data in inputs.items()})
        except RecsplitError:
            truth = {}
        ranks = {tensor.name: 1 + len(tensor.dims) for tensor in self.plan.outputs}
        # Another shape: a squeeze took the batch away, or an axis that was one in these rows.
        if truth and all(data.shape[:1] == index.shape and data.ndim == ranks.get(name, data.ndim) for name, data in truth.items()):
            if not self.infinite_rows:
                return index, truth
            finite = np.logical_and.reduce([np.isfinite(data.reshape(len(data), -1)).all(axis=1) for data in truth.values()])
            return index[finite], {name: data[finite] for name, data in truth.items()}
        if len(index) == 1:
            return index[:0], {}
        answered = []
        for row in index:
            one, truth = self._truth(inputs, np.array([row]))
            if len(one):
                answered.append((row, truth))
        if not answered:
            return index[:0], {}
        names = answered[0][1]
        joined = {name: np.concatenate([truth[name] for _, truth in answered]) for name in names}
        return np.array([row for row, _ in answered]), joined

    def _rounded(
        self, inputs: Mapping[str, Array], index: NDArray[np.intp], relative: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float]:
        """The differences without those that FP32's range explains, and the limit below which a difference is rounding."""
        asked = {name: data[index] for name, data in inputs.items()}
        pair = self.rounding.pair(asked)
        if pair is None:
            extreme = self._reaches(inputs, _EXTREME)
            usual = max(map(untold, self.scales.values()), default=0.0)
            return np.where(extreme & np.isinf(relative), 0.0, relative), max(self.plan.tolerance, _UNSURE if extreme.any() else usual)
        noise, finite = 0.0, np.ones(len(index), dtype=bool)
        for name, data in pair[1].items():
            if data.dtype.kind == "f":
                _, difference = by_row(data, pair[0][name], self.scales.get(name, 0.0))
                noise = max(noise, float(difference[np.isfinite(difference)].max(initial=0.0)))
                finite &= np.isfinite(data.reshape(len(data), -1)).all(axis=1)
        overflows = np.zeros(len(relative), dtype=bool)
        overflows[index] = finite & self._reaches(asked, _OVERFLOWING)
        return np.where(overflows & np.isinf(relative), 0.0, relative), max(
            self.plan.tolerance, rounded(noise), self.rounding.of_codes(inputs)
        )

    def _reaches(self, inputs: Mapping[str, Array], bound: float) -> NDArray[np.bool_]:
        """Rows with a number of that size."""
        return self._any(inputs, lambda data: np.abs(data) >= bound)

    def _any(self, inputs: Mapping[str, Array], holds: Callable[[NDArray[np.float64]], NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """Rows in which it holds of a number in a float input; weights in slots without an id are nobody's numbers."""
        rows = np.zeros(len(next(iter(inputs.values()))), dtype=bool)
        lengths = {bags.weights: inputs[bags.lengths].astype(np.float64).sum(axis=1, keepdims=True) for bags in self.plan.bags}
        for name, data in inputs.items():
            if data.dtype.kind == "f":
                held = holds(data.astype(np.float64))
                if name in lengths:
                    held &= np.arange(data.shape[1]) < lengths[name]
                rows |= held.reshape(len(data), -1).any(axis=1)
        return rows


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
