"""`recsplit backend`: recsplit's engine, made on this machine or for another Triton."""

import dataclasses
import shlex
from pathlib import Path

import click

from recsplit.commands.output import example, json_option, show_json, steps


@click.group(no_args_is_help=False)
def command() -> None:
    """Make the engine of --embedding-runtime native, here or for another Triton."""


@command.command(epilog=example("recsplit backend build"))
@json_option
def build(as_json: bool) -> None:
    """Compile the engine, where that wasn't done yet, with $CXX, c++, g++, clang++ or the wheel ziglang.

    `recsplit build` and `recsplit serve` do it themselves when they need it.
    """
    from recsplit.engine import compilation
    from recsplit.engine.exported import needed_glibc

    with steps() as show:
        engine = compilation.make(show)
    glibc = needed_glibc(engine.backend)
    if as_json:
        show_json({"backend": engine.backend, "library": engine.library, "glibc": glibc})
        return
    click.echo(f"{engine.backend}\nruns with glibc {glibc} and newer")


@command.command(epilog=example("recsplit backend export /tmp/engine"))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def export(folder: Path, as_json: bool) -> None:
    """Write what NVIDIA's container needs to serve a native build: the backend, and a Dockerfile that puts it in.

    With the wheel ziglang installed the library runs on systems older than this one.
    """
    from recsplit.engine.exported import export

    with steps() as show:
        written = export(folder, show)
    if as_json:
        show_json(dataclasses.asdict(written))
        return
    for path in written.files:
        click.echo(str(path))
    click.echo(f"runs with glibc {written.glibc} and newer")
    click.echo(f"Next: docker build --build-arg IMAGE=<NVIDIA's tritonserver> {shlex.quote(str(folder))}")
