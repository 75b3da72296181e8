"""The option --workload of all commands that take one."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])


def workload_option(text: str, *, required: bool = False) -> Callable[[Command], Command]:
    """--workload FILE, or the name of one that comes with recsplit; `text` says what is taken from it."""
    return click.option("--workload", metavar="FILE|NAME", type=click.Path(path_type=Path), required=required, help=text)
