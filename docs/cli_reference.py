"""Writes docs/cli.md, the reference of every command, from --help. `make docs` runs it, and a test holds the file to it."""

from collections.abc import Iterator
from pathlib import Path

import click

from recsplit.cli import cli

TARGET = Path(__file__).with_name("cli.md")
WIDTH = 100

HEAD = """\
# The command line

Written by `make docs` from `--help`; do not edit. Results go to stdout (`--json` for machines), progress and errors to
stderr. Exit codes: 0 done, 1 the work failed, 2 the input can't be used, 130 interrupted.
"""


def commands(command: click.Command, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A context for a command and for all below it, in the order of use."""
    context = click.Context(command, parent, info_name=command.name if parent else "recsplit", terminal_width=WIDTH)
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            child.name = name
            yield from commands(child, context)


def text() -> str:
    """The whole page."""
    parts = [f"\n## {context.command_path}\n\n```text\n{context.command.get_help(context)}\n```\n" for context in commands(cli)]
    return HEAD + "".join(parts)


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
    print(f"wrote {TARGET}")
