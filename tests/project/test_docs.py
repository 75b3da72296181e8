"""The documentation is true: the reference is current, and every command line in it parses."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from recsplit.cli import COMMANDS, cli
from tests.conftest import REPOSITORY

PAGES = sorted(
    page.relative_to(REPOSITORY) for page in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("*/*.md"), *REPOSITORY.glob("docs/*/*.md")]
)


def contexts(command: click.Command, parent: click.Context) -> list[click.Context]:
    """A context for every command that does something, at or below this one; groups are passed through."""
    context = click.Context(command, parent, info_name=command.name)
    if not isinstance(command, click.Group):
        return [context]
    children = [command.get_command(context, name) for name in command.list_commands(context)]
    return [descendant for child in children if child for descendant in contexts(child, context)]


def top_level(name: str) -> click.Command:
    """A command of `recsplit`, imported."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def command_lines(text: str) -> list[list[str]]:
    """The arguments of every `recsplit ...` in the indented or fenced lines of a text, up to a pipe, redirection or comment."""
    code = re.findall(r"^(?:    +|\s*\$ )(recsplit .*)$", text, re.MULTILINE)
    for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        code += re.findall(r"^(recsplit .*)$", block, re.MULTILINE)
    return [shlex.split(re.split(r"\s[|>&;]|\s\\$|\s#", line)[0])[1:] for line in code]


def resolve(arguments: list[str]) -> tuple[click.Context, list[str]]:
    """The command that a command line names, and what is left for it."""
    context = click.Context(cli, info_name="recsplit")
    rest = [word for word in arguments if word != "--traceback"]
    while isinstance(context.command, click.Group) and rest and not rest[0].startswith("-"):
        name, command, rest = context.command.resolve_command(context, rest)
        assert command is not None
        context = click.Context(command, context, info_name=name)
    return context, rest


def test_the_reference_is_what_help_says() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import cli_reference; print(cli_reference.text(), end='')"],
        cwd=REPOSITORY / "docs",
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert (REPOSITORY / "docs" / "cli.md").read_text() == done.stdout, "docs/cli.md is stale: make docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_an_example_that_parses_in_a_checkout(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)  # examples name files of a fresh checkout
    for context in contexts(top_level(name), click.Context(cli, info_name="recsplit")):
        assert context.command.help, f"{context.command_path}: no help: the docstring of `command`"
        lines = command_lines(context.command.get_help(context).rpartition("Example:")[2])
        assert lines, f"{context.command_path}: no example: @click.command(epilog=example('recsplit ...'))"
        resolved = [resolve(line) for line in lines]  # other commands may prepare what this one needs
        assert any(resolved_context.command is context.command for resolved_context, _ in resolved)
        for resolved_context, rest in resolved:
            resolved_context.command.make_context(resolved_context.info_name, rest, parent=resolved_context.parent)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_names_commands_and_options_that_exist(page: Path) -> None:
    for line in command_lines((REPOSITORY / page).read_text()):
        context, rest = resolve(line)
        known = {option for parameter in context.command.get_params(context) for option in [*parameter.opts, *parameter.secondary_opts]}
        used = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        assert used <= known, f"{page}: recsplit {' '.join(line)}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_links_to_files_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (REPOSITORY / page).read_text()):
        assert (REPOSITORY / page).parent.joinpath(target).exists(), f"{page} links to {target}"
