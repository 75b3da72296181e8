"""How a long call says how far it is, as `recsplit.build` does: a step's text, how much of it is done, and how much there is in all."""

from collections.abc import Callable

#: (text, done, total): a new text, or a count that begins anew, is a new step; a total of 0: there is nothing to count.
Progress = Callable[[str, int, int], None]


def in_silence(_text: str, _done: int, _total: int) -> None:
    """The progress of a call that nobody watches."""


def step(progress: Progress, text: str, total: int = 0) -> Callable[[int], None]:
    """Begin a step; what comes back takes how many more of `total` units are done."""
    done = 0

    def advance(units: int) -> None:
        nonlocal done
        done += units
        progress(text, done, total)

    progress(text, 0, total)
    return advance
