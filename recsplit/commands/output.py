"""What commands share in showing things: tables and JSON on stdout, progress on stderr.

stdout holds the result and nothing else, so that `--json` can be piped; progress is drawn only on a terminal
and is plain lines elsewhere.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from recsplit.errors import InputError
from recsplit.rendering.numbers import number_text

Function = TypeVar("Function", bound=Callable[..., Any])
Cell = str | int | float | None

#: In a context's `meta`: by path, what to say of it after Ctrl-C.
ON_INTERRUPT = "recsplit.on_interrupt"

#: `@json_option` gives a command the flag --json, as the argument `as_json`.
json_option: Callable[[Function], Function] = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


#: Between two columns; and a word of a text that is never broken.
_GAP, _WORD = 3, 24


def example(*lines: str) -> str:
    """The epilog of a command: command lines that work in a fresh checkout. Use as `@click.command(epilog=example("recsplit ..."))`."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def refuse_output(path: Path) -> None:
    """Raise InputError where a result can't become the file `path`, before the work that makes it."""
    if path.is_dir():
        raise InputError(f"{path} is a folder", hint=f"give a file: {path / 'result'}")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} doesn't exist", hint=f"mkdir -p {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{path} can't be written: permission denied", hint="choose another folder, or change its owner or permissions")
    on_interrupt(path, f"{path} was not written", f"{path} is written")


def refuse_file(folder: Path) -> None:
    """Raise InputError where results can't go into `folder`, for it is a file."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file", hint="-o takes a folder")


def on_interrupt(path: Path, before: str, after: str) -> None:
    """What Ctrl-C says from now on: `before` while `path` is what it is now, `after` once it is another file or folder, or has others."""
    now = _identity(path)
    tellers = click.get_current_context().meta.setdefault(ON_INTERRUPT, {})
    tellers[path] = lambda: before if _identity(path) == now else after


def kept(context: click.Context) -> str:
    """What a command that was interrupted has to say of its outputs, in one line; nothing where it has none."""
    return "; ".join(filter(None, (tell() for tell in context.meta.get(ON_INTERRUPT, {}).values())))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def warn(text: str | None) -> None:
    """A warning on stderr, in colour on a terminal; nothing for None."""
    if text is not None:
        click.secho(text, err=True, fg="yellow")


def show_json(value: object) -> None:
    """Print a value as indented JSON; dataclasses become objects, paths strings, numpy scalars numbers."""
    click.echo(json.dumps(value, indent=1, default=_plain))


def _plain(value: Any) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    return value.item()  # numpy scalars; anything else is a mistake, and the AttributeError names its type


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, title: str = "") -> None:
    """Print a table: numbers to the right, None as a dash. Off a terminal it is as wide as its contents, so that nothing is cut off; on one
    that is narrower than its columns need, it goes on below with the further columns, each time after the first."""
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=10_000, color_system=None)
    for number, part in enumerate(_parts(columns, rows, console.width)):
        console.print(
            _table([columns[place] for place in part], [[row[place] for place in part] for row in rows], title if not number else "")
        )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], title: str) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        numbers = _of_numbers(rows, index)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold", no_wrap=numbers)
    for row in rows:
        table.add_row(*(Text(cell_text(cell)) for cell in row))  # Text: brackets in a name are not rich's markup
    return table


def _of_numbers(rows: Sequence[Sequence[Cell]], index: int) -> bool:
    return any(isinstance(row[index], int | float) for row in rows)


def _parts(columns: Sequence[str], rows: Sequence[Sequence[Cell]], width: int) -> list[list[int]]:
    """Places of the columns that go side by side: as many as fit, numbers whole and texts with room for a word of a usual length."""
    needs = []
    for index, column in enumerate(columns):
        texts = [cell_text(row[index]) for row in rows]
        words = texts if _of_numbers(rows, index) else [word[:_WORD] for text in texts for word in text.split()]
        needs.append(_GAP + max(len(text) for text in (*words, *column.split())))
    parts, room = [[0]], width + _GAP - needs[0]
    for index in range(1, len(columns)):
        if needs[index] > room and len(parts[-1]) > 1:
            parts, room = [*parts, [0]], width + _GAP - needs[0]
        parts[-1].append(index)
        room -= needs[index]
    return parts


def cell_text(cell: Cell) -> str:
    """A table cell as text: 1,234,567; 0.00123; a dash for None."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return number_text(cell)
    return cell


@contextmanager
def progress(text: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """One step of work that may take over a second, shown on stderr.

    Yields a function that takes how many more of `total` units are done; without `total` there is nothing to count, and
    a spinner turns. Off a terminal it prints `text` at the start, a line about every 10 seconds if there is something to
    count, and the time it took if that was over a second.
    """
    if sys.stderr.isatty():
        with _drawn(text, total) as draw:
            yield draw
        return
    click.echo(text, err=True)
    start = shown = time.monotonic()
    done = 0

    def advance(units: int) -> None:
        nonlocal done, shown
        done += units
        if total and time.monotonic() - shown > 10:
            shown = time.monotonic()
            click.echo(f"{text}: {100 * done // total} %", err=True)

    yield advance
    if (took_s := time.monotonic() - start) > 1:
        click.echo(f"{text}: {took_s:.1f} s", err=True)


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """Each step of a library's call, shown as `progress` shows one.

    Yields a function that takes (text, done, total), total 0 where there is nothing to count. A new text, or a count that begins anew,
    ends the step before it.
    """
    with ExitStack() as stack:
        current_text: str | None = None
        current_done = 0
        advance: Callable[[int], None] | None = None

        def show(text: str, done: int, total: int) -> None:
            nonlocal current_text, current_done, advance
            if advance is None or text != current_text or done < current_done:
                stack.close()
                advance = stack.enter_context(progress(text, total or None))
                current_text, current_done = text, 0
            advance(done - current_done)
            current_done = done

        yield show


@contextmanager
def _drawn(text: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar or spinner on the terminal that leaves a line behind."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

    count = (BarColumn(), TaskProgressColumn()) if total else ()
    columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), *count, TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(text, total=total)
        yield lambda units: bar.advance(task, units)
        bar.update(task, total=total or 1, completed=total or 1)
