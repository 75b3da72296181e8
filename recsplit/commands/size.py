"""Sizes on the command line: 2GB, 300 MB, 1GiB, or a number of bytes."""

import re
from typing import Any

import click

_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*([kKMGT]?)(i?)B?", re.ASCII)
_POWERS = " kMGT"
_LARGEST = 1e18


class Size(click.ParamType):  # type: ignore[type-arg]
    """Bytes: powers of 1000 as in 2GB, of 1024 as in 2GiB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read a size; fails as click's types do."""
        if isinstance(value, int):
            return value
        parts = _TEXT.fullmatch(value.strip())
        if parts is None:
            self.fail(f"{value!r} is no size; 2GB, 500MB and 1GiB are", param, ctx)
        number, unit, binary = parts.groups()
        size = float(number) * (1024 if binary else 1000) ** _POWERS.index(unit.replace("K", "k") or " ")
        if size > _LARGEST:
            self.fail(f"{value[:20]!r} is more than any disk has", param, ctx)
        return int(size)


SIZE = Size()
