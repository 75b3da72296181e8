"""Passes: named steps over a model, each with what must hold before it and what holds after it, checked always.

A condition that is broken is a fault of recsplit, not of the model: the error names the pass, the condition and what breaks it. What a
model may not have is refused by the passes themselves, with an InputError.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import onnx_ir as ir

from recsplit.errors import RecsplitError

State = TypeVar("State")


@dataclass(frozen=True)
class Condition:
    """Something that can hold of a model. `breach` tells what breaks it, None where it holds; it must be cheap."""

    name: str
    breach: Callable[[ir.Model], str | None]


@dataclass(frozen=True)
class Pass(Generic[State]):
    """One step: `apply` changes the state in place. `requires` and `ensures` are checked on every model of the state."""

    name: str
    apply: Callable[[State], None]
    requires: tuple[Condition, ...] = ()
    ensures: tuple[Condition, ...] = ()


class BrokenConditionError(RecsplitError):
    """A pass was run too early, or left a model in another form than it promises."""

    def __init__(self, pass_name: str, moment: str, condition: Condition, breach: str, before: Sequence[str]) -> None:
        super().__init__(
            f"pass {pass_name!r}: {condition.name!r} doesn't hold {moment} it: {breach}",
            hint="this is a fault in recsplit: please report it with the model",
            detail="passes before: " + (", ".join(before) or "none"),
        )


def run(passes: Sequence[Pass[State]], state: State, models: Callable[[State], Sequence[ir.Model]]) -> None:
    """Apply the passes in their order. `models` gives those that conditions are checked on, as the state has them by then.

    Raises BrokenConditionError where a condition doesn't hold, and what the passes raise.
    """
    done: list[str] = []
    for step in passes:
        _check(step.name, "before", step.requires, models(state), done)
        step.apply(state)
        _check(step.name, "after", step.ensures, models(state), done)
        done.append(step.name)


def _check(name: str, moment: str, conditions: Sequence[Condition], models: Sequence[ir.Model], done: Sequence[str]) -> None:
    for condition in conditions:
        for model in models:
            breach = condition.breach(model)
            if breach is not None:
                raise BrokenConditionError(name, moment, condition, breach, done)
