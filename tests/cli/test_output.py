"""Tables and JSON go to stdout, progress goes to stderr and knows whether a person is looking."""

import io
import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from recsplit.commands.output import _parts, _table, cell_text, progress, show_json, show_table, steps
from recsplit.disk.files import size_text


@dataclass(frozen=True)
class Answer:
    path: Path
    rows: np.int64
    parts: tuple[str, ...]


def test_json_holds_dataclasses_paths_and_numpy_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    show_json([Answer(Path("a/b"), np.int64(7), ("x", "y"))])
    assert json.loads(capsys.readouterr().out) == [{"path": "a/b", "rows": 7, "parts": ["x", "y"]}]


def test_what_json_cannot_hold_is_a_mistake_of_ours() -> None:
    with pytest.raises(AttributeError):
        show_json(object())


def test_a_table_off_a_terminal_is_never_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a_table_with_a_very_long_name_" * 10
    show_table(["table", "rows", "why"], [(name, 1_000_000, None), ("[bold]", 3, "x")])
    out = capsys.readouterr().out
    assert name in out
    assert "1,000,000" in out
    assert "[bold]" in out


@pytest.mark.parametrize(
    ("cell", "text"), [(None, "-"), (True, "yes"), (1234567, "1,234,567"), (0.00012345, "0.000123"), (2.0, "2"), ("a", "a")]
)
def test_cells(cell: str | int | float | None, text: str) -> None:
    assert cell_text(cell) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (10_240_000_000, "10.2 GB"), (3 * 10**15, "3000.0 TB")]
)
def test_sizes(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


def test_progress_off_a_terminal_is_a_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Copying tables", total=2) as advance:
        advance(1)
        advance(1)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "Copying tables\n")


def test_a_new_text_or_a_count_that_begins_anew_is_a_new_step(capsys: pytest.CaptureFixture[str]) -> None:
    with steps() as show:
        for text, done, total in (("Reading a", 0, 2), ("Reading a", 2, 2), ("Reading a", 0, 2), ("Reading a", 1, 2), ("Writing", 0, 0)):
            show(text, done, total)
    assert capsys.readouterr().err == "Reading a\nReading a\nWriting\n"


def test_progress_on_a_terminal_is_drawn_on_stderr_only() -> None:
    script = (
        "from recsplit.commands.output import progress\nwith progress('Copying tables', total=4) as advance: advance(4)\nprint('result')"
    )
    terminal, theirs = pty.openpty()
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=theirs, text=True, check=True, timeout=120)
    os.close(theirs)
    drawn = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert done.stdout == "result\n"
    assert "Copying tables" in drawn
    assert "100%" in drawn


@given(
    numbers=st.lists(st.integers(0, 10**9), min_size=1, max_size=12),
    texts=st.lists(st.text("abc ", min_size=1, max_size=60), min_size=1, max_size=3),
    width=st.integers(20, 120),
)
def test_on_a_narrow_terminal_a_table_goes_on_below_and_no_number_is_broken(numbers: list[int], texts: list[str], width: int) -> None:
    columns = ["name", *(f"n{place}" for place in range(len(numbers))), *(f"t{place}" for place in range(len(texts)))]
    row: list[str | int | float | None] = ["item", *numbers, *texts]
    parts = _parts(columns, [row], width)
    assert [place for part in parts for place in part[1:]] == list(range(1, len(columns)))
    assert all(part[0] == 0 for part in parts) and all(len(part) > 1 for part in parts)
    console = Console(width=width, file=io.StringIO(), color_system=None)
    for part in parts:
        console.print(_table([columns[place] for place in part], [[row[place] for place in part]], ""))
    assert isinstance(console.file, io.StringIO)
    words = console.file.getvalue().split()
    for number in numbers:
        assert cell_text(number) in words
