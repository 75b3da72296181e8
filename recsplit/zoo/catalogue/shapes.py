"""What a published model is made of, and how its tables are scaled to a machine: numbers only, no torch."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from recsplit.disk.files import size_text
from recsplit.errors import InputError

#: Sets the scale of every published model of the zoo from outside, since a factory is called without arguments.
ROWS_SCALE = "RECSPLIT_ZOO_ROWS_SCALE"
#: No table is scaled below so many rows, nor above its own.
MIN_ROWS = 64
_RANGE = "a number above 0, to 1 for the published rows"


@dataclass(frozen=True)
class Tables:
    """`count` tables of `rows` rows each, of which an item reads `lookups` each."""

    count: int
    rows: int
    lookups: int


@dataclass(frozen=True)
class Stack:
    """Linear layers from widths[0] to widths[-1]; `copies` have weights of their own, each is applied `steps` times an item."""

    name: str
    widths: tuple[int, ...]
    copies: int = 1
    steps: int = 1
    bias: bool = True

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds an item."""
        return self.copies * self.steps * sum(one * two for one, two in pairwise(self.widths))

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.copies * sum((one + self.bias) * two for one, two in pairwise(self.widths))


@dataclass(frozen=True)
class Published:
    """A model as its paper and code give it.

    Attributes:
        name: the factory's name.
        factory: what `recsplit build` takes.
        paper: where the numbers are from.
        p95_bound_ms: the paper's bound on the 95th percentile of latency; None where it gives none.
        tables: in the order of the ids.
        dim: width of every table, FP32.
        dense: dense features of an item; 0: the model takes ids only.
        stacks: the perceptrons, by name; input widths included.
        rows_scale: share of the published rows that a factory makes where it is told no other: 80 to 300 MB of tables.
        hot_share: share of the lookups that fall on the hottest tenth of a table's rows; None where the paper is silent.
        note: what is ours, where the paper and its code differ or are silent.
    """

    name: str
    factory: str
    paper: str
    p95_bound_ms: float | None
    tables: tuple[Tables, ...]
    dim: int
    dense: int
    stacks: tuple[Stack, ...]
    rows_scale: float
    hot_share: float | None = None
    note: str = ""

    def stack(self, name: str) -> Stack:
        """The stack of that name. Raises KeyError."""
        return {stack.name: stack for stack in self.stacks}[name]

    @property
    def table_count(self) -> int:
        """How many tables there are."""
        return sum(group.count for group in self.tables)

    @property
    def lookups(self) -> int:
        """Lookups an item."""
        return sum(group.count * group.lookups for group in self.tables)

    @property
    def mflop(self) -> float:
        """Millions of floating point operations an item, in linear layers: two a multiply-add."""
        return 2e-6 * sum(stack.multiply_adds for stack in self.stacks)

    @property
    def parameters(self) -> int:
        """Weights and biases of the linear layers."""
        return sum(stack.parameters for stack in self.stacks)

    def rows(self, scale: float) -> int:
        """Rows of all tables at this scale."""
        return sum(group.count * scaled(group.rows, scale) for group in self.tables)

    def size_bytes(self, scale: float) -> int:
        """Bytes of all tables at this scale."""
        return 4 * self.dim * self.rows(scale)


def scaled(rows: int, scale: float) -> int:
    """Rows of a table of `rows` at this scale: MIN_ROWS at least, and never more than it has."""
    return min(rows, max(MIN_ROWS, round(rows * scale)))


def checked(scale: float, name: str = "rows_scale") -> float:
    """The scale, where it is one. Raises InputError, which calls it `name`."""
    if not 0 < scale <= 1:  # NaN is neither
        raise InputError(f"{name} is {scale:g}", hint=f"give {_RANGE}")
    return scale


def scale_of(model: Published, rows_scale: float | None, environment: Mapping[str, str] = os.environ) -> float:
    """The scale to make a model at: `rows_scale`, else what the environment sets, else the model's own.

    Raises InputError where it is not in (0, 1].
    """
    if rows_scale is not None:
        return checked(rows_scale)
    text = environment.get(ROWS_SCALE, "")
    if not text:
        return model.rows_scale
    try:
        scale = float(text)
    except ValueError as error:
        raise InputError(f"{ROWS_SCALE} is {text!r}", hint=f"give {_RANGE}") from error
    return checked(scale, ROWS_SCALE)


def refuse_memory(model: Published, scale: float, memory_bytes: int) -> None:
    """Raise InputError where the tables alone are larger than the machine's memory, before they are allocated."""
    size_bytes = model.size_bytes(scale)
    if size_bytes > memory_bytes:
        fitting = 10 ** math.floor(math.log10(0.5 * scale * memory_bytes / size_bytes))
        raise InputError(
            f"the tables of {model.name} take {size_text(size_bytes)} at a scale of {scale:g}, "
            f"and this machine has {size_text(memory_bytes)} of memory",
            hint=f"{ROWS_SCALE}={fitting:g} takes {size_text(model.size_bytes(fitting))}, with the same lookups and widths",
        )
