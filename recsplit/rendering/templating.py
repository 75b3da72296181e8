"""Jinja for texts that are no HTML: every value that is absent is an error, and nothing is escaped but by the templates' own filters."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2


def environment(folders: Sequence[Path], filters: Mapping[str, Callable[..., Any]]) -> jinja2.Environment:
    """Templates of these folders, the first that has one; lines that hold only a block's tag are left out."""
    jinja_environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja_environment.filters |= filters
    return jinja_environment
