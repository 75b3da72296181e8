"""What a query is answered with."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Answer(dict[str, Array]):
    """The outputs by name. `version` is the model's version that gave them, and so tells the build; 0 where the server told none."""

    def __init__(self, outputs: Mapping[str, Array], version: int) -> None:
        super().__init__(outputs)
        self.version = version


#: So often a query whose parts were answered by two builds is asked before that is an error: a switch takes one more turn, two take two.
TURNS = 4


def flattened(answer: Answer, names: Collection[str]) -> Answer:
    """The answer with the outputs of one number a row as the module gives them: [batch] in place of [batch, 1]."""
    return Answer({name: array.reshape(-1) if name in names else array for name, array in answer.items()}, answer.version)


def join(answers: Sequence[Answer]) -> Answer | None:
    """The answers to sub-queries, one after the other, as the answer to the query; None where two builds gave them."""
    first, *rest = answers
    if any(answer.version != first.version for answer in rest):
        return None
    if not rest:
        return first
    return Answer({name: np.concatenate([answer[name] for answer in answers]) for name in first}, first.version)
