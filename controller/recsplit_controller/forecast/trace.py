"""Traces: requests in each second, from a text or CSV file."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recsplit.disk import bounded
from recsplit.errors import InputError
from recsplit_controller.forecast.forecaster import Floats

#: Of a trace once it is unpacked: a year of seconds, a line of some columns each.
MOST_BYTES = 1 << 30
_LINE_BYTES = 1 << 20
_LETTERS = 100
EXPECTED = "expected one number of 0 or more for each second, a line each or with spaces between; or a CSV file with --column"


def read(path: Path, column: str | None = None) -> Floats:
    """Requests in each second, float64 [seconds]. `column`: the CSV column of that name. Files that end in .gz are unpacked.

    Raises InputError where it can't be read, has no such column, or something that is no number of 0 or more; and for less than two.
    """
    read_numbers = _numbers(path) if column is None else _column(path, column)
    rates = np.fromiter((_number(path, place, word) for place, word in read_numbers), dtype=np.float64)
    if len(rates) < 2:
        raise InputError(f"{path} has {len(rates)} seconds", hint=EXPECTED)
    return rates


def _numbers(path: Path) -> Iterator[tuple[str, str]]:
    words = (word for several in bounded.words(path, MOST_BYTES, _LETTERS, hint=EXPECTED) for word in several)
    return ((f"number {place}", word) for place, word in enumerate(words, start=1))


def _column(path: Path, column: str) -> Iterator[tuple[str, str]]:
    reader = csv.DictReader(bounded.lines(path, MOST_BYTES, _LINE_BYTES, hint=EXPECTED), strict=True)
    try:
        if column not in (reader.fieldnames or ()):
            raise InputError(f"{path} has no column {column!r}", hint="the first line of the file has the columns' names")
        for row in reader:
            yield f"line {reader.line_num}", row[column] or ""
    except csv.Error as error:
        raise InputError(f"{path} is no CSV: line {reader.line_num}: {error}", hint=EXPECTED) from error


def _number(path: Path, place: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(f"{path}: {place} is no number of requests", hint=EXPECTED)
    return value
