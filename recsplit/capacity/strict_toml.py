"""Frozen dataclasses from the tables of a TOML file, strictly: no unknown key, no wrong type, no impossible number.

A field says its limits in its metadata (`within`), and `Checked` holds a value to them however it was made: from a file
or in code.
"""

import dataclasses
import difflib
import math
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar

from recsplit.errors import InputError
from recsplit.plan.strict_json import shown

Value = TypeVar("Value")

#: Letters of a text that a message has.
SHOWN = 60


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a number must lie between; `low` itself is excluded where `above`."""

    low: float
    high: float = math.inf
    above: bool = False

    def hold(self, number: float) -> bool:
        """Whether a number lies inside."""
        return (number > self.low if self.above else number >= self.low) and number <= self.high

    def __str__(self) -> str:
        low = f"more than {self.low:g}" if self.above else f"{self.low:g} or more"
        return low if math.isinf(self.high) else f"{low} and at most {self.high:g}"


def within(low: float, high: float = math.inf, *, above: bool = False) -> dict[str, Limits]:
    """Metadata of a field: the limits of its number."""
    return {"limits": Limits(low, high, above)}


#: Metadata of a field that is read from the file named in the field `path`, and is not a key itself.
CONTENTS = {"contents": True}


class Checked:
    """A frozen dataclass whose fields are held to their types and limits. Raises InputError that names the field."""

    def __post_init__(self) -> None:
        types = typing.get_type_hints(type(self))
        for field in _keys(type(self)):
            _check(field.name, getattr(self, field.name), types[field.name], field.metadata.get("limits"))
        self.check()

    def check(self) -> None:
        """What fields must be true of each other; for subclasses. Raises InputError."""


def read_table(
    kind: type[Value], table: object, *, where: str, skip: Iterable[str] = (), contents: Callable[[Path], Any] | None = None, folder: Path
) -> Value:
    """A value of the dataclass `kind` from a TOML table; `where` begins every message, and keys in `skip` were read by others.

    `contents` reads the file that the key `path` names, relative to `folder`, for the field marked CONTENTS.
    Raises InputError.
    """
    possible = [field.name for field in _keys(kind)]
    if not isinstance(table, Mapping):
        raise InputError(f"{where} is {toml(table)}: expected a table", hint=f"it takes {names(possible)}")
    entries = {key: value for key, value in table.items() if key not in set(skip)}
    for key in entries:
        if key not in possible:
            raise InputError(f"{where}: unknown key {shown(key)}", hint=_takes(key[:SHOWN], possible))
    missing = [
        field.name
        for field in _keys(kind)
        if field.name not in entries and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{where}: {missing[0]!r} is missing", hint=_takes(missing[0], possible))
    types = typing.get_type_hints(kind)
    try:
        for field in _keys(kind):
            if field.name in entries:
                _check(field.name, entries[field.name], types[field.name], field.metadata.get("limits"))
        for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # every kind is a dataclass
            if field.metadata.get("contents") and contents is not None:
                entries[field.name] = contents(folder / entries["path"])
        return kind(**{key: float(value) if types[key] in (float, float | None) else value for key, value in entries.items()})
    except InputError as error:
        raise InputError(f"{where}: {error}", hint=error.hint or f"it takes {names(possible)}") from error


def choose(kinds: Mapping[str, type[Value]], table: object, key: str, where: str) -> type[Value]:
    """The kind that the table's `key` names. Raises InputError, with all kinds in the hint."""
    hint = f"{key} is one of {names(kinds)}"
    if not isinstance(table, Mapping):
        raise InputError(f"{where} is {toml(table)}: expected a table", hint=hint)
    if key not in table:
        raise InputError(f"{where}: {key!r} is missing", hint=hint)
    name = table[key]
    if not isinstance(name, str) or name not in kinds:
        raise InputError(f"{where}: {key} is {toml(name)}", hint=hint)
    return kinds[name]


def toml(value: object) -> str:
    """A value as TOML writes it, near enough for a message, and cut down to a few words."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) and len(value) <= SHOWN else shown(value)


def names(possible: Iterable[str]) -> str:
    """Names for a hint."""
    return ", ".join(possible) or "no keys"


def _keys(kind: type) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(kind) if not field.metadata.get("contents")]


def _takes(key: str, possible: list[str]) -> str:
    near = [name for name in difflib.get_close_matches(key, possible, 1) if name != key]
    return f"it takes {names(possible)}" + (f"; did you mean {near[0]!r}?" if near else "")


def _check(name: str, value: object, kind: Any, limits: Limits | None) -> None:
    if isinstance(kind, UnionType):
        if value is None:
            return
        kind = next(one for one in typing.get_args(kind) if one is not NoneType)
    if kind not in (int, float, str):
        return
    fits = isinstance(value, int | float if kind is float else kind) and not isinstance(value, bool)
    if not fits:
        raise InputError(f"{name} is {toml(value)}: expected { {int: 'a whole number', float: 'a number', str: 'a text'}[kind] }")
    most = 2**63 - 1 if kind is int else sys.float_info.max  # what numpy has room for
    if isinstance(value, int | float) and not (abs(value) <= most and (limits is None or limits.hold(value))):
        raise InputError(f"{name} is {toml(value)}: expected {limits if limits is not None else 'a finite number'}")
