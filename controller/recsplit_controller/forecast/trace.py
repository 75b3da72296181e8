"""Traces: requests in each second, from a text or CSV file."""

import csv
import gzip
import io
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from recsplit.errors import InputError
from recsplit_controller.forecast.forecaster import Floats

EXPECTED = "expected one number of 0 or more for each second, a line each or with spaces between; or a CSV file with --column"


def read(path: Path, column: str | None = None) -> Floats:
    """Requests in each second, float64 [seconds]. `column`: the CSV column of that name. Files that end in .gz are unpacked.

    Raises InputError where it can't be read, has no such column, or something that is no number of 0 or more; and for less than two.
    """
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8", newline="") if path.suffix == ".gz" else path.open(encoding="utf-8", newline="")
        ) as file:
            text = file.read()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}", hint=EXPECTED) from error
    words = _numbers(text) if column is None else _column(path, text, column)
    rates = np.array([_number(path, place, word) for place, word in words], dtype=np.float64)
    if len(rates) < 2:
        raise InputError(f"{path} has {len(rates)} seconds", hint=EXPECTED)
    return rates


def _numbers(text: str) -> Iterable[tuple[str, str]]:
    return ((f"number {place}", word) for place, word in enumerate(text.split(), start=1))


def _column(path: Path, text: str, column: str) -> Iterable[tuple[str, str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if column not in (reader.fieldnames or ()):
            raise InputError(f"{path} has no column {column!r}", hint=f"its columns are {', '.join(reader.fieldnames or ())}")
        return [(f"line {reader.line_num}", row[column] or "") for row in reader]
    except csv.Error as error:
        raise InputError(f"{path} is no CSV: line {reader.line_num}: {error}", hint=EXPECTED) from error


def _number(path: Path, place: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(f"{path}: {place}: {word.strip()[:40]!r} is no number of requests", hint=EXPECTED)
    return value
