"""How much of a difference is rounding: the same graph computed in FP64.

Two right implementations of one model add in different orders, and what cancels leaves their rounding behind: a bag of 200 vectors
whose sum is nearly zero differs by more than any fixed tolerance. The whole's graph in FP64 tells how far the FP32 one is from what it
stands for; a difference from the source of about that size says nothing about the cut, for a graph that is wrong is as wrong in FP64.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from recsplit.graph.precision import in_double
from recsplit.proof.compare import by_row
from recsplit.proof.parts import Array, Run, function, session

#: A difference of so many times the rounding seen is rounding: torch adds a long bag vector after vector, onnxruntime in blocks, and so
#: comes much closer to FP64. What is wrong is of the size of the answers: of small differences more times are taken for rounding.
_TIMES, _TIMES_OF_SMALL, _SMALL = 64.0, 512.0, 1e-4
#: Where nothing tells what is rounding: a bag of 200 vectors whose sum nearly cancels is below it; and so is what onnxruntime's sigmoid,
#: which is off by up to 1e-7, makes of probabilities of 1 in 1,000.
_UNTOLD, _UNTOLD_ABSOLUTE, _UNTOLD_MOST = 1e-4, 5e-7, 1e-2


def untold(scale: float) -> float:
    """The relative difference that counts as rounding where FP64 can't be computed; `scale` is the median magnitude."""
    return max(_UNTOLD, min(_UNTOLD_ABSOLUTE / scale, _UNTOLD_MOST) if scale > 0 else 0.0)


def rounded(noise: float) -> float:
    """The relative difference that is rounding, where FP32 is `noise` away from FP64."""
    return max(_TIMES * noise, min(_TIMES_OF_SMALL * noise, _SMALL))


#: How many terms the longest sum over rows has, for these inputs.
Terms = Callable[[Mapping[str, Array]], int]


class Rounding:
    """The whole in FP32 and in FP64, opened when it is first asked for."""

    def __init__(self, whole: Path | None, terms: Terms | None = None) -> None:
        """`whole`: the model file; None where there is none, so that nothing can be told. `terms`: see `of_codes`."""
        self._whole = whole
        self._terms = terms
        self._fails = False

    @functools.cached_property
    def _runs(self) -> tuple[Run, Run] | None:
        double = None if self._whole is None else in_double(self._whole)
        return None if double is None or self._whole is None else (session(self._whole), function(double))

    def pair(self, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]] | None:
        """The answers in FP32 and in FP64; None where the model can't be computed so."""
        if self._runs is None or self._fails:
            return None
        try:
            return self._runs[0](inputs), self._runs[1](inputs)
        except Exception:  # GRU, for one, is loaded for FP64 and then not computed; onnxruntime raises its own kinds, undocumented
            self._fails = True
            return None

    def limit(self, inputs: Mapping[str, Array], name: str, scale: float) -> float:
        """The relative difference of output `name` that is rounding; 0 without a whole, `untold` where FP64 can't be computed."""
        pair = self.pair(inputs)
        if pair is None:
            return 0.0 if self._whole is None else untold(scale)
        if name not in pair[0] or pair[0][name].dtype.kind != "f":
            return 0.0
        _, relative = by_row(pair[1][name], pair[0][name], scale)
        return max(rounded(float(relative[np.isfinite(relative)].max(initial=0.0))), self.of_codes(inputs))

    def of_codes(self, inputs: Mapping[str, Array]) -> float:
        """The relative difference that rounding makes of as many terms as are added up in a row, where rows are stored in codes; else 0.

        Numbers of few bits add up nearly exactly in onnxruntime's blocks, whose noise then says nothing of torch's, which adds one
        after the other: n terms are off by up to n half units in the last place (Higham 2002, section 4.2).
        """
        return 0.0 if self._terms is None else self._terms(inputs) * 2.0**-24


NOT_TOLD = Rounding(None)
