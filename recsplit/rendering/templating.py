"""Jinja for texts that are no HTML: every value that is absent is an error, and nothing is escaped but by the templates' own filters."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from jinja2.loaders import split_template_path

from recsplit.disk import bounded


def environment(folders: Sequence[Path], filters: Mapping[str, Callable[..., Any]]) -> jinja2.Environment:
    """Templates of these folders, the first that has one; lines that hold only a block's tag are left out.

    Getting a template raises InputError for one that is no regular file, or longer than SETTINGS_BYTES.
    """
    jinja_environment = jinja2.Environment(
        loader=_Templates(folders),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja_environment.filters |= filters
    return jinja_environment


class _Templates(jinja2.FileSystemLoader):
    """A pipe in the place of a template would be passed over by jinja, and a file without an end read until the memory is full."""

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """As jinja's. Raises InputError where the first file of that name isn't one to read."""
        paths = (Path(folder, *split_template_path(template)) for folder in self.searchpath)
        first = next((path for path in paths if path.exists()), None)
        if first is not None:
            bounded.require_size(first, bounded.SETTINGS_BYTES, hint="start from a copy of recsplit's own template")
        return super().get_source(environment, template)
