"""Every way a command can end is shown as one error, a hint and an exit code."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Run

# Runs the command line with a command of ours in the place of `inspect`.
WITH_COMMAND = """
import sys, types, errno, time, click
from recsplit import cli
from recsplit.errors import InputError, MissingExtra, RecsplitError

@click.command()
@click.option("--width", type=int)
def command(width):
    {body}

module = types.ModuleType("recsplit.commands.inspect")
module.command = command
sys.modules[module.__name__] = module
sys.exit(cli.main())
"""


def command_that(body: str, *arguments: str, before: tuple[str, ...] = (), **env: str) -> "subprocess.CompletedProcess[str]":
    script = WITH_COMMAND.format(body=body)
    command = [sys.executable, "-c", script, *before, "inspect", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | env, timeout=120, check=False)


@pytest.mark.parametrize(
    ("body", "code", "stderr"),
    [
        ("raise RecsplitError('it broke')", 1, "Error: it broke\n"),
        ("raise RecsplitError('it broke', hint='mend it')", 1, "Error: it broke\nHint: mend it\n"),
        (
            "raise RecsplitError('it broke', hint='mend it', detail='line 1\\nline 2\\n')",
            1,
            "Error: it broke\n    line 1\n    line 2\nHint: mend it\n",
        ),
        ("raise InputError('no such model', hint='check the path')", 2, "Error: no such model\nHint: check the path\n"),
        (
            "raise MissingExtra('torch', 'torch', 'a factory')",
            2,
            "Error: torch is not installed, and a factory needs it\nHint: pip install 'recsplit[torch]'\n",
        ),
        (
            "raise OSError(errno.ENOSPC, 'No space left on device', '/data/tables.bin')",
            1,
            "Error: /data/tables.bin: no space left on device\nHint: free some space on that disk, or write to another one\n",
        ),
        ("open('/nowhere/at/all')", 1, "Error: /nowhere/at/all: no such file or directory\nHint: check the path\n"),
        (
            "raise BrokenPipeError(errno.EPIPE, 'Broken pipe')",
            1,
            "Error: a process that recsplit was talking to went away\nHint: recsplit --traceback shows which one\n",
        ),
        ("raise MemoryError", 1, "Error: out of memory\nHint: use a machine with more memory, or a smaller --max-batch-size\n"),
        ("raise KeyboardInterrupt", 130, "\nError: interrupted\n"),
        (
            "raise click.UsageError('--a and --b exclude each other')",
            2,
            "Error: --a and --b exclude each other\nHint: recsplit inspect --help\n",
        ),
    ],
)
def test_an_error_is_a_sentence_a_hint_and_an_exit_code(body: str, code: int, stderr: str) -> None:
    done = command_that(body)
    assert (done.returncode, done.stderr, done.stdout) == (code, stderr, "")


def test_only_the_tail_of_a_long_detail_is_shown() -> None:
    done = command_that("raise RecsplitError('it broke', detail='\\n'.join(map(str, range(100))))")
    lines = done.stderr.splitlines()
    assert lines[1] == "    (60 earlier lines)"
    assert lines[2] == "    60"
    assert lines[-1] == "    99"


def test_a_bug_is_one_line_and_its_traceback_is_kept(tmp_path: Path) -> None:
    done = command_that("return {}['price']", TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert "Error: KeyError: 'price' (this is a bug in recsplit)" in done.stderr
    assert "Traceback" not in done.stderr
    (log,) = tmp_path.glob("recsplit-*.log")
    assert str(log) in done.stderr
    assert "return {}['price']" in log.read_text() or "KeyError: 'price'" in log.read_text()


def test_a_bug_on_a_full_disk_shows_its_traceback_instead() -> None:
    done = command_that("import tempfile; tempfile.tempdir = '/nowhere'; return {}['price']")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "report it with the traceback above" in done.stderr


@pytest.mark.parametrize(("before", "env"), [(("--traceback",), {}), ((), {"RECSPLIT_TRACEBACK": "1"})])
@pytest.mark.parametrize("body", ["raise RecsplitError('it broke') from ValueError('the cause')", "raise ValueError('the cause')"])
def test_the_traceback_is_shown_on_request(body: str, before: tuple[str, ...], env: dict[str, str]) -> None:
    done = command_that(body, before=before, **env)
    assert "Traceback (most recent call last)" in done.stderr
    assert "ValueError: the cause" in done.stderr
    assert "\nError: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["insect"], "there is no command 'insect'", "did you mean inspect?"),
        (["perf-dta"], "there is no command 'perf-dta'", "did you mean perf or perf-data?"),
        (["zzz"], "there is no command 'zzz'", "recsplit --help"),
        (["--verison"], "no such option '--verison'", "did you mean --version?"),
        (["completion", "--hlp"], "no such option '--hlp'", "did you mean --help?"),
        (["completion"], "missing argument '{bash|zsh|fish}'. Choose from:\n\tbash,\n\tzsh,\n\tfish", "recsplit completion --help"),
        (
            ["completion", "csh"],
            "invalid value for '{bash|zsh|fish}': 'csh' is not one of 'bash', 'zsh', 'fish'",
            "recsplit completion --help",
        ),
    ],
)
def test_a_mistyped_command_line_says_what_was_meant(run_recsplit: Run, arguments: list[str], error: str, hint: str) -> None:
    done = run_recsplit(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"Error: {error}\nHint: {hint}\n"


def test_an_option_can_come_from_the_environment() -> None:
    assert command_that("click.echo(width)", RECSPLIT_INSPECT_WIDTH="7").stdout == "7\n"
    wrong = command_that("click.echo(width)", RECSPLIT_INSPECT_WIDTH="wide")
    assert wrong.returncode == 2
    assert "'wide' is not a valid integer" in wrong.stderr


def test_an_interrupt_is_told_in_a_line() -> None:
    script = WITH_COMMAND.format(body="click.echo('ready'); time.sleep(60)")
    child = subprocess.Popen([sys.executable, "-c", script, "inspect"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=120)
    assert (child.returncode, stderr.strip()) == (130, "Error: interrupted")


def test_a_reader_that_goes_away_is_no_error() -> None:
    script = WITH_COMMAND.format(body="click.echo('x' * 1_000_000)")
    child = subprocess.Popen([sys.executable, "-c", script, "inspect"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == ""
    assert child.wait(120) == 1
    child.stderr.close()


def test_help_comes_at_once_since_it_imports_no_package_but_the_one_that_parses() -> None:
    script = (
        "import sys; before = set(sys.modules); import recsplit.cli; recsplit.cli.main(['--help']);"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "click recsplit"
