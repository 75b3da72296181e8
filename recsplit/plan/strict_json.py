"""Reading JSON strictly into frozen dataclasses: an unknown, missing or ill-typed key is an error that says where.

Standard library only. Fields may be str, int, float (an int will do), bool, None, Literal, `X | None`, tuples, dataclasses (of several,
`X | Y`, the one with the keys that are there), `Mapping[str, X]`, and `Mapping[str, Any]` for what is kept as it came.
"""

import collections.abc
import dataclasses
import functools
import json
import re
import sys
import types
import typing
from typing import Any, Literal, TypeVar

from recsplit.errors import InputError

Record = TypeVar("Record")

#: Whole numbers beyond this fit into nothing that they are for.
_WIDEST = 1 << 63
#: Texts that a message repeats: names and numbers, and not what may be of another file, such as a password's digest.
_WORD = re.compile(r"[\w./+-]{0,40}")
_MOST_SHOWN, _LONGEST = 12, 60


def shown(value: object) -> str:
    """A value for a message, in a few words: numbers, names, and of anything else what it is."""
    if isinstance(value, list | tuple):
        items = [_described(item) for item in value[:_MOST_SHOWN]]
        return f"[{', '.join((*items, '...') if len(value) > _MOST_SHOWN else items)}]"
    return _described(value)


def _described(value: object) -> str:
    if isinstance(value, str) and not _WORD.fullmatch(value):
        return f"a text of {len(value)} letters"
    if isinstance(value, int) and abs(value) >= _WIDEST:
        return "a number of more than 64 bits"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    return repr(value)[:_LONGEST]


def parse(text: str | bytes, *, origin: str, again: str) -> Any:
    """What a JSON text holds. Raises InputError, begun with `origin` and with the hint `again`, where it is none."""
    try:
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{origin} is not JSON: it is no text in UTF-8 (at byte {error.start})", hint=again) from error
    except json.JSONDecodeError as error:
        raise InputError(f"{origin} is not JSON: {error}", hint=again) from error
    except ValueError as error:
        raise InputError(f"{origin} holds a number of more digits than Python reads", hint=again) from error
    except RecursionError as error:
        raise InputError(f"{origin} is nested too deeply", hint=again) from error


def read_json(kind: type[Record], text: str | bytes, *, schema: int, origin: str, again: str) -> Record:
    """The dataclass `kind` from a JSON object whose key "schema" is `schema`.

    `origin` names the text in messages; `again` is the hint: what to do to get a text that can be read. Raises InputError on
    broken JSON, another schema number, an unknown or missing key, or a value of another type (NaN and infinity among them).
    """
    data = parse(text, origin=origin, again=again)
    text_schema = data.get("schema") if isinstance(data, dict) else None
    if text_schema != schema:
        raise InputError(
            f"{origin} has schema {shown(text_schema)}, and this recsplit reads schema {schema}",
            hint=f"{again} with this version of recsplit",
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
            raise InputError(f"{where}: expected the keys {sorted(hints)}, {_instead(value, set(hints))}", hint=again)
        return kind(**{key: read(hint, value[key], f"{where}: {key}", again) for key, hint in hints.items()})  # type: ignore[operator]
    if origin is Literal and value in arguments:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        kinds = [argument for argument in arguments if argument is not type(None)]
        if isinstance(value, dict) and len(kinds) > 1:  # the dataclass whose keys these are, if any is
            kinds.sort(key=lambda kind: not (dataclasses.is_dataclass(kind) and set(value) == set(_hints(typing.cast(type, kind)))))
        return read(kinds[0], value, where, again)
    if origin is tuple and isinstance(value, list):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(read(arguments[0], item, f"{where}[{n}]", again) for n, item in enumerate(value))
        if len(arguments) == len(value):
            return tuple(read(argument, item, where, again) for argument, item in zip(arguments, value, strict=True))
    if origin is collections.abc.Mapping and isinstance(value, dict):
        kept = arguments[1]
        return value if kept is Any else {key: read(kept, item, f"{where}: {str(key)[:60]}", again) for key, item in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return float(value)
    if isinstance(kind, type) and kind is not float and type(value) is kind and not (isinstance(value, int) and abs(value) >= _WIDEST):
        return value
    raise InputError(f"{where}: expected {kind}, found {shown(value)}", hint=again)


def _instead(value: object, expected: set[str]) -> str:
    """What a value is or has in place of these keys."""
    if not isinstance(value, dict):
        return f"found {shown(value)}"
    missing, unknown = sorted(expected - set(value)), sorted(str(key) for key in set(value) - expected)
    return " and ".join(f"{what} {shown(keys)}" for what, keys in (("found none of", missing), ("found", unknown)) if keys)
