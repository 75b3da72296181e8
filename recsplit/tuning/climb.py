"""DeepRecSched (Gupta et al., ISCA 2020, section 4): one number is raised step by step for as long as that pays.

Its code stops at the first step that is worse than the one before, by medians of a noisy climb (seeds 2b), and so may stop early. Here
each step has an interval: what can't be told apart neither stops the climb nor counts as a gain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recsplit.capacity.search import Throughput
from recsplit.errors import InputError

#: So many steps in a row that are certainly worse than the best end a climb.
PATIENCE = 2


@dataclass(frozen=True)
class Step:
    """One value that was tried, and what it gave."""

    value: int
    throughput: Throughput


@dataclass(frozen=True)
class Climb:
    """Every step in order, and the best: the largest rate."""

    steps: tuple[Step, ...]

    @property
    def best(self) -> Step:
        """The step with the largest rate; of equals the first."""
        return max(self.steps, key=lambda step: step.throughput.rate)


def climb(values: Sequence[int], evaluate: Callable[[int], Throughput], *, patience: int = PATIENCE) -> Climb:
    """Try `values` in their order until `patience` of them in a row are certainly worse than the best so far.

    Certainly: their whole interval lies below the best one's. Where no value has met the bound yet, the climb goes on. Raises InputError
    without values.
    """
    if not values:
        raise InputError("there is nothing to climb on", hint="give one value or more")
    steps: list[Step] = []
    worse = 0
    for value in values:
        steps.append(Step(value, evaluate(value)))
        best = Climb(tuple(steps)).best.throughput
        worse = worse + 1 if steps[-1].throughput.high < best.low else 0
        if worse >= patience:
            break
    return Climb(tuple(steps))
