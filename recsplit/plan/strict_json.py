"""Reading JSON strictly into frozen dataclasses: an unknown, missing or ill-typed key is an error that says where.

Standard library only. Fields may be str, int, float (an int will do), bool, None, Literal, `X | None`, tuples, dataclasses,
`Mapping[str, X]`, and `Mapping[str, Any]` for what is kept as it came.
"""

import collections.abc
import dataclasses
import functools
import json
import math
import types
import typing
from typing import Any, Literal, TypeVar

from recsplit.errors import InputError

Record = TypeVar("Record")


def read_json(kind: type[Record], text: str, *, schema: int, origin: str, again: str) -> Record:
    """The dataclass `kind` from a JSON object whose key "schema" is `schema`.

    `origin` names the text in messages; `again` is the hint: what to do to get a text that can be read. Raises InputError on
    broken JSON, another schema number, an unknown or missing key, or a value of another type (NaN and infinity among them).
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{origin} is not JSON: {error}", hint=again) from error
    text_schema = data.get("schema") if isinstance(data, dict) else None
    if text_schema != schema:
        raise InputError(
            f"{origin} has schema {text_schema}, and this recsplit reads schema {schema}", hint=f"{again} with this version of recsplit"
        )
    record = read(kind, data, origin, again)
    assert isinstance(record, kind)
    return record


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """A dataclass's fields and their types; once, since a journal has thousands of each."""
    return typing.get_type_hints(kind)


def read(kind: Any, value: Any, where: str, again: str) -> Any:
    """`value` as the annotated type `kind`. Raises InputError, which begins with `where`, if it isn't one."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = _hints(typing.cast(type, kind))
        if not isinstance(value, dict) or set(value) != set(hints):
            keys_or_value = sorted(value) if isinstance(value, dict) else value
            raise InputError(f"{where}: expected the keys {sorted(hints)}, found {keys_or_value}", hint=again)
        return kind(**{key: read(hint, value[key], f"{where}: {key}", again) for key, hint in hints.items()})  # type: ignore[operator]
    if origin is Literal and value in arguments:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (rest,) = [argument for argument in arguments if argument is not type(None)]
        return read(rest, value, where, again)
    if origin is tuple and isinstance(value, list):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(read(arguments[0], item, f"{where}[{n}]", again) for n, item in enumerate(value))
        if len(arguments) == len(value):
            return tuple(read(argument, item, where, again) for argument, item in zip(arguments, value, strict=True))
    if origin is collections.abc.Mapping and isinstance(value, dict):
        kept = arguments[1]
        return value if kept is Any else {key: read(kept, item, f"{where}: {key}", again) for key, item in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(kind, type) and kind is not float and type(value) is kind:
        return value
    raise InputError(f"{where}: expected {kind}, found {value!r}", hint=again)
