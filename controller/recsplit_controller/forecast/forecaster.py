"""What every forecaster is: a name, how far back it looks, and one function of histories."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Forecaster:
    """`rule` takes histories float64 [n, periods], oldest first, and gives float64 [n]: the next period's largest rate of each.

    `periods` is the most history that it makes use of; with less it does what it can. `places`, where it looks at few of them: which of so
    many, oldest first, the rule is given instead of all, for the period that is so many ahead (1: the next). One that has none says of
    every later period what it says of the next. `digest`: SHA-256 of the file of weights, "" where there is none. All rates in
    requests a second.
    """

    name: str
    periods: int
    rule: Callable[[Floats], Floats]
    places: Callable[[int, int], list[int]] | None = None
    digest: str = ""

    def __call__(self, history: Sequence[float] | Floats, ahead: int = 1) -> float:
        """The largest rate, 0 or more, of the period that is so many `ahead`, from one history [periods >= 1], oldest first. Raises
        ValueError without any."""
        if not len(history):
            raise ValueError("a forecast needs one period or more")
        history = history[-self.periods :]
        window = history if self.places is None else [history[place] for place in self.places(len(history), ahead)]
        return max(0.0, float(self.rule(np.asarray(window, dtype=np.float64)[None])[0]))

    def over(self, maxima: Floats) -> Floats:
        """What it would have said of each period from the second on, from those before it alone: float64 [len(maxima) - 1]."""
        full = min(self.periods, len(maxima) - 1)
        early = [self(maxima[:end]) for end in range(1, full)]
        windows = np.lib.stride_tricks.sliding_window_view(maxima[:-1], full)
        seen = windows if self.places is None else windows[:, self.places(full, 1)]
        return np.concatenate([early, np.maximum(0.0, self.rule(seen))])
