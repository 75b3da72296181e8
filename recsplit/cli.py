"""The command line: a group of lazily imported sub-commands, and the one place where errors are shown.

`recsplit --help` imports click and this module only; a command's module, and whatever it needs, is imported when
that command runs. Commands live in recsplit/commands/, one a module.

Exit codes: 0 done; 1 the work failed; 2 the input can't be used; 130 interrupted.
"""

import atexit
import difflib
import errno
import gc
import importlib
import os
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click
from click.shell_completion import CompletionItem

from recsplit.errors import RecsplitError, extras_by_package

#: Every command in the order of use, with the help it shows in `recsplit --help`. The command `perf-data` is
#: `command` in recsplit/commands/perf_data.py.
COMMANDS = {
    "zoo": "List the published models that recsplit brings along.",
    "inspect": "Show a model's lookups, and why a node is not one.",
    "build": "Cut a model, prove the parts, write a model repository.",
    "verify": "Prove again that source, parts and server answer alike.",
    "serve": "Run a model repository on a local Triton server.",
    "update": "Let a running server take the newest build.",
    "rollback": "Serve an earlier build again.",
    "route": "Put a router in front of several models.",
    "profile": "Measure what a build costs: latency by batch, memory, load time.",
    "perf-data": "Write valid random inputs for perf_analyzer.",
    "perf": "Measure a served model.",
    "backend": "Make the engine of native builds, here or for another Triton.",
    "render": "Write what runs a build on Kubernetes.",
    "simulate": "Tell from a profile how a load would be served.",
    "tune": "Find the settings that serve the most within the bound.",
    "forecast": "Back-test the controller's forecasters on a trace.",
    "access": "Count how often each row of each table is read.",
    "partition": "Cut tables by heat into shards that are served apart.",
    "control": "Keep a served repository at the right size.",
    "report": "Write an HTML report: cut, load, memory, prediction.",
    "demo": "Train, build, serve, verify and load a small model.",
    "completion": "Print a shell completion script.",
}

INTERRUPTED = 130
DETAIL_LINES = 40  # of a long detail (a log) only the tail is shown


class UnknownCommandError(click.UsageError):
    """There is no command of that name; `possibilities` are the nearest names, as in click.NoSuchOption."""

    def __init__(self, name: str, ctx: click.Context) -> None:
        super().__init__(f"there is no command {name!r}", ctx)
        self.possibilities = difflib.get_close_matches(name, COMMANDS)


class LazyGroup(click.Group):
    """A click group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return a command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module("recsplit.commands." + cmd_name.replace("-", "_"))
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` start with. Raises UnknownCommandError where there is none."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise UnknownCommandError(name, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands from the table, with no import."""
        with formatter.section("Commands, in the order of use"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names from the table, with no import."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; where asked to, print an error's traceback on its way out.

        Raises RecsplitError for a connection that broke, which click would take for a closed stdout and pass over in silence.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError as error:
            if _reader_is_gone():
                raise click.exceptions.Exit(1) from error
            raise RecsplitError("a process that recsplit was talking to went away", hint="recsplit --traceback shows which one") from error
        except KeyboardInterrupt as interrupt:
            from recsplit.commands.output import kept

            raise KeyboardInterrupt(kept(ctx)) from interrupt
        except Exception as error:
            if ctx.params["traceback"] and not isinstance(error, click.ClickException | click.exceptions.Exit | click.Abort):
                traceback.print_exception(error)
            raise


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"auto_envvar_prefix": "RECSPLIT", "help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every option can be set in the environment: RECSPLIT_BUILD_NAME=shop is `recsplit build --name shop`.",
)
@click.version_option(package_name="recsplit", message="%(prog)s %(version)s")
@click.option("--traceback", is_flag=True, help="Show the Python traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, traceback: bool) -> None:  # noqa: ARG001  (read by LazyGroup.invoke)
    """Cut a trained recommender into embedding and dense sub-models, prove that the parts answer as the
    whole did, and serve them on Triton.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments` (default: the process's) and return its exit code."""
    if arguments is None:
        _end_gently()
        collect_less()
        _open_closed_streams()
        if not _working_directory():
            return _show("the working directory is gone", hint="cd to a folder that exists", code=2)
    try:
        code = cli.main(arguments, prog_name="recsplit", standalone_mode=False)
    except click.UsageError as error:
        return _show(_usage_message(error), hint=_usage_hint(error), code=error.exit_code)
    except click.ClickException as error:
        return _show(error.format_message(), code=error.exit_code)
    except RecsplitError as error:
        return _show(str(error), detail=error.detail, hint=error.hint, code=error.exit_code)
    except (KeyboardInterrupt, click.Abort) as error:
        exec("")  # where it came inside another exec, as dataclasses call it, Python would still end by the signal, without a code
        told = str(error.__cause__ or "")  # click makes an Abort of it
        return _show(f"interrupted: {told}" if told else "interrupted", code=INTERRUPTED)
    except OSError as error:
        _give_up_stdout()
        return _show(_os_message(error), hint=_OS_HINTS.get(error.errno or 0, "recsplit --traceback shows where it happened"))
    except MemoryError:
        return _show("out of memory", hint="use a machine with more memory, or a smaller --max-batch-size")
    except Exception as error:
        if isinstance(error, ImportError) and not (error.name or "recsplit").startswith("recsplit"):
            package = (error.name or "").partition(".")[0]
            if isinstance(error, ModuleNotFoundError) and package in (extras := extras_by_package()):
                return _show(f"{package} is not installed, and this needs it", hint=f"pip install 'recsplit[{extras[package]}]'", code=2)
            return _show(
                f"importing {error.name} failed: {error}", hint="the installation is incomplete: pip install --force-reinstall recsplit"
            )
        return _show(f"{type(error).__name__}: {error} (this is a bug in recsplit)", hint=_keep_traceback(error))
    return code if isinstance(code, int) else 0


def collect_less() -> None:
    """Importing torch makes millions of objects that all stay: going through them again and again, and once more at the end, took
    a third of a small build's time."""
    gc.set_threshold(200_000, 20, 100)
    atexit.register(gc.freeze)


def _end_gently() -> None:
    """`kill`, systemd, CI and a closed terminal end a command as Ctrl-C does: what it was writing is cleared away."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, interrupt)


def _open_closed_streams() -> None:
    """What a shell closed with >&- is None in Python: what is written there goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (for the life of the process)


def _working_directory() -> bool:
    """Whether there is one: relative paths need it, and some libraries end the process where there is none."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _show(message: str, *, detail: str = "", hint: str = "", code: int = 1) -> int:
    """Write an error to stderr and return its exit code."""
    click.secho("Error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(message, err=True)
    lines = detail.rstrip().splitlines()
    if len(lines) > DETAIL_LINES:
        lines = [f"({len(lines) - DETAIL_LINES} earlier lines)", *lines[-DETAIL_LINES:]]
    for line in lines:
        click.echo(f"    {line}", err=True)
    if hint:
        click.secho("Hint: ", fg="cyan", bold=True, nl=False, err=True)
        click.echo(hint, err=True)
    return code


def _usage_message(error: click.UsageError) -> str:
    """click's sentence, begun and ended as ours are; its guesses go into the hint."""
    text = error.message if isinstance(error, click.NoSuchOption) else error.format_message()
    return text[:1].lower() + text[1:].rstrip(".")


def _usage_hint(error: click.UsageError) -> str:
    """The nearest names for a typo, else where to read on."""
    if isinstance(error, click.NoSuchOption | UnknownCommandError) and error.possibilities:
        return "did you mean " + " or ".join(sorted(error.possibilities)) + "?"
    return f"{error.ctx.command_path if error.ctx else 'recsplit'} --help"


_OS_HINTS = {
    errno.ENOSPC: "free some space on that disk, or write to another one",
    errno.EDQUOT: "free some of your quota on that disk, or write to another one",
    errno.EACCES: "check the owner and permissions, or choose another folder",
    errno.EPERM: "check the owner and permissions, or choose another folder",
    errno.EROFS: "choose a folder on a writable disk",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is a file",
    errno.EISDIR: "give the path of a file, not of a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "check the path: its links go in a circle",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
    errno.ENOMEM: "use a machine with more memory",
}


def _os_message(error: OSError) -> str:
    """What the operating system said, and about which file."""
    text = (error.strerror or str(error)).lower()
    name = error.filename2 or error.filename  # a copy that failed names its source first
    return f"{name}: {text}" if name is not None else text


def _give_up_stdout() -> None:
    """Where stdout can't be written (a full disk), point it elsewhere: the interpreter would try again at exit, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reader_is_gone() -> bool:
    """Whether stdout is the broken pipe (as in `recsplit ... | head`), rather than a connection of ours.

    If it is, stdout is pointed elsewhere, so that the interpreter has nothing to complain about at exit.
    """
    reader = select.poll()
    reader.register(sys.stdout, 0)
    gone = any(event & select.POLLERR for _, event in reader.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def _keep_traceback(error: Exception) -> str:
    """Save the traceback of an unexpected error, which may have come after minutes of work, and say where it is."""
    text = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile("w", prefix="recsplit-", suffix=".log", delete=False) as file:
            file.write(text)
    except OSError:
        click.echo(text, err=True)
        return "please report it with the traceback above"
    return f"please report it with the traceback in {file.name}; RECSPLIT_TRACEBACK=1 shows it at once"
