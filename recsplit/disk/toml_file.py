"""TOML files that users give, within bounds."""

import importlib
import sys
from pathlib import Path
from typing import Any

from recsplit.disk import bounded
from recsplit.errors import InputError, MissingExtra

#: TOML's own words may hold a key of the file.
_WORDS = 120


def read(path: Path, *, hint: str) -> dict[str, Any]:
    """The TOML in a file. Raises InputError where there is none or it is too long, MissingExtra without a parser (Python 3.10)."""
    text = bounded.read_text(path, bounded.SETTINGS_BYTES, hint=hint)
    toml = _toml()
    try:
        value: dict[str, Any] = toml.loads(text)
    except toml.TOMLDecodeError as error:
        words = str(error)
        raise InputError(f"{path} is not TOML: {words if len(words) <= _WORDS else f'...{words[-_WORDS:]}'}", hint=hint) from error
    except ValueError as error:
        raise InputError(f"{path} holds a number of more digits than Python reads", hint=hint) from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply", hint=hint) from error
    return value


def _toml() -> Any:
    """The standard library's, or from Python 3.10 the package that it was made from."""
    try:
        return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ModuleNotFoundError as error:
        raise MissingExtra("tomli", "capacity", "reading TOML with Python 3.10") from error
