"""The engine's recipe: what engine.json says, as frozen values. recsplit/backends/native/recipe.h has the same in C++, and checks it.

Dims and widths never hold the batch dimension; a width of 0 varies from request to request. Inputs, tables, programs and so on are named
by their number.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recsplit.plan.plan import PlainPooling, Tensor

SCHEMA = 1


@dataclass(frozen=True)
class Step:
    """One register of a program: `op` over the registers `of`, or columns of an input, constants, reads of a buffer or vocabulary.

    `dtype`: Triton's, of an integer or BOOL, in which it wraps around. `columns`: of the input (None: all of one that varies) or of the
    register that is picked from.
    """

    op: str
    dtype: str
    of: tuple[int, ...] | None = None
    input: int | None = None
    columns: tuple[int, ...] | None = None
    values: tuple[int, ...] | None = None
    buffer: int | None = None
    vocabulary: int | None = None


@dataclass(frozen=True)
class Stored:
    """`rows` of `dim` numbers (a buffer: `size` of them) in a file beside engine.json, from `offset` on.

    `stored`: how rows lie there where not as `dtype` is, as plan.Table has it.
    """

    file: str
    offset: int
    dtype: str
    rows: int | None = None
    dim: int | None = None
    size: int | None = None
    stored: str | None = None


@dataclass(frozen=True)
class Vocabulary:
    """Keys, ascending, what stands for each, and for any other."""

    keys: tuple[int, ...]
    values: tuple[int, ...]
    missing: int


@dataclass(frozen=True)
class RaggedBags:
    """Inputs of bags that vary: all features' ids in rows, and how many belong to each of `features`."""

    values: int
    lengths: int
    features: int


@dataclass(frozen=True)
class EngineLookup:
    """One reading of a table: see Lookup in recipe.h. Its ids are the columns from `first` on of `input`, or what `program` gives.

    `table`: None of one that lies in shards elsewhere, whose places are given; then `none` is that of padding.
    `order`: the buffer that says which row of the table each row is; None: those from `base` on. `name`: the table's in the
    plan, under which its reads are counted.
    """

    table: int | None
    base: int
    rows: int
    fallback: int
    pooling: PlainPooling
    width: int
    bags: int
    first: int
    shifts: tuple[int, ...]
    output: int
    place: int
    input: int | None = None
    program: int | None = None
    padding: int | None = None
    none: int = 0
    group: int | None = None
    feature: int = 0
    weights: int | None = None
    first_weight: int = 0
    mark: int = -1
    wrong: int = -1
    order: int | None = None
    name: str = ""


@dataclass(frozen=True)
class Check:
    """Numbers that mark a row where they are outside: two registers of a program, and the first position in `unknown_ids`."""

    program: int
    numbers: int
    outside: int
    width: int
    mark: int


@dataclass(frozen=True)
class Recipe:
    """All lookups of an embedding model. `marks`: the name of the output `unknown_ids`, where the model has it."""

    inputs: tuple[Tensor, ...]
    tables: tuple[Stored, ...]
    buffers: tuple[Stored, ...]
    vocabularies: tuple[Vocabulary, ...]
    programs: tuple[tuple[Step, ...], ...]
    bags: tuple[RaggedBags, ...]
    outputs: tuple[Tensor, ...]
    lookups: tuple[EngineLookup, ...]
    checks: tuple[Check, ...]
    marks: str | None


@dataclass(frozen=True)
class BagsReading:
    """A reading of the plan, by its number, as bags of rows of a table; `lowest_row`: what an empty maximum reads."""

    number: int
    table: int
    lowest_row: int | None
    poolings: tuple[PlainPooling, ...]


@dataclass(frozen=True)
class ModelStage:
    """What another model of the repository does, in the version of this one."""

    model: str


def to_json(stages: Sequence[Recipe | ModelStage]) -> str:
    """engine.json of a model: its stages in order."""
    items = [{"model": stage.model} if isinstance(stage, ModelStage) else {"lookups": _plain(stage)} for stage in stages]
    return json.dumps({"schema": SCHEMA, "stages": items}, indent=None, separators=(",", ":")) + "\n"


def bags_json(tables: Sequence[Stored], readings: Sequence[BagsReading]) -> str:
    """bags.json of a shard: what the engine does with bags of its rows."""
    items = {"tables": [_said(dataclasses.asdict(table)) for table in tables], "readings": [dataclasses.asdict(item) for item in readings]}
    return json.dumps({"schema": SCHEMA, **items}, indent=None, separators=(",", ":")) + "\n"


def _plain(recipe: Recipe) -> dict[str, Any]:
    value = dataclasses.asdict(recipe)
    for key in ("tables", "buffers"):
        value[key] = [_said(item) for item in value[key]]
    value["programs"] = [[_said(step) for step in program] for program in value["programs"]]
    return value


def _said(item: dict[str, Any]) -> dict[str, Any]:
    """Without what it doesn't have."""
    return {key: data for key, data in item.items() if data is not None}
